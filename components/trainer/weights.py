"""Where the backbone's first weights come from: ImageNet's, a file, or none.

Needs no TensorFlow, but for a path: the command resolves the weights before it starts anything.
"""

import hashlib
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from components.trainer.backbones import BACKBONES, Backbone
from components.trainer.weights_file import match_layers, open_weights, read_layers, shorten
from data.errors import UserError


@dataclass(frozen=True)
class ResolvedWeights:
    """What `trainer.weights` came to.

    Attributes:
        kind: `imagenet`, `none`, or the path as the user gave it.
        path: the HDF5 file, None for `none`.
        sha256: hexadecimal, of the file's bytes; None for `none`.
        reason: why `auto` fell back to `none`, else None.
        head: the layers of a file's classification head.
    """

    kind: str
    path: str | None = None
    sha256: str | None = None
    reason: str | None = None
    head: tuple[str, ...] = ()


def keras_cache_dir() -> Path:
    """Returns the folder in which Keras keeps downloaded weights."""
    return Path("~/.keras/models").expanduser()


def resolve_weights(
    weights: str, backbone: str = "vgg16", timeout_seconds: float = 10.0, *, check_layers: bool = True
) -> ResolvedWeights:
    """Finds the weights that a setting names, downloading ImageNet's where they are not in Keras's cache.

    Args:
        weights: `imagenet`, `none`, `auto` or a path.
        backbone: a key of `BACKBONES`.
        timeout_seconds: for `imagenet`, how long the server may be silent; for `auto`, how long all may take.
        check_layers: whether the layers of a path are held against the backbone's, which is built for it in up to
            four seconds; whoever loads them into a model checks them there, and need not draw random numbers here.

    Returns:
        The weights; ImageNet's are checked by their hash.

    Raises:
        UserError: no such file, not the backbone's weights, or ImageNet's cannot be downloaded.
    """
    spec = BACKBONES[backbone]
    if weights == "none":
        return ResolvedWeights("none")
    if weights == "auto":
        try:
            path = _fetch_imagenet(spec, timeout_seconds, total_seconds=timeout_seconds)
        except OSError as error:
            return ResolvedWeights("none", reason=f"ImageNet's weights could not be had: {shorten(error)}")
        return ResolvedWeights("imagenet", str(path), _sha256(str(path)))
    if weights == "imagenet":
        try:
            path = _fetch_imagenet(spec, timeout_seconds, total_seconds=None)
        except OSError as error:
            raise UserError(
                f"trainer.weights is imagenet, but {spec.weights_url} could not be downloaded ({shorten(error)}); put "
                f"the file into {keras_cache_dir()}, or set trainer.weights to its path, or to none for random weights"
            ) from error
        return ResolvedWeights("imagenet", str(path), _sha256(str(path)))
    layers = read_layers(weights, spec.title)
    head = tuple(match_layers(layers, weights, spec.title, _find_shapes(backbone)).head) if check_layers else ()
    return ResolvedWeights(weights, weights, _sha256(weights), head=head)


def _find_shapes(backbone: str) -> dict[str, list[tuple[int, ...]]]:
    """Returns the shapes of the weights of each layer of a backbone."""
    from components.trainer.backbone_layers import backbone_shapes, make_backbone

    return backbone_shapes(make_backbone(backbone, BACKBONES[backbone].min_image_size))


def _fetch_imagenet(spec: Backbone, silence_seconds: float, total_seconds: float | None) -> Path:
    """Returns ImageNet's weights in Keras's cache, downloaded if they are not there or damaged.

    Raises:
        OSError: they could not be downloaded in time, or came damaged.
    """
    import pooch  # 0.2 s of import that only this way needs

    def download(url: str, output_file: IO[bytes] | str, _: Any) -> None:
        # Not pooch's own downloader: it reads whole megabytes, so that a slow line would not be noticed in time.
        deadline = None if total_seconds is None else time.monotonic() + total_seconds
        with urllib.request.urlopen(url, timeout=silence_seconds) as response, open(str(output_file), "wb") as file:
            while chunk := response.read1(2**20):
                file.write(chunk)
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError(f"not complete after {total_seconds:g} s")

    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(
            pooch.retrieve(
                spec.weights_url,
                known_hash=spec.weights_hash,
                fname=spec.weights_url.rpartition("/")[2],
                path=keras_cache_dir(),
                downloader=download,
            )
        )
    except ValueError as error:  # pooch's word for a wrong checksum
        raise OSError("the download is damaged: its checksum is not that of Keras") from error


def _sha256(path: str) -> str:
    """Returns the hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with open_weights(path) as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
