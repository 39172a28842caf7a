"""What Google offers over HTTPS alone, on localhost: tokens, an endpoint's predictions, Dataflow's jobs.

Clients keep hosts, credentials and certificates' checks, as in `vertex_stand_in`.
"""

import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import urllib3.util.connection

from tests.vertex_stand_in import certificate, key_pem

TOKEN = "a-token"


@dataclass(frozen=True)
class Asked:
    """One request."""

    host: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Web:
    """Records what is asked, and lets it fail.

    Attributes:
        answer: plays the services: a request -> status and JSON, or the bytes of it.
        asked: all but those for tokens.
        faults: what the next requests end with in place of their answer: a status and a message, `None` for a broken
            connection; `after` where they have gone through all the same.
    """

    answer: Callable[[Asked], tuple[int, Any]] = lambda asked: (404, {"error": {"message": asked.path}})
    asked: list[Asked] = field(default_factory=list)
    faults: list[tuple[int | None, str, bool]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(
        self, status: int | None, message: str = "try again later", *, times: int = 1, after: bool = False
    ) -> None:
        """Lets the next requests fail."""
        self.faults += [(status, message, after)] * times


def _make_handler(web: Web) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each body waits 40 ms for the head to be acknowledged

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            host = str(self.headers["Host"]).partition(":")[0]
            if host == "oauth2.googleapis.com":
                self.reply(200, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})
                return
            assert self.headers["Authorization"] == f"Bearer {TOKEN}"
            asked = Asked(host, self.command, self.path, dict(self.headers.items()), body)
            with web.lock:
                web.asked.append(asked)
                fault = web.faults.pop(0) if web.faults else None
            if fault is None or fault[2]:
                status, content = web.answer(asked)
            if fault is not None and fault[0] is None:
                self.close_connection = True
                self.connection.close()
                return
            if fault is not None:
                status, content = int(fault[0] or 0), {"error": {"code": fault[0], "message": fault[1]}}
            self.reply(status, content)

        def reply(self, status: int, content: Any) -> None:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = handle_any

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A connection that was broken on purpose is not told."""


@contextmanager
def standing_in_for_https(web: Web, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """Serves, and leads every client of this process to the server, but for those of localhost."""
    certificate_path, key_path = folder / "certificate.pem", folder / "certificate-key.pem"
    certificate_path.write_bytes(certificate())
    key_path.write_bytes(key_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_path, key_path)
    server = _Server(("127.0.0.1", 0), _make_handler(web))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    connect = urllib3.util.connection.create_connection

    def redirect(address: tuple[str, int], *args: Any, **kwargs: Any) -> Any:
        is_google = address[0].endswith((".googleapis.com", ".vertexai.goog"))
        return connect(server.server_address[:2] if is_google else address, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(urllib3.util.connection, "create_connection", redirect)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate_path))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
