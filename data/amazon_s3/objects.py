"""Objects of S3 as files and folders, under the names that `tf.io.gfile` gives what it does.

A folder is what keys have before a `/`, or an empty object whose key ends so, as consoles make one. All is asked by
listing, which tells a bucket that is not there, or is closed, from a key that is not there.

Errors are those of `explained`: `tf.errors.NotFoundError`, as TensorFlow has it, or one line for the user.
"""

import fnmatch
import hashlib
import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from data.amazon_s3 import reading
from data.amazon_s3.client import explained, get_client
from data.errors import UserError

_DELETED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What a listing says of an object or a folder.

    Attributes:
        key: in its bucket; that of a folder in a listing ends in `/`.
        length: bytes.
        mtime_nsec: when it was written. S3 tells whole seconds: the rest is made of its ETag, so that other content of
            the same size and second has another time.
        etag: of its content.
        is_directory: whether it is a folder.
    """

    key: str
    length: int = 0
    mtime_nsec: int = 0
    etag: str = ""
    is_directory: bool = False


def exists(path: str) -> bool:
    """Says whether there is an object or a folder."""
    return _find(path) is not None or isdir(path)


def isdir(path: str) -> bool:
    """Says whether there is a folder; a bucket is one, empty or not."""
    bucket, key = _split(path)
    return _first(bucket, _prefix(key)) is not None or not key


def stat(path: str) -> ObjectStat:
    """Returns what is known of an object or a folder."""
    if found := _find(path):
        return found
    if isdir(path):
        return ObjectStat(_split(path)[1], is_directory=True)
    raise _not_found(path)


def listdir(path: str) -> list[str]:
    """Returns the names in a folder; those of folders end in `/`."""
    bucket, key = _split(path)
    prefix = _prefix(key)
    keys = [found.key for found in _list(bucket, prefix, "/")]
    if not keys and key:
        raise _not_found(path)
    return [name for key in keys if (name := key[len(prefix) :]).strip("/")]


def list_below(path: str) -> Iterator[tuple[str, int, int]]:
    """Yields path from there, bytes and time of all objects below a folder; none where it is not there."""
    bucket, key = _split(path)
    prefix = _prefix(key)
    for found in _list(bucket, prefix):
        if not found.is_directory:
            yield found.key[len(prefix) :], found.length, found.mtime_nsec


def glob(pattern: str) -> list[str]:
    """Returns the paths of objects and folders that match."""
    if "://" in pattern and not re.search(r"[*?[]", pattern):
        return [pattern] if exists(pattern) else []
    return sorted({path for path, _ in _match(pattern)})


def glob_files(pattern: str) -> list[tuple[str, int, int]]:
    """Returns path, bytes and time of the objects that match."""
    return sorted((path, found.length, found.mtime_nsec) for path, found in _match(pattern) if found is not None)


def open_binary(path: str) -> io.BufferedReader:
    """Opens an object, see `data.amazon_s3.reading.open_binary`."""
    if (found := _find(path)) is None:
        raise _not_found(path)
    return reading.open_binary(path, found.length, found.etag)


def read_bytes(path: str) -> bytes:
    """Returns an object's bytes, in one request."""
    return reading.read_bytes(path)


def write_bytes(path: str, content: bytes) -> None:
    """Writes an object, whole or not at all."""
    bucket, key = _split(path)
    with explained(path):
        get_client().put_object(Bucket=bucket, Key=key, Body=content)


def copy(source: str, target: str) -> None:
    """Copies a file, of which one or both are objects, over what is there; an object appears whole."""
    import tensorflow as tf

    if not target.startswith("s3://"):
        with open_binary(source) as read, tf.io.gfile.GFile(target, "wb") as written:
            shutil.copyfileobj(read, written, 8 << 20)
        return
    bucket, key = _split(target)
    if source.startswith("s3://"):
        from_bucket, from_key = _split(source)
        with explained(source):
            get_client().copy_object(Bucket=bucket, Key=key, CopySource={"Bucket": from_bucket, "Key": from_key})
        return
    with tf.io.gfile.GFile(source, "rb") if "://" in source else open(source, "rb") as file, explained(target):
        get_client().upload_fileobj(file, bucket, key)


def makedirs(path: str) -> None:
    """Does nothing: a folder is there once it holds something."""


def remove(path: str) -> None:
    """Removes an object, if it is there."""
    bucket, key = _split(path)
    with explained(path):
        get_client().delete_object(Bucket=bucket, Key=key)


def rmtree(path: str) -> None:
    """Removes all objects of a folder."""
    bucket, key = _split(path)
    assert key, "nobody means a whole bucket"
    keys = [found.key for found in _list(bucket, _prefix(key))]
    for start in range(0, len(keys), _DELETED_AT_ONCE):
        some = [{"Key": key} for key in keys[start : start + _DELETED_AT_ONCE]]
        with explained(path):
            answer = get_client().delete_objects(Bucket=bucket, Delete={"Objects": some, "Quiet": True})
        if left := answer.get("Errors"):
            raise UserError(f"s3://{bucket}/{left[0]['Key']}: cannot be removed ({left[0].get('Code')})")


def _split(path: str) -> tuple[str, str]:
    bucket, _, key = path.removeprefix("s3://").partition("/")
    if not bucket:
        raise UserError(f"{path}: names no bucket; the form is s3://BUCKET/FOLDER")
    return bucket, key


def _prefix(key: str) -> str:
    return f"{key.rstrip('/')}/" if key else ""


def _find(path: str) -> ObjectStat | None:
    """Returns an object: of all keys that begin with its own, that is the first."""
    bucket, key = _split(path)
    found = _first(bucket, key) if key and not key.endswith("/") else None
    return found if found and found.key == key else None


def _first(bucket: str, prefix: str) -> ObjectStat | None:
    return next(_list(bucket, prefix, page_size=1), None)


def _list(bucket: str, prefix: str, delimiter: str = "", page_size: int | None = None) -> Iterator[ObjectStat]:
    """Yields what a place holds; any page may be empty, and not be the last."""
    with explained(f"s3://{bucket}/{prefix}".rstrip("/")):
        paginator, size = get_client().get_paginator("list_objects_v2"), {"PageSize": page_size}
        for page in paginator.paginate(Bucket=bucket, Prefix=prefix, Delimiter=delimiter, PaginationConfig=size):
            yield from map(_stat_of, page.get("Contents", ()))
            for folder in page.get("CommonPrefixes", ()):
                yield ObjectStat(folder["Prefix"], is_directory=True)


def _stat_of(listed: dict[str, Any]) -> ObjectStat:
    key, etag = listed["Key"], listed["ETag"]
    rest = int.from_bytes(hashlib.sha256(etag.encode()).digest(), "big") % 10**9
    time = int(listed["LastModified"].timestamp()) * 10**9 + rest
    return ObjectStat(key, listed["Size"], time, etag, key.endswith("/"))


def _match(pattern: str) -> Iterator[tuple[str, ObjectStat | None]]:
    """Yields the path of what matches, and the object, None of a folder; no wildcard stands for a `/`."""
    bucket, key = _split(pattern)
    parts, prefix = key.rstrip("/").split("/"), re.split(r"[*?[]", key)[0]
    for found in _list(bucket, prefix, "" if "/" in key[len(prefix) :] else "/"):
        names = found.key.rstrip("/").split("/")
        if len(names) >= len(parts) and all(map(fnmatch.fnmatchcase, names, parts)):
            is_whole = len(names) == len(parts) and not found.is_directory
            yield f"s3://{bucket}/{'/'.join(names[: len(parts)])}", found if is_whole else None


def _not_found(path: str) -> Exception:
    import tensorflow as tf

    missing: Exception = tf.errors.NotFoundError(None, None, f"{path}: there is no such object or folder")
    return missing
