"""What later nodes read of the summary that ImageExampleGen leaves."""

import os
from collections.abc import Iterable

from components.image_example_gen import SUMMARY_FILE
from data.json_files import find_json


def count_images(examples_uri: str, splits: Iterable[str]) -> int | None:
    """Returns how many images splits have together; None where ImageExampleGen has not made them."""
    summary = find_json(os.path.join(examples_uri, SUMMARY_FILE))
    return sum(sum(summary["counts"][split].values()) for split in splits) if summary else None
