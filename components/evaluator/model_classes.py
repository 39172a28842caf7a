"""The names of a model's classes: read from its files, and kept beside TFMA's results, which know indices only.

TensorFlow is imported where files are touched: who reads no file, such as `--help`, does not wait for it.
"""

import json
import os
from collections.abc import Sequence

CLASS_NAMES_FILE = "class_names.json"
_VOCABULARY_ASSET = "label"


def read_model_classes(saved_model_path: str) -> list[str]:
    """Returns the class names of a SavedModel in the order of its probabilities, without loading it.

    They are the vocabulary of Transform's graph, which the model carries as an asset, one name a line. Neither the
    number of classes nor their names need be known before a run, so the pipeline itself holds nothing of the kind.

    Args:
        saved_model_path: local or remote folder that holds `saved_model.pb`.

    Raises:
        ValueError: the model has no such asset.
    """
    import tensorflow as tf

    path = os.path.join(saved_model_path, tf.saved_model.ASSETS_DIRECTORY, _VOCABULARY_ASSET)
    if not tf.io.gfile.exists(path):
        raise ValueError(f"{saved_model_path} has no asset {_VOCABULARY_ASSET!r}, which would name its classes")
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read().decode("utf-8").removesuffix("\n").split("\n")


def write_evaluation_classes(evaluation_uri: str, class_names: Sequence[str]) -> None:
    """Writes the class names into the folder of an evaluation."""
    import tensorflow as tf

    with tf.io.gfile.GFile(os.path.join(evaluation_uri, CLASS_NAMES_FILE), "wb") as file:
        file.write(json.dumps(list(class_names), ensure_ascii=False).encode("utf-8"))


def read_evaluation_classes(evaluation_uri: str) -> list[str] | None:
    """Returns the class names of an evaluation, or None if it is not one of ours."""
    import tensorflow as tf

    path = os.path.join(evaluation_uri, CLASS_NAMES_FILE)
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path, "rb") as file:
        return json.loads(file.read())
