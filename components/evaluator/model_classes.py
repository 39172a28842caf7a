"""The classes of an exported model, read from its files without loading it."""

import os

import tensorflow as tf

from components.transform.features import LABEL_VOCABULARY


def read_class_names(saved_model_path: str) -> list[str]:
    """Returns the class names of a SavedModel in the order of its probabilities.

    They are the vocabulary of Transform's graph, which the model carries as an asset, one name a line. The number
    of classes need not be known before a run, nor their names, so that nothing of the kind is in the pipeline itself.

    Args:
        saved_model_path: local or remote folder that holds `saved_model.pb`.

    Raises:
        ValueError: the model has no such asset.
    """
    path = os.path.join(saved_model_path, tf.saved_model.ASSETS_DIRECTORY, LABEL_VOCABULARY)
    if not tf.io.gfile.exists(path):
        raise ValueError(f"{saved_model_path} has no asset {LABEL_VOCABULARY!r} with its class names")
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read().decode("utf-8").removesuffix("\n").split("\n")
