"""What a deployment is made of, each named after what it holds: made again, it is found, and nothing is doubled."""

import datetime
import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.errors import Fault, UserError
from pipeline.sagemaker.archive import FILE, PushedModel, write_archive
from pipeline.sagemaker.calls import Calls, ensure, find, is_seen, pages
from pipeline.sagemaker.settings import ROLLED_BACK_TAG, AwsSettings

OPTIONS_VARIABLE = "SERVE_OPTIONS"
"""Of the container's environment: options of pipeline.serve, as pipeline/image/serve.sh reads them."""

_HASH_CHARACTERS = 10


@dataclass
class Made:
    """What a command has made, which it takes back where it fails, the last first."""

    steps: list[tuple[str, Callable[[], Any]]] = field(default_factory=list)

    def noting(self, what: str, take_back: Callable[[], Any]) -> Callable[[], None]:
        """Returns what notes that something is about to be made; to take back what was not made changes nothing."""
        return lambda: self.steps.append((what, take_back))

    def take_back(self, error: Exception) -> Exception:
        """Removes all of it, and returns the error to raise: it names what could not be removed."""
        left = []
        for what, step in reversed(self.steps):
            try:
                step()
            except (UserError, Fault):
                left.append(what)
        if not left:
            return error
        return type(error)(f"{error}; {' and '.join(left)} could not be removed: deploy again, or delete")


@dataclass(frozen=True)
class ServedModel:
    """A SageMaker model of ours.

    Attributes:
        name: at SageMaker.
        version: the pushed version's number.
    """

    name: str
    version: int


def parse_model(endpoint: str, name: str) -> ServedModel | None:
    """Returns which version a model of an endpoint is, or None of one that is not ours."""
    match = re.fullmatch(rf"{re.escape(endpoint)}-([0-9]{{1,11}})-[0-9a-f]{{{_HASH_CHARACTERS}}}", name)
    return ServedModel(name, int(match[1])) if match else None


def is_config(endpoint: str, name: str) -> bool:
    """Says whether a configuration of an endpoint is one of ours."""
    return re.fullmatch(rf"{re.escape(endpoint)}-[0-9a-f]{{{_HASH_CHARACTERS}}}", name) is not None


def make_hash(content: Any) -> str:
    """Returns what a name holds of what it names."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:_HASH_CHARACTERS]


def split_url(url: str) -> tuple[str, str]:
    """Returns bucket and key of `s3://BUCKET/KEY`."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key


def make_tags(settings: AwsSettings) -> list[dict[str, str]]:
    """Returns the tags as SageMaker takes them."""
    return [{"Key": key, "Value": value} for key, value in sorted(settings.tags.items())]


def ensure_archive(calls: Calls, settings: AwsSettings, model: PushedModel, made: Made) -> None:
    """Puts a version into S3 unless it is there."""
    bucket, key = split_url(f"{settings.artifacts}/{model.key}")

    def upload() -> None:
        with tempfile.TemporaryDirectory(prefix="model-") as folder:
            path = Path(folder, FILE)
            write_archive(model, path)
            calls.call("s3", "upload_file", Filename=str(path), Bucket=bucket, Key=key)

    def take_back() -> None:
        # What another endpoint was given meanwhile has its archive here, too.
        if not any(url == f"s3://{bucket}/{key}" for url in _list_archives(calls, model.version)):
            calls.call("s3", "delete_object", Bucket=bucket, Key=key)

    ensure(
        lambda: find(calls, "s3", "head_object", Bucket=bucket, Key=key),
        upload,
        made.noting(f"s3://{bucket}/{key}", take_back),
    )


def _list_archives(calls: Calls, version: int) -> Iterator[str]:
    """Yields where the archives are of a version's models, of whatever endpoint."""
    for page in pages(calls, "sagemaker", "list_models", NameContains=f"-{version}-"):
        for name in (found["ModelName"] for found in page.get("Models", ())):
            if re.fullmatch(rf".+-{version}-[0-9a-f]{{{_HASH_CHARACTERS}}}", name):
                answer = find(calls, "sagemaker", "describe_model", ModelName=name) or {}
                yield answer.get("PrimaryContainer", {}).get("ModelDataUrl", "")


def plan_model(settings: AwsSettings, model: PushedModel) -> dict[str, Any]:
    """Returns the arguments of `create_model`; the name follows from all others that count."""
    environment = {OPTIONS_VARIABLE: settings.server_options} if settings.server_options else {}
    content = {
        "PrimaryContainer": {
            "Image": settings.image,
            "ModelDataUrl": f"{settings.artifacts}/{model.key}",
            "Environment": environment,
        },
        "ExecutionRoleArn": settings.role,
    }
    name = f"{settings.endpoint}-{model.version}-{make_hash(content)}"
    return {"ModelName": name, **content, "Tags": make_tags(settings)}


def ensure_model(calls: Calls, planned: dict[str, Any], made: Made) -> None:
    """Makes a SageMaker model unless it is there."""
    name = planned["ModelName"]

    def take_back() -> None:
        # Another command may have found it here, and serve it.
        if name not in _list_served(calls, name.rsplit("-", 2)[0]):
            delete_model(calls, name)

    ensure(
        lambda: find(calls, "sagemaker", "describe_model", ModelName=name),
        lambda: calls.call("sagemaker", "create_model", **planned),
        made.noting(f"model {name}", take_back),
    )


def plan_config(endpoint: str, variants: list[dict[str, Any]], tags: list[dict[str, str]]) -> dict[str, Any]:
    """Returns the arguments of `create_endpoint_config`; the name follows from the variants."""
    name = f"{endpoint}-{make_hash(variants)}"
    return {"EndpointConfigName": name, "ProductionVariants": variants, "Tags": tags}


def ensure_config(calls: Calls, planned: dict[str, Any], made: Made) -> None:
    """Makes an endpoint's configuration unless it is there."""
    name = planned["EndpointConfigName"]

    def there() -> object:
        return find(calls, "sagemaker", "describe_endpoint_config", EndpointConfigName=name)

    ensure(
        there,
        lambda: calls.call("sagemaker", "create_endpoint_config", **planned),
        made.noting(f"configuration {name}", lambda: delete_config(calls, name)),
    )
    # An endpoint that is made at once may not see it yet: SageMaker's page says to ask for it once before.
    is_seen(there)


def list_configs(calls: Calls, endpoint: str) -> Iterator[str]:
    """Yields the names of an endpoint's configurations, of all those that there were."""
    for page in pages(calls, "sagemaker", "list_endpoint_configs", NameContains=f"{endpoint}-"):
        for config in page.get("EndpointConfigs", ()):
            if is_config(endpoint, config["EndpointConfigName"]):
                yield config["EndpointConfigName"]


def list_models(calls: Calls, endpoint: str) -> Iterator[ServedModel]:
    """Yields an endpoint's models, of all those that there were and of transform jobs."""
    for page in pages(calls, "sagemaker", "list_models", NameContains=f"{endpoint}-"):
        for found in page.get("Models", ()):
            if model := parse_model(endpoint, found["ModelName"]):
                yield model


@dataclass(frozen=True)
class PastModel(ServedModel):
    """A model that an endpoint served once, or serves.

    Attributes:
        url: of its archive.
        arn: of the model.
        created: when the model was made.
        rolled_back: why, by whom and when; empty of one that was not.
    """

    url: str
    arn: str
    created: datetime.datetime
    rolled_back: str


def read_history(calls: Calls, endpoint: str) -> list[PastModel]:
    """Returns the models that configurations of an endpoint name, the newest version first: what it served.

    Of one version, deployed with several images or options, the latest of these comes first.
    """
    found = []
    for name in _list_served(calls, endpoint):
        model, answer = parse_model(endpoint, name), find(calls, "sagemaker", "describe_model", ModelName=name)
        if model and answer:
            tags = read_tags(calls, answer["ModelArn"])
            url = answer["PrimaryContainer"]["ModelDataUrl"]
            why = tags.get(ROLLED_BACK_TAG, "")
            found.append(PastModel(name, model.version, url, answer["ModelArn"], answer["CreationTime"], why))
    return sorted(found, key=lambda model: (model.version, model.created), reverse=True)


def _list_served(calls: Calls, endpoint: str) -> set[str]:
    """Returns the names of the models in an endpoint's configurations."""
    names: set[str] = set()
    for config in list_configs(calls, endpoint):
        described = find(calls, "sagemaker", "describe_endpoint_config", EndpointConfigName=config) or {}
        names |= {variant["ModelName"] for variant in described.get("ProductionVariants", ())}
    return names


def read_tags(calls: Calls, arn: str) -> dict[str, str]:
    """Returns the tags of anything."""
    return {
        tag["Key"]: tag["Value"]
        for page in pages(calls, "sagemaker", "list_tags", ResourceArn=arn)
        for tag in page.get("Tags", ())
    }


def delete_model(calls: Calls, name: str) -> None:
    """Deletes a SageMaker model; one that is not there is no error."""
    find(calls, "sagemaker", "delete_model", ModelName=name)


def delete_config(calls: Calls, name: str) -> None:
    """Deletes a configuration; one that is not there is no error."""
    find(calls, "sagemaker", "delete_endpoint_config", EndpointConfigName=name)


def check_ours(endpoint: str, config: str) -> None:
    """Looks whether an endpoint is one of this command.

    Raises:
        UserError: somebody else made it.
    """
    if not is_config(endpoint, config):
        raise UserError(
            f"endpoint {endpoint}: has the configuration {config}, which pipeline.aws did not make; choose another name"
        )
