"""The weights of an exported model: their keys in its checkpoint, and the one way to read them."""

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf


class UnreadableWeights(ValueError):
    """The SavedModel's checkpoint does not hold the weights of the model that it should."""


def weight_key(variable: tf.Variable) -> str:
    """Returns the name of a model's variable in the export, e.g. `block1_conv1_kernel`; the same in every process."""
    return variable.name.partition(":")[0].replace("/", "_")


def read_weights(saved_model_path: str, keys: Iterable[str]) -> list[np.ndarray]:
    """Reads weights from a SavedModel's files: nothing of it runs, and nothing is unpickled.

    Args:
        saved_model_path: local or remote folder of an export.
        keys: from `weight_key`.

    Raises:
        UnreadableWeights: one is missing.
    """
    reader, arrays = _open(saved_model_path), []
    for key in keys:
        # TensorFlow doubles the dots of a name, since a single one begins a word of its own (`escape_local_name`).
        stored = f"weights/{key.replace('.', '..')}/.ATTRIBUTES/VARIABLE_VALUE"
        if not reader.has_tensor(stored):
            raise UnreadableWeights(f"the weight {key} is missing")
        arrays.append(reader.get_tensor(stored))
    return arrays


def read_parts(saved_model_path: str, holder: str, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Reads what a SavedModel holds beside its weights, by name; empty where it does not hold all of it.

    Args:
        saved_model_path: local or remote folder of an export.
        holder: the attribute of the saved module, a dictionary of variables.
        names: its keys.
    """
    reader = _open(saved_model_path)
    stored = {name: f"{holder}/{name}/.ATTRIBUTES/VARIABLE_VALUE" for name in names}
    if not all(map(reader.has_tensor, stored.values())):
        return {}
    return {name: reader.get_tensor(key) for name, key in stored.items()}


def _open(saved_model_path: str) -> Any:
    folder = os.path.join(saved_model_path, tf.saved_model.VARIABLES_DIRECTORY)
    return tf.train.load_checkpoint(os.path.join(folder, tf.saved_model.VARIABLES_FILENAME))
