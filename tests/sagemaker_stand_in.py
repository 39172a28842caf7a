"""Amazon's services on this machine: moto's server, and in front of it what moto lacks of SageMaker, and faults.

moto keeps objects, models, configurations and endpoints. What is ours: an endpoint takes its time and may fail, goes
back to what it had where a change fails, refuses a second change meanwhile; weights; nothing is made twice under one
name; transform jobs that ask a container; and containers, which are what a test says they are.
"""

import io
import json
import logging
import re
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.retries import standard
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from moto.sagemaker.models import FakeEndpoint, sagemaker_backends
from werkzeug.serving import make_server

from pipeline.sagemaker import calls as sending
from pipeline.sagemaker import endpoint as waiting
from pipeline.sagemaker import transform
from pipeline.sagemaker.archive import PushedModel, read_model
from pipeline.sagemaker.calls import Aws
from tests.conftest import spare_moto_repetitions

REGION, ACCOUNT = "eu-central-1", "123456789012"
_BUSY = ("Creating", "Updating", "Deleting")
_MADE = {
    "CreateModel": ("ModelName", "_models", "model"),
    "CreateEndpointConfig": ("EndpointConfigName", "endpoint_configs", "endpoint configuration"),
    "CreateEndpoint": ("EndpointName", "endpoints", "endpoint"),
    "CreateTransformJob": ("TransformJobName", "transform_jobs", "transform job"),
}
FAULTS = {
    "throttled": (400, "ThrottlingException", "Rate exceeded"),
    "denied": (400, "AccessDeniedException", "User: anna is not authorized to perform this"),
    "quota": (400, "ResourceLimitExceeded", "The account-level service limit is 0 Instances"),
    "broken": (500, "InternalFailure", "An internal failure occurred"),
}
"""Beside `timeout`, which cuts the connection off."""

Answer = tuple[int, dict[str, str], bytes]
Container = Callable[[bytes, str], tuple[int, bytes]]
"""Of a model: takes a body and its Content-Type."""


@dataclass
class Fault:
    """What goes wrong.

    Attributes:
        kind: of `FAULTS`, or `timeout`.
        call: which one, from 0.
        after: whether the call has taken effect.
        lasts: whether each further call of the same operation meets it, too.
    """

    kind: str
    call: int
    after: bool
    lasts: bool
    operation: str = ""


@dataclass
class StandIn:
    """The services.

    Attributes:
        url: of the server.
        looks: how often an endpoint is asked about until a change of it has ended.
        failing: models whose containers do not come up.
        calls: operations that came, in their order, as IAM names them: `sagemaker:CreateModel`.
        wrong: what should never be seen.
        quotas: of the account.
        start: makes the container of an unpacked model; None where nobody asks one.
    """

    url: str = ""
    looks: int = 2
    failing: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    quotas: dict[str, float] = field(default_factory=dict)
    fault: Fault | None = None
    start: Callable[[Path, dict[str, str]], Container] | None = None
    root: Path = Path()
    _changes: dict[str, tuple[int, Callable[[], None]]] = field(default_factory=dict)
    _pending: dict[str, str] = field(default_factory=dict)
    _containers: dict[str, Container] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Puts it in front of moto."""
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.RLock()

    @property
    def backend(self) -> Any:
        """SageMaker as moto keeps it."""
        return sagemaker_backends[ACCOUNT][REGION]

    def reset(self) -> None:
        """Empties it, but for the buckets."""
        self.backend.reset()
        s3 = s3_backends[ACCOUNT]["aws"]
        for bucket in s3.buckets.values():
            bucket.keys.clear()
        self.calls.clear()
        self.wrong.clear()
        self.failing.clear()
        self._changes.clear()
        self._pending.clear()
        self._containers.clear()
        self.fault, self.looks = None, 2

    def forget(self) -> None:
        """Ends what is under way without an end."""
        self._changes.clear()
        self._pending.clear()

    def hurry(self) -> None:
        """Lets what is under way end at the next look."""
        self._changes = {name: (0, end) for name, (_, end) in self._changes.items()}

    def marked(self) -> list[str]:
        """Returns endpoint and version of each model that is marked as rolled back."""
        return sorted(
            name.rpartition("-")[0]
            for name, model in self.backend._models.items()
            if any(tag["Key"] == "rolled-back" for tag in model.tags)
        )

    def objects(self) -> list[str]:
        """Returns all keys in S3."""
        buckets = s3_backends[ACCOUNT]["aws"].buckets
        return sorted(f"{name}/{key}" for name, bucket in buckets.items() for key in bucket.keys)

    def kept(self) -> dict[str, list[str]]:
        """Returns the names of all that is there."""
        return {
            "endpoints": sorted(self.backend.endpoints),
            "configs": sorted(self.backend.endpoint_configs),
            "models": sorted(self.backend._models),
            "objects": self.objects(),
        }

    def serving(self, endpoint: str) -> dict[str, float]:
        """Returns the weight of each model that an endpoint serves."""
        found = self.backend.endpoints.get(endpoint)
        if found is None or found.endpoint_status == "Failed" or not self._config(found.endpoint_config_name):
            return {}
        config = self._config(found.endpoint_config_name)
        models = {variant["VariantName"]: variant["ModelName"] for variant in config.production_variants}
        return {models[live["VariantName"]]: live["CurrentWeight"] for live in found.production_variants}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        """Answers a request."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        operation = _name_operation(environ, body)
        with self._lock:
            fault = self._meets_fault(operation)
            self.calls.append(operation)
            answer = self._fail(fault, operation, environ) if fault and not fault.after else None
            if answer is None:
                answer = self._answer(operation, environ, body)
                if fault and answer[0] < 400:
                    answer = self._fail(fault, operation, environ)
            self._look_after()
        status, headers, content = answer
        start_response(f"{status} .", list(headers.items()))
        return [content]

    def _meets_fault(self, operation: str) -> Fault | None:
        fault = self.fault
        if fault is None:
            return None
        if len(self.calls) == fault.call:
            fault.operation = operation
            return fault
        return fault if fault.lasts and operation == fault.operation else None

    def _fail(self, fault: Fault, operation: str, environ: dict[str, Any]) -> Answer:
        if fault.kind == "timeout":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return 500, {"Content-Length": "0"}, b""
        status, code, message = FAULTS[fault.kind]
        if operation.startswith("s3:"):
            names = {"throttled": (503, "SlowDown"), "denied": (403, "AccessDenied")}
            status, code = names.get(fault.kind, (status, code))
            content = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
            content = b"" if environ["REQUEST_METHOD"] == "HEAD" else content
            return status, {"Content-Type": "application/xml", "Content-Length": str(len(content))}, content
        return _json({"__type": code, "message": message}, status)

    def _answer(self, operation: str, environ: dict[str, Any], body: bytes) -> Answer:
        service, _, name = operation.partition(":")
        if name == "InvokeEndpoint":
            return self._invoke(environ, body)
        if service == "sagemaker":
            arguments = json.loads(body)
            if made := _MADE.get(name):
                key, kept, what = made
                if arguments[key] in getattr(self.backend, kept):
                    return _refuse(f'Cannot create already existing {what} "{arguments[key]}".')
            mine = getattr(self, f"_{name}", None)
            if mine and (answer := mine(arguments)):
                return answer  # type: ignore[no-any-return]
            answer = self._ask_moto(environ)
            if answer[0] < 400 and (then := getattr(self, f"_after_{name}", None)):
                answer = then(arguments, answer) or answer
            return answer
        if name == "ListServiceQuotas":
            return _json({"Quotas": [{"QuotaName": what, "Value": value} for what, value in self.quotas.items()]})
        return self._ask_moto(environ)

    def _ask_moto(self, environ: dict[str, Any]) -> Answer:
        told: list[Any] = []
        chunks = self._moto(environ, lambda status, headers, *more: told.extend([status, headers]))
        content = b"".join(chunks)
        return int(told[0].split()[0]), dict(told[1]), content

    def _look_after(self) -> None:
        """Notes what no command may ever do: an endpoint whose configuration or models are gone, or without weights."""
        for name, found in self.backend.endpoints.items():
            if found.endpoint_status == "Failed":
                continue
            for config_name in filter(None, [found.endpoint_config_name, self._pending.get(name)]):
                config = self._config(config_name)
                models = [one["ModelName"] for one in config.production_variants] if config else [None]
                if not all(model in self.backend._models for model in models):
                    self.wrong.append(f"{self.calls[-1]}: {name} uses {config_name}, which is not whole")
                for model in filter(None, map(self.backend._models.get, models)):
                    url = model.primary_container["ModelDataUrl"]
                    if url.removeprefix("s3://") not in self.objects():
                        self.wrong.append(f"{self.calls[-1]}: {name} uses {url}, which is gone")
            if found.endpoint_status != "Creating" and not sum(self.serving(name).values()):
                self.wrong.append(f"{self.calls[-1]}: {name} serves nobody")

    def _config(self, name: str) -> Any:
        return self.backend.endpoint_configs.get(name)

    # Endpoints.

    def _begin(self, name: str, status: str, end: Callable[[], None]) -> None:
        self.backend.endpoints[name].endpoint_status = status
        self._changes[name] = (self.looks, end)

    def _DescribeEndpoint(self, arguments: dict[str, Any]) -> Answer | None:
        name = arguments["EndpointName"]
        if name in self._changes:
            left, end = self._changes[name]
            if left:
                self._changes[name] = (left - 1, end)
            else:
                del self._changes[name]
                self._pending.pop(name, None)
                end()
        return None

    def _after_DescribeEndpoint(self, arguments: dict[str, Any], answer: Answer) -> Answer:
        content = json.loads(answer[2])
        if pending := self._pending.get(arguments["EndpointName"]):
            content["PendingDeploymentSummary"] = {"EndpointConfigName": pending}
        if content["EndpointStatus"] in ("Creating", "Failed"):
            content.pop("ProductionVariants", None)
        return _json(content)

    def _CreateEndpoint(self, arguments: dict[str, Any]) -> Answer | None:
        if not self._config(arguments["EndpointConfigName"]):
            return _refuse(f'Could not find endpoint configuration "{arguments["EndpointConfigName"]}".')
        return None

    def _after_CreateEndpoint(self, arguments: dict[str, Any], answer: Answer) -> None:
        name, config = arguments["EndpointName"], arguments["EndpointConfigName"]

        def end() -> None:
            endpoint = self.backend.endpoints[name]
            endpoint.endpoint_status = "Failed" if self._fails(config) else "InService"
            endpoint.failure_reason = self._fails(config) or None

        self._pending[name] = config
        self._begin(name, "Creating", end)

    def _UpdateEndpoint(self, arguments: dict[str, Any]) -> Answer:
        name, config_name = arguments["EndpointName"], arguments["EndpointConfigName"]
        endpoint, config = self.backend.endpoints.get(name), self._config(config_name)
        if endpoint is None or config is None:
            return _refuse(f'Could not find {"endpoint configuration" if endpoint else "endpoint"} "{name}".')
        if endpoint.endpoint_status != "InService":
            return _refuse(f'Cannot update in-progress endpoint "{endpoint.arn}".')
        if any("ServerlessConfig" in one for one in config.production_variants) and any(
            "InstanceType" in one for one in self._config(endpoint.endpoint_config_name).production_variants
        ):
            return _refuse("Cannot update endpoint from instances to serverless.")

        def end() -> None:
            endpoint.endpoint_status, endpoint.failure_reason = "InService", self._fails(config_name) or None
            if not endpoint.failure_reason:
                endpoint.endpoint_config_name = config_name
                endpoint.production_variants = FakeEndpoint._process_production_variants(
                    endpoint, config.production_variants
                )

        self._pending[name] = config_name
        self._begin(name, "Updating", end)
        return _json({"EndpointArn": endpoint.arn})

    def _UpdateEndpointWeightsAndCapacities(self, arguments: dict[str, Any]) -> Answer:
        name = arguments["EndpointName"]
        endpoint = self.backend.endpoints.get(name)
        if endpoint is None or endpoint.endpoint_status != "InService":
            return _refuse(f'Cannot update in-progress endpoint "{name}".')
        desired = {one["VariantName"]: one["DesiredWeight"] for one in arguments["DesiredWeightsAndCapacities"]}
        if not set(desired) <= {one["VariantName"] for one in endpoint.production_variants}:
            return _refuse(f"The variant name(s) {sorted(desired)} are not present within endpoint configuration.")

        def end() -> None:
            endpoint.endpoint_status = "InService"
            for variant in endpoint.production_variants:
                if variant["VariantName"] in desired:
                    variant["CurrentWeight"] = variant["DesiredWeight"] = desired[variant["VariantName"]]

        self._begin(name, "Updating", end)
        return _json({"EndpointArn": endpoint.arn})

    def _DeleteEndpoint(self, arguments: dict[str, Any]) -> Answer | None:
        name = arguments["EndpointName"]
        endpoint = self.backend.endpoints.get(name)
        if endpoint is None:
            return None
        if endpoint.endpoint_status in _BUSY:
            return _refuse(f'Cannot delete in-progress endpoint "{name}".')
        self._begin(name, "Deleting", lambda: self.backend.endpoints.pop(name))
        return _json({})

    def _fails(self, config_name: str) -> str:
        models = {one["ModelName"] for one in self._config(config_name).production_variants}
        failing = [model for model in models if any(bad in model for bad in self.failing)]
        return f"The container of {failing[0]} did not pass the ping health check." if failing else ""

    # Containers.

    def container(self, model_name: str) -> Container:
        """Returns a model's container: started once, of its archive unpacked as SageMaker does."""
        if model_name not in self._containers:
            assert self.start is not None
            described = self.backend._models[model_name].primary_container
            bucket, key = re.fullmatch(r"s3://([^/]+)/(.*)", described["ModelDataUrl"]).groups()  # type: ignore[union-attr]
            folder = self.root / model_name / "opt" / "ml" / "model"
            folder.mkdir(parents=True)
            archive = s3_backends[ACCOUNT]["aws"].buckets[bucket].keys[key].value
            with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
                opened.extractall(folder)
            self._containers[model_name] = self.start(folder, described.get("Environment") or {})
        return self._containers[model_name]

    def _invoke(self, environ: dict[str, Any], body: bytes) -> Answer:
        name = environ["PATH_INFO"].split("/")[2]
        shares = self.serving(name)
        model = max(shares, key=lambda model: shares[model])
        status, content = self.container(model)(body, environ["CONTENT_TYPE"])
        if status != 200:
            return _json({"__type": "ModelError", "message": content.decode()}, 424)
        return 200, {"Content-Type": "application/json"}, content

    def _after_CreateTransformJob(self, arguments: dict[str, Any], answer: Answer) -> None:
        job = self.backend.transform_jobs[arguments["TransformJobName"]]
        job.transform_job_status, job.looks = "InProgress", self.looks

    def _DescribeTransformJob(self, arguments: dict[str, Any]) -> Answer | None:
        job = self.backend.transform_jobs.get(arguments["TransformJobName"])
        if job is None:
            return _refuse("Requested resource not found.", "ResourceNotFound")
        if job.transform_job_status == "InProgress":
            job.looks -= 1
            if job.looks < 0:
                self._transform(job)
        content = {
            "TransformJobName": job.transform_job_name,
            "TransformJobStatus": job.transform_job_status,
            "ModelName": job.model_name,
            "FailureReason": job.failure_reason,
        }
        return _json(content)

    def _transform(self, job: Any) -> None:
        """Asks the container about each object; one that fails makes the job fail, and stops no other."""
        client = boto3.client("s3", region_name=REGION, endpoint_url=self.url)
        source = job.transform_input["DataSource"]["S3DataSource"]
        job.transform_job_status = "Completed"
        self._lock.release()  # The objects come from this server.
        try:
            (first, *names) = json.loads(_read(client, source["S3Uri"]))
            for name in names:
                body = _read(client, first["prefix"] + name)
                assert len(body) <= job.max_payload_in_mb * 1_000_000
                status, content = self.container(job.model_name)(body, job.transform_input["ContentType"])
                if status != 200:
                    job.transform_job_status = "Failed"
                    job.failure_reason = f"{name}: Bad HTTP status received from algorithm: {status}"
                    continue
                bucket, _, key = job.transform_output["S3OutputPath"].removeprefix("s3://").partition("/")
                client.put_object(Bucket=bucket, Key=f"{key}/{name}.out", Body=content)
        finally:
            self._lock.acquire()


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """Runs the services on a port of this machine."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # It tells of each request.
    spare_moto_repetitions()
    services = StandIn()
    server = make_server("127.0.0.1", 0, services, threaded=True, request_handler=MotoRequestHandler)
    services.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield services
    finally:
        server.shutdown()
        thread.join()


def _read(client: Any, url: str) -> bytes:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return client.get_object(Bucket=bucket, Key=key)["Body"].read()  # type: ignore[no-any-return]


def _name_operation(environ: dict[str, Any], body: bytes) -> str:
    """Returns a request's operation as IAM names it."""
    match = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
    service = match[1].replace("-", "") if match else "none"
    if target := environ.get("HTTP_X_AMZN_TARGET") or environ.get("HTTP_X_AMZ_TARGET"):
        return f"{service}:{target.partition('.')[2]}"
    if service == "s3":
        has_key = environ["PATH_INFO"].strip("/").count("/") > 0
        method, query = environ["REQUEST_METHOD"], environ.get("QUERY_STRING", "")
        names = {"HEAD": "GetObject", "GET": "GetObject", "PUT": "PutObject", "POST": "PutObject"}
        if has_key:
            return f"s3:{names.get(method, 'DeleteObject')}"
        return "s3:GetBucketLocation" if "location" in query else "s3:ListBucket"
    if environ["PATH_INFO"].endswith("/invocations"):
        return f"{service}:InvokeEndpoint"
    action = re.search(rb"Action=(\w+)", body)
    return f"{service}:{action[1].decode() if action else environ['PATH_INFO']}"


def _json(content: dict[str, Any], status: int = 200) -> Answer:
    body = json.dumps(content).encode()
    return status, {"Content-Type": "application/x-amz-json-1.1", "Content-Length": str(len(body))}, body


def _refuse(message: str, code: str = "ValidationException") -> Answer:
    return _json({"__type": code, "message": message}, 400)


BASE = {
    "region": REGION,
    "endpoint": "digits",
    "role": f"arn:aws:iam::{ACCOUNT}:role/runs",
    "image": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/classifier:v1-serving",
    "artifacts": "s3://bucket/models",
}
"""Settings that have no default."""


@contextmanager
def on_stand_in() -> Iterator[tuple[StandIn, Aws]]:
    """Runs the services with an empty bucket, and gives what sends calls there: without the waits of the real one."""
    with stand_in() as services, pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("AWS_ENDPOINT_URL", services.url),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ):
            patch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE"):
            patch.delenv(name, raising=False)
        patch.setattr(sending, "TRIES", 2)
        patch.setattr(standard.ExponentialBackoff, "delay_amount", lambda *arguments: 0)
        for module in (waiting, transform):
            patch.setattr(module, "POLL_SECONDS", 0)
        moto_api_backend.reset()  # What an earlier file left in this process.
        aws = Aws(REGION)
        place = {"LocationConstraint": REGION}
        aws.call("s3", "create_bucket", Bucket="bucket", CreateBucketConfiguration=place)
        yield services, aws


def make_version(folder: Path, version: int, content: str = "") -> PushedModel:
    """Writes what looks like a pushed version from outside."""
    place = folder / str(version)
    (place / "variables").mkdir(parents=True)
    (place / "saved_model.pb").write_text(content or f"model {version}")
    (place / "variables" / "variables.index").write_text("variables")
    return read_model(str(place))
