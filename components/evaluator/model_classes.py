"""The names of a model's classes, kept beside TFMA's results, which know indices only."""

import os
from collections.abc import Sequence

from data.json_files import find_json, write_json

CLASS_NAMES_FILE = "class_names.json"


def write_evaluation_classes(evaluation_uri: str, class_names: Sequence[str]) -> None:
    """Writes the class names into the folder of an evaluation."""
    write_json(os.path.join(evaluation_uri, CLASS_NAMES_FILE), list(class_names))


def read_evaluation_classes(evaluation_uri: str) -> list[str] | None:
    """Returns the class names of an evaluation, or None if it is not one of ours."""
    return find_json(os.path.join(evaluation_uri, CLASS_NAMES_FILE))
