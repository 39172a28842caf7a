"""Where the backbone's first weights come from: ImageNet's, a file, or none.

Needs no TensorFlow, but for a `gs://` path: the command resolves the weights before it starts anything.
"""

import hashlib
import io
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from data.errors import UserError

# Those of `tf_keras.applications.vgg16`, whose import takes seconds; a test holds the two together.
IMAGENET_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
    "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
IMAGENET_MD5 = "6d6bbae143d832006294945121d1f1fc"

# Simonyan & Zisserman 2014, configuration D: 3 x 3 convolutions in a block, and their filters.
_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


@dataclass(frozen=True)
class ResolvedWeights:
    """What `trainer.weights` came to.

    Attributes:
        kind: `imagenet`, `none`, or the path as the user gave it.
        path: the HDF5 file, None for `none`.
        sha256: hexadecimal, of the file's bytes; None for `none`.
        reason: why `auto` fell back to `none`, else None.
    """

    kind: str
    path: str | None = None
    sha256: str | None = None
    reason: str | None = None


def keras_cache_dir() -> Path:
    """Returns the folder in which Keras keeps downloaded weights."""
    return Path("~/.keras/models").expanduser()


def resolve_weights(weights: str, timeout_seconds: float = 10.0) -> ResolvedWeights:
    """Finds the weights that a setting names, downloading ImageNet's where they are not in Keras's cache.

    Args:
        weights: `imagenet`, `none`, `auto` or a path.
        timeout_seconds: for `imagenet`, how long the server may be silent; for `auto`, how long all may take.

    Returns:
        The weights, checked to be VGG16's.

    Raises:
        UserError: no such file, not VGG16's weights, or ImageNet's cannot be downloaded.
    """
    if weights == "none":
        return ResolvedWeights("none")
    if weights == "auto":
        try:
            path = _fetch_imagenet(timeout_seconds, total_seconds=timeout_seconds)
        except OSError as error:
            return ResolvedWeights("none", reason=f"ImageNet's weights could not be had: {_short(error)}")
        return ResolvedWeights("imagenet", str(path), _sha256(str(path)))
    if weights == "imagenet":
        try:
            path = _fetch_imagenet(timeout_seconds, total_seconds=None)
        except OSError as error:
            raise UserError(
                f"trainer.weights is imagenet, but {IMAGENET_URL} could not be downloaded ({_short(error)}); put the "
                f"file into {keras_cache_dir()}, or set trainer.weights to its path, or to none for random weights"
            ) from error
        return ResolvedWeights("imagenet", str(path), _sha256(str(path)))
    read_backbone_weights(weights)
    return ResolvedWeights(weights, weights, _sha256(weights))


def backbone_shapes() -> dict[str, tuple[int, ...]]:
    """Returns the kernel shape [3, 3, input channels, filters] of each convolution of VGG16, by layer name."""
    shapes: dict[str, tuple[int, ...]] = {}
    channels = 3
    for block, (convolutions, filters) in enumerate(_BLOCKS, start=1):
        for convolution in range(1, convolutions + 1):
            shapes[f"block{block}_conv{convolution}"] = (3, 3, channels, filters)
            channels = filters
    return shapes


def read_backbone_weights(path: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Reads VGG16's convolutions from a Keras 2 HDF5 file (of weights, or of a whole flat model).

    Args:
        path: local or `gs://`.

    Returns:
        Layer name to (kernel float32 [3, 3, input channels, filters], bias float32 [filters]).

    Raises:
        UserError: no such file, not HDF5, or a layer is missing or of another shape.
    """
    allowed = "set trainer.weights to imagenet, none or VGG16's weights as Keras 2 saves them in HDF5"
    try:
        with _open(path) as file, h5py.File(file, "r") as saved:
            layers = saved["model_weights"] if "model_weights" in saved else saved
            found = {name: _read_layer(layers, name) for name in backbone_shapes()}
    except FileNotFoundError as error:
        raise UserError(f"trainer.weights is {path}: there is no such file; {allowed}") from error
    except OSError as error:
        raise UserError(f"trainer.weights is {path}, which cannot be read as HDF5 ({_short(error)}); {allowed}") from error
    weights = {}
    for name, shape in backbone_shapes().items():
        arrays = found[name]
        shapes = [array.shape for array in arrays]
        if shapes != [shape, shape[-1:]]:
            what = f"shapes {shapes}" if arrays else "no such layer"
            raise UserError(
                f"trainer.weights is {path}, of another architecture: VGG16's layer {name} has the shapes "
                f"{[shape, shape[-1:]]}, the file has {what}; {allowed}"
            )
        weights[name] = (arrays[0], arrays[1])
    return weights


def _read_layer(layers: Any, name: str) -> list[np.ndarray]:
    """Returns the arrays of a layer in Keras's order, or none where the file does not have it."""
    if name not in layers or "weight_names" not in layers[name].attrs:
        return []
    group = layers[name]
    return [np.asarray(group[key], np.float32) for key in group.attrs["weight_names"]]


def _fetch_imagenet(silence_seconds: float, total_seconds: float | None) -> Path:
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
                IMAGENET_URL,
                known_hash=f"md5:{IMAGENET_MD5}",
                fname=IMAGENET_URL.rpartition("/")[2],
                path=keras_cache_dir(),
                downloader=download,
            )
        )
    except ValueError as error:  # pooch's word for a wrong checksum
        raise OSError("the download is damaged: its MD5 is not that of Keras") from error


def _open(path: str) -> IO[bytes]:
    """Opens a local or remote file for random access."""
    if "://" not in path:
        return open(path, "rb")
    import tensorflow as tf

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return io.BytesIO(file.read())
    except tf.errors.NotFoundError as error:
        raise FileNotFoundError(path) from error


def _sha256(path: str) -> str:
    """Returns the hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with _open(path) as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def _short(error: BaseException) -> str:
    """Returns an error's first words on one line: `requests` wraps the reason three times over."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else f"{type(error).__name__}: {text[:140]}..."
