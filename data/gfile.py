"""What `tf.io.gfile` does, for `s3://` too, which TensorFlow has no file system for.

Only what is read or written in a place that a user names goes through here: artifacts lie where TFX writes them.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from data.errors import UserError


def is_s3(path: str) -> bool:
    """Says whether a path names a place in S3."""
    return path.startswith("s3://")


def _of(path: str) -> Any:
    """Returns what has these functions; imported here: each takes its time, and Amazon's client need not be there."""
    if is_s3(path):
        from data.amazon_s3 import objects

        return objects
    import tensorflow as tf

    return tf.io.gfile


def exists(path: str) -> bool:
    """As `tf.io.gfile.exists`."""
    return bool(_of(path).exists(path))


def isdir(path: str) -> bool:
    """As `tf.io.gfile.isdir`."""
    return bool(_of(path).isdir(path))


def stat(path: str) -> Any:
    """As `tf.io.gfile.stat`: `length`, `mtime_nsec`, `is_directory`."""
    return _of(path).stat(path)


def listdir(path: str) -> list[str]:
    """As `tf.io.gfile.listdir`."""
    return list(_of(path).listdir(path))


def list_folders(path: str) -> Iterator[str]:
    """Yields the names of the folders in a folder: of S3, one listing tells all of them."""
    for name in listdir(path):
        if name.endswith("/") if is_s3(path) else isdir(os.path.join(path, name)):
            yield name.rstrip("/")


def list_below(path: str) -> Iterator[tuple[str, int, int]]:
    """Yields path from there, bytes and time, in nanoseconds, of all files below a folder."""
    if is_s3(path):
        yield from _of(path).list_below(path)
        return
    root = path.rstrip("/") + "/"
    for folder, _, names in _of(path).walk(path):
        for name in names:
            status = stat(file := f"{folder.rstrip('/')}/{name}")
            yield file.removeprefix(root), status.length, status.mtime_nsec


def glob(pattern: str) -> list[str]:
    """As `tf.io.gfile.glob`."""
    return list(_of(pattern).glob(pattern))


def glob_files(pattern: str) -> list[tuple[str, int, int]]:
    """Returns path, bytes and time, in nanoseconds, of the files that match, by path."""
    if is_s3(pattern):
        return list(_of(pattern).glob_files(pattern))
    files = [(path, stat(path)) for path in sorted(glob(pattern))]
    return [(path, status.length, status.mtime_nsec) for path, status in files if not status.is_directory]


def open_binary(path: str) -> Any:
    """Opens a file for reading: bytes, lines, from anywhere in it."""
    return _of(path).open_binary(path) if is_s3(path) else _of(path).GFile(path, "rb")


def read_bytes(path: str) -> bytes:
    """Returns a file's bytes."""
    if is_s3(path):
        return bytes(_of(path).read_bytes(path))
    with open_binary(path) as file:
        return bytes(file.read())


def write_bytes(path: str, content: bytes) -> None:
    """Writes a file; of S3 alone it appears whole or not at all."""
    if is_s3(path):
        _of(path).write_bytes(path, content)
        return
    with _of(path).GFile(path, "wb") as file:
        file.write(content)


def copy(source: str, target: str) -> None:
    """Copies a file over what is there."""
    if is_s3(source) or is_s3(target):
        _of("s3://").copy(source, target)
    else:
        _of(source).copy(source, target, overwrite=True)


def makedirs(path: str) -> None:
    """As `tf.io.gfile.makedirs`."""
    _of(path).makedirs(path)


def remove(path: str) -> None:
    """As `tf.io.gfile.remove`."""
    _of(path).remove(path)


def rmtree(path: str) -> None:
    """As `tf.io.gfile.rmtree`."""
    _of(path).rmtree(path)


@contextmanager
def local_copy(path: str) -> Iterator[str]:
    """Gives a file or folder that TensorFlow reads: in S3, a copy on this machine for the time of the `with`."""
    if not is_s3(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="s3-") as folder:
        target = os.path.join(folder, os.path.basename(path.rstrip("/")))
        names = [name for name, *_ in list_below(path)]
        for name in names:
            copy_below(path, name, target)
        if not names:
            copy(path, target)
        yield target


def copy_below(folder: str, name: str, target: str) -> None:
    """Copies a file below a folder to the same place below another one, on this machine.

    Raises:
        UserError: its name leads out of that: a key in a bucket may be called like anything.
    """
    if ".." in name.split("/") or name.startswith("/"):
        raise UserError(f"{folder}/{name}: leads out of its folder; rename it")
    os.makedirs(os.path.dirname(os.path.join(target, name)), exist_ok=True)
    copy(f"{folder.rstrip('/')}/{name}", os.path.join(target, name))
