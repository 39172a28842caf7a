"""Files that appear whole or not at all, on this machine and in a bucket."""

import os
from pathlib import Path


def write_text(path: str, text: str) -> None:
    """Writes a text in UTF-8 as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: str, content: bytes) -> None:
    """Writes a file: readers see the old one or the new one, never a part; makes its folder.

    Raises:
        OSError, tf.errors.OpError: it cannot be written.
    """
    part = f"{path}.{os.getpid()}.tmp"
    if "://" not in path:
        Path(part).parent.mkdir(parents=True, exist_ok=True)
        Path(part).write_bytes(content)
        os.replace(part, path)
        return
    import tensorflow as tf  # Here: it takes seconds.

    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(part, "wb") as file:
        file.write(content)
    tf.io.gfile.rename(part, path, overwrite=True)
