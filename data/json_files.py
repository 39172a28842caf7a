"""JSON files on this machine and in a bucket; TensorFlow is imported where it must be: it takes seconds."""

import json
import math
import os
from pathlib import Path
from typing import Any


def write_json(path: str, content: Any) -> None:
    """Writes a file whole or not at all: readers see the old one or the new one, never a part; makes its folder."""
    text, part = json.dumps(content, indent=2, ensure_ascii=False) + "\n", f"{path}.{os.getpid()}.tmp"
    if "://" not in path:
        Path(part).parent.mkdir(parents=True, exist_ok=True)
        Path(part).write_text(text, encoding="utf-8")
        os.replace(part, path)
        return
    import tensorflow as tf

    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(part, "w") as file:
        file.write(text)
    tf.io.gfile.rename(part, path, overwrite=True)


def read_json(path: str) -> Any:
    """Returns the content of a file.

    Raises:
        tf.errors.NotFoundError: there is none.
    """
    if os.path.isfile(path):
        with open(path, "rb") as local:
            return json.loads(local.read())
    import tensorflow as tf

    with tf.io.gfile.GFile(path, "rb") as file:
        return json.loads(file.read())


def find_json(path: str) -> Any:
    """Returns the content of a file, or None where there is none."""
    import tensorflow as tf

    try:
        return read_json(path)
    except tf.errors.NotFoundError:
        return None


def without_numbers_beyond_json(value: Any) -> Any:
    """Returns a copy of plain values in which NaN and infinities are None: JSON has no such numbers."""
    if isinstance(value, dict):
        return {key: without_numbers_beyond_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_numbers_beyond_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
