"""Where the backbone's first weights come from: ImageNet's, a file, or none.

Needs no TensorFlow, but for a path: the command resolves the weights before it starts anything.
"""

import hashlib
import http.client
import os
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from components.trainer.backbones import BACKBONES, Backbone
from components.trainer.weights_file import match_layers, open_weights, read_layers, shorten
from data.errors import UserError

WEIGHTS_DIR_KEY = "weights_dir"
"""Of the Trainer's `custom_config` on Vertex AI: the folder that may hold ImageNet's weights, from a mirror."""

_CHUNK_BYTES = 2**20


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
    home = os.path.expanduser("~")  # Itself where there is none; Keras takes the place for temporary files, too.
    return Path(home if os.path.isabs(home) else tempfile.gettempdir(), ".keras", "models")


def resolve_weights(
    weights: str,
    backbone: str = "vgg16",
    timeout_seconds: float = 10.0,
    *,
    check_layers: bool = True,
    mirror: str | None = None,
) -> ResolvedWeights:
    """Finds the weights that a setting names, downloading ImageNet's where they are not in Keras's cache.

    Args:
        weights: `imagenet`, `none`, `auto` or a path.
        backbone: a key of `BACKBONES`.
        timeout_seconds: for `imagenet`, how long the server may be silent; for `auto`, how long all may take.
        check_layers: whether the layers of a path are held against the backbone's, which is built for it in up to
            four seconds; whoever loads them into a model checks them there, and need not draw random numbers here.
        mirror: `trainer.weights_mirror`: the folder to download ImageNet's weights from, None for Keras's own address.

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
            path = _fetch_imagenet(spec, timeout_seconds, total_seconds=timeout_seconds, mirror=mirror)
        except OSError as error:
            where = f" from {mirror}" if mirror else ""
            return ResolvedWeights("none", reason=f"ImageNet's weights could not be had{where}: {shorten(error)}")
        return ResolvedWeights("imagenet", str(path), _digest(str(path)))
    if weights == "imagenet":
        try:
            path = _fetch_imagenet(spec, timeout_seconds, total_seconds=None, mirror=mirror)
        except OSError as error:
            if mirror:
                way = f"put Keras's file of that name there ({spec.weights_url}), or into {keras_cache_dir()}"
            else:
                way = f"put the file into {keras_cache_dir()}"
            raise UserError(
                f"trainer.weights is imagenet, but {_address(spec, mirror)} could not be downloaded ({shorten(error)});"
                f" {way}, or set trainer.weights to its path, or to none for random weights, or trainer.weights_mirror "
                f"to {'another' if mirror else 'a'} folder that holds it"
            ) from error
        return ResolvedWeights("imagenet", str(path), _digest(str(path)))
    layers = read_layers(weights, spec.title)
    head = tuple(match_layers(layers, weights, spec.title, _find_shapes(backbone)).head) if check_layers else ()
    return ResolvedWeights(weights, weights, _digest(weights), head=head)


def _find_shapes(backbone: str) -> dict[str, list[tuple[int, ...]]]:
    """Returns the shapes of the weights of each layer of a backbone."""
    from components.trainer.backbone_layers import backbone_shapes, make_backbone

    return backbone_shapes(make_backbone(backbone, BACKBONES[backbone].min_image_size))


def keep_imagenet(backbone: str, mirror: str, weights_dir: str) -> None:
    """Copies ImageNet's weights from a mirror into a local or remote folder, unless they are there, whole.

    Raises:
        UserError: they cannot be downloaded, or are not Keras's.
    """
    import tensorflow as tf

    spec = BACKBONES[backbone]
    kept = _address(spec, weights_dir)
    algorithm, _, wanted = spec.weights_hash.partition(":")
    if tf.io.gfile.exists(kept) and _digest(kept, algorithm) == wanted:
        return
    path = resolve_weights("imagenet", backbone, mirror=mirror).path
    tf.io.gfile.makedirs(weights_dir)
    temporary = f"{kept}.{uuid.uuid4().hex}"  # another run may be at it, and a Trainer must not read half of it
    tf.io.gfile.copy(path, temporary)
    tf.io.gfile.rename(temporary, kept, overwrite=True)


def kept_imagenet(backbone: str, weights_dir: str | None) -> str | None:
    """Returns the folder as a mirror to download from, if it holds the backbone's file."""
    if weights_dir is None:
        return None
    import tensorflow as tf

    return weights_dir if tf.io.gfile.exists(_address(BACKBONES[backbone], weights_dir)) else None


def _address(spec: Backbone, mirror: str | None) -> str:
    """Returns where ImageNet's weights are downloaded from: a mirror holds Keras's files under their own names."""
    return f"{mirror.rstrip('/')}/{spec.weights_file}" if mirror else spec.weights_url


def _fetch_imagenet(spec: Backbone, silence_seconds: float, total_seconds: float | None, mirror: str | None) -> Path:
    """Returns ImageNet's weights in Keras's cache, downloaded if they are not there or damaged.

    Raises:
        OSError: they could not be downloaded in time, or came damaged.
    """
    import pooch  # 0.2 s of import that only this way needs

    def download(url: str, output_file: IO[bytes] | str, _: Any) -> None:
        # Not pooch's own downloader: it reads whole megabytes, so that a slow line would not be noticed in time.
        deadline = None if total_seconds is None else time.monotonic() + total_seconds
        with open(str(output_file), "wb") as file:
            for chunk in _read_address(url, silence_seconds):
                file.write(chunk)
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError(f"not complete after {total_seconds:g} s")

    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(
            pooch.retrieve(
                _address(spec, mirror),
                known_hash=spec.weights_hash,
                fname=spec.weights_file,
                path=keras_cache_dir(),
                downloader=download,
            )
        )
    except ValueError as error:  # pooch's word for a wrong checksum
        raise OSError("the download is damaged: its checksum is not that of Keras") from error


def _read_address(url: str, silence_seconds: float) -> Iterator[bytes]:
    """Yields what lies at an address, `https`, `http` and `file` by Python's own client, all others by TensorFlow's.

    Raises:
        OSError: it cannot be read, for whatever reason.
    """
    if url.startswith(("https://", "http://", "file://")):
        try:
            with urllib.request.urlopen(url, timeout=silence_seconds) as response:
                while chunk := response.read1(_CHUNK_BYTES):
                    yield chunk
        except http.client.HTTPException as error:  # an answer that is no HTTP, or a port that is no number
            raise OSError(f"{type(error).__name__}: {error}") from error
        return
    import tensorflow as tf

    try:
        with tf.io.gfile.GFile(url, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


def _digest(path: str, algorithm: str = "sha256") -> str:
    """Returns a file's hexadecimal hash."""
    digest = hashlib.new(algorithm)
    with open_weights(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
