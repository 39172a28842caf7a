"""Vertex AI on localhost: a gRPC server with the service's real messages, its TLS and its credentials.

Clients keep their own hosts (`REGION-aiplatform.googleapis.com`), credentials and certificates' checks; only the
address that a host's name leads to is changed. What the service does with the requests is in `vertex_service.py`.
"""

import datetime
import functools
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from google.api_core import grpc_helpers
from google.cloud import aiplatform_v1 as vertex
from google.longrunning import operations_pb2

from components.google_cloud import calls

REGION = "us-central1"
HOST = f"{REGION}-aiplatform.googleapis.com"
DEDICATED_DOMAIN = f"{REGION}-123.prediction.vertexai.goog"
HOSTS = (
    HOST,
    "localhost",
    f"*.{DEDICATED_DOMAIN}",
    *(f"{name}.googleapis.com" for name in ("oauth2", "dataflow", "www", "storage")),
)
"""That the stand-ins play."""
PROJECT = "a-project"
PARENT = f"projects/{PROJECT}/locations/{REGION}"
ACCOUNT = f"tester@{PROJECT}.iam.gserviceaccount.com"


@dataclass
class Fault:
    """What a call ends with in place of its answer.

    Attributes:
        code: gRPC's status.
        message: what the service says.
        times: for so many calls; then all is well.
        after: whether the call has gone through all the same, and only its answer is lost.
    """

    code: grpc.StatusCode
    message: str
    times: int
    after: bool


@dataclass
class Network:
    """What every stand-in shares: it records the calls and makes faults.

    Attributes:
        calls: method and request of each call, in the order of their coming.
        tokens: the `authorization` of each.
        naps: seconds that the clients would have slept.
        hosts: what the clients asked for.
        address: of the server.
        channels: what the clients opened.
    """

    calls: list[tuple[str, Any]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    naps: list[float] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    address: str = ""
    channels: list[grpc.Channel] = field(default_factory=list)

    def fail(
        self, method: str, code: str, message: str = "try again later", *, times: int = 1, after: bool = False
    ) -> None:
        """Lets the next calls of a method fail."""
        self.faults.setdefault(method, []).append(Fault(grpc.StatusCode[code], message, times, after))

    def requests(self, method: str) -> list[Any]:
        """Returns what came for one method."""
        return [request for name, request in self.calls if name == method]

    def methods(self) -> list[str]:
        """Returns the calls' methods."""
        return [name for name, _ in self.calls]

    def take_fault(self, method: str) -> Fault | None:
        """Returns the fault of this call, if there is one."""
        for fault in self.faults.get(method, []):
            if fault.times:
                fault.times -= 1
                return fault
        return None


class ServiceError(Exception):
    """The service's own refusal."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = grpc.StatusCode[code]


class _Handler(grpc.GenericRpcHandler):
    """Answers each method, of whatever service, by the function of that name of the object that plays the service."""

    def __init__(self, network: Network, player: object) -> None:
        self.network, self.player = network, player

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler | None:
        method = handler_call_details.method.rpartition("/")[2]
        answer: Callable[[Any], Any] | None = getattr(self.player, method, None)
        if answer is None:
            return None  # UNIMPLEMENTED
        self.network.tokens += [
            value for key, value in handler_call_details.invocation_metadata if key == "authorization"
        ]
        kind = getattr(operations_pb2 if method == "GetOperation" else vertex, f"{method}Request")

        def run(request: Any, context: grpc.ServicerContext) -> Any:
            with self.network.lock:
                self.network.calls.append((method, request))
                fault = self.network.take_fault(method)
                if fault and not fault.after:
                    context.abort(fault.code, fault.message)
                try:
                    reply = answer(request)
                except ServiceError as error:
                    context.abort(error.code, str(error))
            if fault:
                context.abort(fault.code, fault.message)
            return reply

        return grpc.unary_unary_rpc_method_handler(
            run,
            request_deserializer=getattr(kind, "deserialize", None) or kind.FromString,
            response_serializer=lambda reply: (
                type(reply).serialize(reply) if hasattr(type(reply), "serialize") else reply.SerializeToString()
            ),
        )


@functools.cache
def _private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@functools.cache
def _account_key() -> str:
    """Each client checks its key when it is made, which takes six times as long for one of 2048 bits."""
    return _pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)).decode()


def key_pem() -> bytes:
    """Returns the certificate's key; PEM."""
    return _pem(_private_key())


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@functools.cache
def certificate() -> bytes:
    """Returns a certificate for `HOSTS`, signed by itself; PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stand-in")])
    now = datetime.datetime.now(datetime.timezone.utc)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(_private_key().public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS]), critical=False)
        .sign(_private_key(), hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM)


def write_credentials(folder: Path) -> Path:
    """Writes a service account's key file; its tokens are signed here, so that no token server is asked."""
    path = folder / "key.json"
    path.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": PROJECT,
                "private_key_id": "1",
                "private_key": _account_key(),
                "client_email": ACCOUNT,
                "client_id": "1",
                "token_uri": "https://oauth2.googleapis.com/token",
            }
        )
    )
    return path


class Server:
    """Serves a player on a port of localhost, which it keeps over a restart."""

    def __init__(self, network: Network, player: object) -> None:
        self.network, self.player = network, player
        self.start()

    def start(self) -> None:
        """Begins to listen."""
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        self.server.add_generic_rpc_handlers((_Handler(self.network, self.player),))
        credentials = grpc.ssl_server_credentials([(_pem(_private_key()), certificate())])
        port = self.server.add_secure_port(self.network.address or "localhost:0", credentials)
        self.network.address = f"localhost:{port}"
        self.server.start()

    def stop(self) -> None:
        """Breaks every connection and listens no longer."""
        self.server.stop(None).wait()


@contextmanager
def standing_in(network: Network, player: object, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Server]:
    """Serves, and leads every client of this process to the server."""
    calls.make_client.cache_clear()
    server = Server(network, player)
    _redirect(network, monkeypatch, folder)
    try:
        yield server
    finally:
        # Left to the garbage collector, a channel was once closed at the end of all tests, and waited for ever.
        for channel in network.channels:
            channel.close()
        server.stop()
        calls.make_client.cache_clear()


def _redirect(network: Network, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Leads Google's hosts to the stand-in, lets it be trusted, gives credentials and makes waiting take no time."""
    create_channel = grpc_helpers.create_channel

    def create_redirected(target: str, *args: Any, **kwargs: Any) -> grpc.Channel:
        host = target.partition(":")[0]
        network.hosts.append(target)
        kwargs["ssl_credentials"] = grpc.ssl_channel_credentials(certificate())
        kwargs["options"] = [*kwargs.get("options", ()), ("grpc.ssl_target_name_override", host)]
        network.channels.append(create_channel(network.address, *args, **kwargs))
        return network.channels[-1]

    monkeypatch.setattr(grpc_helpers, "create_channel", create_redirected)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(write_credentials(folder)))
    monkeypatch.setattr(time, "sleep", network.naps.append)
