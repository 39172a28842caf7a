"""The names of a model's classes, kept beside TFMA's results, which know indices only.

TensorFlow is imported where files are touched: who reads no file, such as `--help`, does not wait for it.
"""

import json
import os
from collections.abc import Sequence

CLASS_NAMES_FILE = "class_names.json"


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
