"""The weights of an exported model: their keys in its checkpoint, and the one way to read them."""

import os
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from components.exported_model.manifest import Manifest
from components.trainer.model import ImageClassifier, make_model


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


def load_classifier(saved_model_path: str, manifest: Manifest) -> ImageClassifier:
    """Rebuilds an exported model in Keras, computing in float32: its signatures give no gradients, nor parts of it.

    Raises:
        UnreadableWeights: its weights are not those of what its manifest says that it is.
    """
    model = make_model(
        len(manifest.classes),
        manifest.image_size,
        dropout=0.0,
        precision="float32",
        backbone=manifest.backbone,
        pooling=manifest.pooling,
    )
    arrays = read_weights(saved_model_path, map(weight_key, model.weights))
    for variable, array in zip(model.weights, arrays, strict=True):
        if array.shape != tuple(variable.shape):
            raise UnreadableWeights(
                f"the weight {weight_key(variable)} has the shape {list(array.shape)}; "
                f"{variable.shape.as_list()} was expected"
            )
    model.set_weights(arrays)
    return model
