"""Files that appear whole or not at all, on this machine and in a bucket."""

import os
from pathlib import Path

from data import gfile


def write_text(path: str, text: str) -> None:
    """Writes a text in UTF-8 as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: str, content: bytes) -> None:
    """Writes a file: readers see the old one or the new one, never a part; makes its folder.

    Raises:
        OSError, tf.errors.OpError, UserError (S3): it cannot be written.
    """
    part = f"{path}.{os.getpid()}.tmp"
    if "://" not in path:
        Path(part).parent.mkdir(parents=True, exist_ok=True)
        Path(part).write_bytes(content)
        os.replace(part, path)
        return
    if gfile.is_s3(path):  # which has no other way, and no renaming
        gfile.write_bytes(path, content)
        return
    import tensorflow as tf  # Here: it takes seconds.

    gfile.makedirs(os.path.dirname(path))
    gfile.write_bytes(part, content)
    tf.io.gfile.rename(part, path, overwrite=True)
