"""A server between a client and S3 that answers some requests itself, wrongly, late or not at all."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Passes requests on, but for those of which the server's `fault_of` returns a fault."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each body waits 40 ms for the head to be acknowledged
    server: Any

    def handle_one(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        self.server.seen.append(f"{self.command} {self.path}")
        if fault := self.server.fault_of(self):
            fault(self)
            return
        self.pass_on(body)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_one

    def pass_on(self, body: bytes | None = None, cut: int | None = None) -> None:
        """Answers as the server behind does; of the body only the first `cut` bytes, whatever its length says."""
        upstream = http.client.HTTPConnection(self.server.upstream)
        upstream.request(self.command, self.path, body, dict(self.headers))
        answer = upstream.getresponse()
        content = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content if cut is None else content[:cut])
        self.close_connection = cut is not None
        upstream.close()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def answers(status: int, code: str) -> Fault:
    """Answers with an error of S3."""

    def fault(handler: Handler) -> None:
        body = f"<Error><Code>{code}</Code><Message>told by the test</Message></Error>".encode()
        handler.send_response_only(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return fault


def begins_with_an_empty_page(handler: Handler) -> None:
    """Lists nothing on a first page, as S3 may where it has passed over many keys that were removed: there are more."""
    token = "&continuation-token=more"
    if token in handler.path:
        handler.path = handler.path.replace(token, "")
        handler.pass_on()
        return
    body = (
        b"<ListBucketResult><Name>pets</Name><KeyCount>0</KeyCount><IsTruncated>true</IsTruncated>"
        b"<NextContinuationToken>more</NextContinuationToken></ListBucketResult>"
    )
    handler.send_response_only(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def hangs(handler: Handler) -> None:
    """Does not answer."""
    time.sleep(3)
    handler.close_connection = True


def says_nothing(handler: Handler) -> None:
    """Ends the connection without an answer."""
    handler.close_connection = True


def breaks_off(handler: Handler) -> None:
    """Ends the connection in the middle of the answer."""
    handler.pass_on(cut=10)


@contextmanager
def faulty_server(upstream: str, fault_of: Callable[[Handler], Fault | None]) -> Iterator[ThreadingHTTPServer]:
    """Runs one; its `address` is for `AWS_ENDPOINT_URL`, `seen` has the requests."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.upstream, server.fault_of, server.seen = upstream.removeprefix("http://"), fault_of, []
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
