"""Whether two folders hold one export."""

import os

from data import gfile
from data.files import read_bytes

_FINGERPRINT_FILE = "fingerprint.pb"


def is_same_export(first: str, second: str) -> bool:
    """Says whether two folders hold copies of one SavedModel, by the random number that TensorFlow gives each export.

    One that has none, as before TensorFlow 2.12, is no copy of any.
    """
    paths = [os.path.join(folder, _FINGERPRINT_FILE) for folder in (first, second)]
    return all(map(gfile.exists, paths)) and len({read_bytes(path) for path in paths}) == 1
