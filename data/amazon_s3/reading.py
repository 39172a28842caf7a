"""Reads objects of S3: whole, or as files that are read in pieces."""

import io
from typing import Any

from data.amazon_s3.client import ATTEMPTS, explained, get_client

_PIECE_BYTES = 4 << 20


def read_bytes(path: str) -> bytes:
    """Returns an object's bytes, in one request; errors as `explained`."""
    return _read(path)


def open_binary(path: str, size: int, etag: str) -> io.BufferedReader:
    """Opens an object to be read from front to back, or here and there: 4 MiB a request, or more that is asked for.

    Args:
        path: its `s3://` path.
        size: bytes.
        etag: of its content; another one in its place is an error, never a mixture.
    """
    return io.BufferedReader(_ObjectReader(path, size, etag), _PIECE_BYTES)


class _ObjectReader(io.RawIOBase):
    """An object as a file, without a buffer."""

    def __init__(self, path: str, size: int, etag: str) -> None:
        self._path, self._size, self._etag, self._position = path, size, etag, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        content = self._read_to(self._position + len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def readall(self) -> bytes:
        return self._read_to(self._size)

    def _read_to(self, end: int) -> bytes:
        end = min(end, self._size)
        if end <= self._position:
            return b""
        content = _read(self._path, Range=f"bytes={self._position}-{end - 1}", IfMatch=self._etag)
        self._position += len(content)
        return content


def _read(path: str, **wanted: str) -> bytes:
    """Reads with one request, and another one where the answer breaks off: boto3 repeats only what has no answer."""
    with explained(path):
        from botocore import exceptions

        bucket, _, key = path.removeprefix("s3://").partition("/")
        for attempt in range(1, ATTEMPTS + 1):
            answer = get_client().get_object(Bucket=bucket, Key=key, **wanted)
            try:
                content: bytes = answer["Body"].read()
                return content
            except (exceptions.HTTPClientError, exceptions.IncompleteReadError):
                if attempt == ATTEMPTS:
                    raise
    raise AssertionError("the last attempt returns or raises")
