"""Google's Cloud Storage on this machine, for TensorFlow's own client of `gs://` in any process.

The client asks Google's hosts by HTTPS: it is led here as by a proxy, and trusts the certificate. What is ours is what
that client sends of the JSON interface: look, list, read, upload, rewrite, delete.
"""

import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.vertex_stand_in import certificate, key_pem


@dataclass
class Storage:
    """The service.

    Attributes:
        objects: content by `BUCKET/NAME`; each bucket that an object is in exists.
        seen: method and path of each request.
        environment: that leads a process here.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    def put(self, folder: Path, place: str) -> None:
        """Keeps the files of a folder below `BUCKET/NAME`."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.objects[f"{place}/{path.relative_to(folder)}"] = path.read_bytes()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each body waits 40 ms for the head to be acknowledged
    server: Any

    def do_CONNECT(self) -> None:
        """Answers what is asked of whatever host in the connection itself."""
        self.send_response_only(200)
        self.end_headers()
        with self.server.context.wrap_socket(self.connection, server_side=True) as connection:
            self.rfile, self.wfile = connection.makefile("rb"), connection.makefile("wb", 0)
            self.close_connection = False
            while not self.close_connection:
                self.handle_one_request()

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _tell(self, content: Any) -> None:
        self._answer(200, json.dumps(content).encode())

    def do_GET(self) -> None:
        storage: Storage = self.server.storage
        url = urlsplit(self.path)
        storage.seen.append(f"{self.command} {self.path}")
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        match = re.fullmatch(r"/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?", url.path)
        if match is None:  # the content
            found = storage.objects.get(unquote(url.path[1:]))
            if found is None:
                self._answer(404)
                return
            part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            first, last = (int(part[1]), int(part[2])) if part else (0, len(found))
            self._answer(416 if part and first >= len(found) else 206, found[first : last + 1])
            return
        bucket, name = match[1], unquote(match[2] or "")
        if name:
            found = storage.objects.get(f"{bucket}/{name}")
            if found is None:
                self._answer(404)
            else:
                self._tell(_describe(name, found))
        elif not any(key.startswith(f"{bucket}/") for key in storage.objects):
            self._answer(404)
        elif url.path.endswith("/o"):
            self._tell(_list(storage, bucket, query))
        else:
            self._tell({"name": bucket, "location": "US-CENTRAL1"})

    def do_DELETE(self) -> None:
        storage: Storage = self.server.storage
        storage.seen.append(f"{self.command} {self.path}")
        match = re.fullmatch(r"/storage/v1/b/([^/]+)/o/([^?]+)", self.path)
        gone = match and storage.objects.pop(f"{match[1]}/{unquote(match[2])}", None)
        self._answer(404 if gone is None else 204)

    def do_POST(self) -> None:
        storage: Storage = self.server.storage
        storage.seen.append(f"{self.command} {self.path}")
        body = self._read()
        url = urlsplit(self.path)
        if match := re.fullmatch(r"/storage/v1/b/([^/]+)/o/(.+)/rewriteTo/b/([^/]+)/o/(.+)", url.path):
            content = storage.objects.get(f"{match[1]}/{unquote(match[2])}")
            if content is None:
                self._answer(404)
                return
            storage.objects[f"{match[3]}/{unquote(match[4])}"] = content
            self._tell({"done": True})
            return
        match = re.fullmatch(r"/upload/storage/v1/b/([^/]+)/o", url.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if match is None:
            self._answer(404)
        elif query["uploadType"] == "media":
            storage.objects[f"{match[1]}/{query['name']}"] = body
            self._tell({})
        else:
            self._answer(200, Location=f"https://www.googleapis.com/session/{match[1]}/{query['name']}")

    def do_PUT(self) -> None:
        storage: Storage = self.server.storage
        storage.seen.append(f"{self.command} {self.path}")
        content = self._read()
        storage.objects[unquote(self.path.removeprefix("/session/"))] = content
        self._tell({})

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def _describe(name: str, content: bytes) -> dict[str, str]:
    return {"name": name, "size": str(len(content)), "generation": "1", "updated": "2026-11-27T00:00:00.000Z"}


def _list(storage: Storage, bucket: str, query: dict[str, str]) -> dict[str, Any]:
    """Returns a page of one object or folder: whoever does not read on sees little."""
    prefix, delimiter = f"{bucket}/{query.get('prefix', '')}", query.get("delimiter", "")
    found: dict[str, dict[str, str] | None] = {}
    for key, content in sorted(storage.objects.items()):
        if key.startswith(prefix):
            rest, more, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key[len(prefix) :], "", "")
            name = f"{prefix}{rest}{more}".partition("/")[2]
            found[name] = None if more else _describe(name, content)
    names = list(found)
    start = int(query.get("pageToken", 0))
    shown = names[start : start + 1]
    return {
        "items": [found[name] for name in shown if found[name]],
        "prefixes": [name for name in shown if not found[name]],
        **({"nextPageToken": str(start + 1)} if start + 1 < len(names) else {}),
    }


@contextmanager
def google_storage(folder: Path) -> Iterator[Storage]:
    """Runs it; `folder` is where it may keep the certificate."""
    (folder / "certificate.pem").write_bytes(certificate())
    (folder / "key.pem").write_bytes(key_pem())
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    server.storage = Storage()
    server.storage.environment = {
        "https_proxy": f"http://127.0.0.1:{server.server_address[1]}",
        "CURL_CA_BUNDLE": str(folder / "certificate.pem"),
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "a-token",
        "NO_GCE_CHECK": "true",
    }
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.storage
    finally:
        server.shutdown()
        thread.join()
