"""VGG16's weights in a Keras HDF5 file, read without Keras and checked layer by layer."""

import io
from typing import IO, Any

import h5py
import numpy as np

from data.errors import UserError

# Simonyan & Zisserman 2014, configuration D: 3 x 3 convolutions in a block, and their filters.
_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


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
        with open_weights(path) as file, h5py.File(file, "r") as saved:
            layers = saved.get("model_weights", saved)  # the latter in a file of weights alone
            found = {name: _read_layer(layers, name) for name in backbone_shapes()}
    except FileNotFoundError as error:
        raise UserError(f"trainer.weights is {path}: there is no such file; {allowed}") from error
    except OSError as error:
        raise UserError(
            f"trainer.weights is {path}, which cannot be read as HDF5 ({shorten(error)}); {allowed}"
        ) from error
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


def open_weights(path: str) -> IO[bytes]:
    """Opens a local or remote file for random access."""
    if "://" not in path:
        return open(path, "rb")
    import tensorflow as tf

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return io.BytesIO(file.read())
    except tf.errors.NotFoundError as error:
        raise FileNotFoundError(path) from error


def shorten(error: BaseException) -> str:
    """Returns an error's first words on one line: `requests` wraps the reason three times over."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else f"{type(error).__name__}: {text[:140]}..."
