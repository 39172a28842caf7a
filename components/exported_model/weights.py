"""The weights of an exported model: their keys in its checkpoint, and the one way to read them."""

import os
from collections.abc import Iterable

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
    folder = os.path.join(saved_model_path, tf.saved_model.VARIABLES_DIRECTORY)
    reader = tf.train.load_checkpoint(os.path.join(folder, tf.saved_model.VARIABLES_FILENAME))
    arrays = []
    for key in keys:
        # TensorFlow doubles the dots of a name, since a single one begins a word of its own (`escape_local_name`).
        stored = f"weights/{key.replace('.', '..')}/.ATTRIBUTES/VARIABLE_VALUE"
        if not reader.has_tensor(stored):
            raise UnreadableWeights(f"the weight {key} is missing")
        arrays.append(reader.get_tensor(stored))
    return arrays
