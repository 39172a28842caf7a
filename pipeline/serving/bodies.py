"""Reads what clients send, within bounds of size and time; nothing of it touches a disk."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from pipeline.serving.limits import Limits
from pipeline.serving.refusals import Refusal

_MOST_DISCARDED_BYTES = 64 * 2**20
_DISCARD_SECONDS = 2.0


class Bodies:
    """Reads bodies, and counts the bytes of those that are held.

    Attributes:
        held: bytes, of the requests that are being answered.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.held = 0

    @contextlib.asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Reads a body, which counts as held for the block.

        Raises:
            Refusal: it is too large, too slow, or too much is held already.
            ClientDisconnect: the client went away.
        """
        mine = 0
        try:
            expected = request.headers.get("content-length", "")
            if expected.isdecimal():
                self._check_size(int(expected))
                self._check_held(int(expected))
                mine = int(expected)
                self.held += mine
            chunks: list[bytes] = []
            size = 0
            async for chunk in request.stream():
                size += len(chunk)
                if size > mine:  # Without a length, it counts as it comes.
                    self._check_size(size)
                    self._check_held(size - mine)
                    self.held += size - mine
                    mine = size
                chunks.append(chunk)
            body = b"".join(chunks)
            chunks.clear()
            request.state.is_read = True
            yield body
        finally:
            self.held -= mine

    def _check_size(self, size: int) -> None:
        if size > self._limits.max_bytes:
            raise Refusal(413, f"the body has {size:,} bytes or more; at most {self._limits.max_bytes:,} are taken")

    def _check_held(self, more: int) -> None:
        if self.held + more > self._limits.max_held_bytes:
            raise Refusal(503, "too many requests are being answered; send it again later")


async def discard(request: Request) -> None:
    """Reads the rest of a body that was refused: a client that still sends sees no answer, but a broken connection."""

    async def read() -> None:
        left = _MOST_DISCARDED_BYTES
        async for chunk in request.stream():
            left -= len(chunk)
            if left < 0:
                return

    # RuntimeError: it was read to its end already.
    with contextlib.suppress(asyncio.TimeoutError, ClientDisconnect, RuntimeError):
        await asyncio.wait_for(read(), _DISCARD_SECONDS)


class _InMemory(MultiPartParser):
    """Starlette's, without its temporary files: the body is in memory already, and no picture is kept."""

    spool_max_size = 2**62


async def read_files(headers: Headers, body: bytes, limits: Limits) -> list[tuple[str, bytes]]:
    """Returns name and bytes of each file of a multipart form; other fields are left alone.

    Raises:
        Refusal: it is no such form, or holds too many files or none.
    """

    async def stream() -> AsyncIterator[bytes]:
        yield body

    parser = _InMemory(headers, stream(), max_files=limits.max_images, max_fields=limits.max_images)  # type: ignore[arg-type]
    try:
        form = await parser.parse()
    except MultiPartException as error:
        status = 413 if "Too many" in error.message else 400
        raise Refusal(status, f"the multipart form cannot be read: {error.message}") from None
    # python-multipart and the decoding of names raise others on garbage.
    except (ValueError, KeyError, LookupError, AssertionError) as error:
        raise Refusal(400, f"the multipart form cannot be read: {type(error).__name__}") from None
    async with _closing(form.multi_items()):
        files = [(value.filename or name, await value.read()) for name, value in _files(form.multi_items())]
    if not files:
        raise Refusal(400, "the multipart form holds no file; send at least one, as curl -F image=@photo.jpg does")
    return files


def _files(items: list[tuple[str, UploadFile | str]]) -> Iterator[tuple[str, UploadFile]]:
    for name, value in items:
        if isinstance(value, UploadFile):
            yield name, value


@contextlib.asynccontextmanager
async def _closing(items: list[tuple[str, UploadFile | str]]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for _, value in _files(items):
            await value.close()
