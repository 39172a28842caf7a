"""JSON files on this machine and in a bucket; TensorFlow is imported where it must be: it takes seconds."""

import json
import math
import os
from typing import Any

from data import gfile
from data.whole_files import write_text


def write_json(path: str, content: Any) -> None:
    """Writes a file as `write_text` does."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str) -> Any:
    """Returns the content of a file.

    Raises:
        tf.errors.NotFoundError: there is none.
    """
    if os.path.isfile(path):
        with open(path, "rb") as local:
            return json.loads(local.read())
    return json.loads(gfile.read_bytes(path))


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
