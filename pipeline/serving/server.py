"""Runs the application: the socket, the connections, the log, the way down."""

import asyncio
import contextlib
import logging
import logging.handlers
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from data.errors import UserError
from pipeline.serving.app import Server

DRAIN_SECONDS = 25
"""Platforms kill what did not end 30 s after SIGTERM, SageMaker and Kubernetes among them."""
_HEAD_SECONDS = 10
_KEEP_ALIVE_SECONDS = 65
"""Longer than the 60 s of common load balancers, which otherwise send into a connection that is just closed."""
_MOST_CONNECTIONS = 1000
_LOG_BYTES, _LOG_FILES = 20 * 2**20, 5


class _Connection(H11Protocol):
    """uvicorn's, and closed where a request's head does not come: uvicorn itself waits for it for ever."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        last = self.cycle
        super().data_received(data)
        # A head that is whole begins another cycle; what comes before its answer is the body.
        if self.cycle is not last or (last is not None and not last.response_complete):
            self._stop_waiting()
        elif self._waiting is None and self.timeout_keep_alive_task is None:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        # uvicorn leaves its own where the connection broke, and it holds the connection until it is due.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._waiting = self.loop.call_later(_HEAD_SECONDS, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


class _Uvicorn(uvicorn.Server):
    """uvicorn's, which tells when it listens, without its handlers of signals: a drain is no interruption."""

    def __init__(self, config: uvicorn.Config, begun: Callable[[], None]) -> None:
        super().__init__(config)
        self._begun = begun

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._begun()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """Takes the address before anything is loaded; nothing listens there yet.

    Raises:
        UserError: it cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, protocol)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"--host {host} --port {port}: {reason}; choose another") from None
    return taken


def open_log(path: Path) -> None:
    """Sends what the server and its libraries log to a file, five of at most 20 MiB in turn; `-` is standard error.

    Raises:
        UserError: it cannot be written.
    """
    handler: logging.Handler = logging.StreamHandler()
    try:
        if str(path) != "-":
            path.parent.mkdir(parents=True, exist_ok=True)
            handler = logging.handlers.RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=_LOG_FILES - 1)
    except OSError as error:
        raise UserError(f"--log {path}: cannot be written: {error.strerror}; choose another") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    for name, level in (("pipeline.serving", logging.INFO), ("uvicorn", logging.WARNING), ("asyncio", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.addHandler(handler)
        logger.propagate = False


def run(server: Server, app: Starlette, taken: socket.socket, poll_seconds: float, begun: Callable[[], None]) -> None:
    """Calls `begun` once it listens, and answers until SIGTERM or SIGINT; the drain takes at most 25 s."""

    def listen(stop: Callable[[], None]) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)

    asyncio.run(serve(server, app, taken, poll_seconds, listen, begun))


async def serve(
    server: Server,
    app: Starlette,
    taken: socket.socket,
    poll_seconds: float,
    listen: Callable[[Callable[[], None]], None],
    begun: Callable[[], None],
) -> None:
    """Answers until it is stopped.

    Args:
        server: whose versions and threads end with it.
        app: of it.
        taken: from `bind`.
        poll_seconds: how often another version is looked for.
        listen: gets what stops it: called once it answers what was taken, and again it ends at once.
        begun: called once it listens.
    """
    config = uvicorn.Config(
        app,
        http=_Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    runner: Any = _Uvicorn(config, begun)

    def stop() -> None:
        runner.force_exit = server.is_stopping
        runner.should_exit = server.is_stopping = True

    listen(stop)
    watching = asyncio.create_task(server.versions.watch(poll_seconds))
    try:
        await runner.serve(sockets=[taken])
    finally:
        watching.cancel()
        server.versions.stop()
        server.answering.stop()
