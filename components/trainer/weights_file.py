"""A backbone's weights in a Keras HDF5 file, read without Keras and checked layer by layer."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

import h5py
import numpy as np

from data.errors import UserError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class SavedWeights:
    """What a file holds for a backbone.

    Attributes:
        arrays: layer name to its weights, float32, in Keras's order.
        head: the same of the layers with weights behind the backbone: another classifier's head.
    """

    arrays: dict[str, list[np.ndarray]]
    head: dict[str, list[np.ndarray]]

    @property
    def head_classes(self) -> int | None:
        """Outputs of the head's last layer; None where there is no head."""
        return int(list(self.head.values())[-1][-1].shape[-1]) if self.head else None


def read_layers(path: str, title: str) -> dict[str, list[np.ndarray]]:
    """Reads a Keras 2 HDF5 file (of weights, or of a whole flat model).

    Args:
        path: local or `gs://`.
        title: the name of the backbone that is asked for.

    Returns:
        The weights, float32, of the layers that have some, in the file's order; none where it is not Keras 2's.

    Raises:
        UserError: no such file, one that cannot be read, or not HDF5.
    """
    layers: dict[str, list[np.ndarray]] = {}
    try:
        with open_weights(path) as file, h5py.File(file, "r") as saved:
            group = saved.get("model_weights", saved)  # the latter in a file of weights alone
            for name in map(_decode, group.attrs.get("layer_names", ())):
                keys = [_decode(key) for key in group[name].attrs["weight_names"]]
                if keys:
                    layers[name] = [np.asarray(group[name][key], np.float32) for key in keys]
    except FileNotFoundError as error:
        raise UserError(f"trainer.weights is {path}: there is no such file; {_allowed(title)}") from error
    except (OSError, KeyError) as error:
        raise UserError(
            f"trainer.weights is {path}, which cannot be read as HDF5 ({shorten(error)}); {_allowed(title)}"
        ) from error
    return layers


def match_layers(
    layers: Mapping[str, list[np.ndarray]], path: str, title: str, shapes: Mapping[str, Sequence[Shape]]
) -> SavedWeights:
    """Finds a backbone's weights among those of a file, and a head behind it.

    Like Keras's `load_weights`, it goes by the order of the layers and not by their names, some of which Keras makes
    up.

    Args:
        layers: what `read_layers` found in `path`.
        path: for messages.
        title: the backbone's name in messages.
        shapes: those of `components.trainer.backbone_layers.backbone_shapes`.

    Raises:
        UserError: they are not the layers of this backbone.
    """
    first = next(iter(shapes))
    skipped = list(layers).index(first) if first in layers else 0  # layers before the backbone, as for normalisation
    found = list(layers.items())[skipped:]
    difference = _find_difference(shapes, found)
    if difference:
        raise UserError(
            f"trainer.weights is {path}, of another architecture than {title}: {difference}; {_allowed(title)}"
        )
    arrays = {name: weights for name, (_, weights) in zip(shapes, found, strict=False)}
    return SavedWeights(arrays, dict(found[len(shapes) :]))


def _allowed(title: str) -> str:
    return f"set trainer.weights to imagenet, none or {title}'s weights as Keras 2 saves them in HDF5"


def _decode(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _find_difference(
    shapes: Mapping[str, Sequence[Shape]], layers: Sequence[tuple[str, Sequence[np.ndarray]]]
) -> str | None:
    """Tells in words where a file's layers first differ from a backbone's, or None if they begin with them."""
    if not layers:
        return "the file has no layers with weights in the layout of Keras 2"
    total = f"{len(layers)} layers with weights, {layers[0][0]} to {layers[-1][0]}"
    for position, (name, expected) in enumerate(shapes.items()):
        if position == len(layers):
            return f"layer {name} is missing; the file has {total}"
        there, arrays = layers[position]
        if [array.shape for array in arrays] != list(expected):
            return (
                f"its layer {name} has the shapes {_show(expected)}, in its place the file has {there} with the "
                f"shapes {_show([array.shape for array in arrays])}, and {total}"
            )
    return None


def _show(shapes: Sequence[Shape]) -> str:
    shown = ["x".join(map(str, shape)) or "scalar" for shape in shapes]
    return ", ".join(shown if len(shown) <= 4 else [*shown[:4], f"{len(shown) - 4} more"])


def open_weights(path: str) -> IO[bytes]:
    """Opens a local or remote file for random access.

    Raises:
        OSError: it cannot be read, for whatever reason; FileNotFoundError where it is not there.
    """
    if "://" not in path:
        return open(path, "rb")
    import tensorflow as tf

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return io.BytesIO(file.read())
    except tf.errors.NotFoundError as error:
        raise FileNotFoundError(path) from error
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


def shorten(error: BaseException) -> str:
    """Returns an error's first words on one line: `requests` wraps the reason three times over."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else f"{type(error).__name__}: {text[:140]}..."
