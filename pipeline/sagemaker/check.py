"""Whether a version can be served on SageMaker, as far as Amazon tells before it is tried; reads only."""

import json
import re
from collections.abc import Callable, Iterator

from data.errors import Fault, UserError
from pipeline.finding import Finding, Level
from pipeline.sagemaker.archive import PushedModel
from pipeline.sagemaker.calls import Absent, Calls, pages
from pipeline.sagemaker.deployment import check_size
from pipeline.sagemaker.endpoint import Endpoint
from pipeline.sagemaker.limits import (
    ANSWER_SECONDS,
    REQUEST_BYTES,
    SERVERLESS_IMAGE_BYTES,
    SERVERLESS_REQUEST_BYTES,
    SERVERLESS_STARTUP_SECONDS,
)
from pipeline.sagemaker.resources import split_url
from pipeline.sagemaker.settings import AwsSettings
from pipeline.serving.limits import MEGABYTE

_SERVICE = "sagemaker.amazonaws.com"


def run_checks(calls: Calls, settings: AwsSettings, model: PushedModel, *, is_transform: bool) -> Iterator[Finding]:
    """Yields what is found.

    Args:
        calls: to AWS.
        settings: what is to be made.
        model: which version.
        is_transform: whether for a transform job, or else for an endpoint.
    """
    yield from _check_model(settings, model, is_transform)
    credentials = list(_asked("credentials", lambda: _check_credentials(calls, settings)))
    yield from credentials
    if any(finding.level == "error" for finding in credentials):
        for subject in ("region", "role", "bucket", "image", "quota"):
            yield Finding("skipped", subject, "nothing can be asked without credentials")
        return
    yield from _asked("region", lambda: _check_region(calls, settings))
    yield from _asked("role", lambda: _check_role(calls, settings))
    for url in _buckets(settings, is_transform):
        yield from _asked("bucket", lambda url=url: _check_bucket(calls, settings, url))  # type: ignore[misc]
    yield from _asked("image", lambda: _check_image(calls, settings, is_transform))
    yield from _asked("quota", lambda: _check_quota(calls, settings, is_transform))


def _asked(subject: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yields what a check finds; what is missing or not allowed stops no other."""
    try:
        yield from check()
    except Absent as error:
        yield Finding("error", subject, str(error))
    except (UserError, Fault) as error:
        level: Level = "error" if subject in ("credentials", "region") else "warning"
        yield Finding(level, subject, f"could not be asked: {error}")


def _check_model(settings: AwsSettings, model: PushedModel, is_transform: bool) -> Iterator[Finding]:
    try:
        check_size(settings, model)
    except UserError as error:
        yield Finding("error", "model", str(error))
    else:
        text = f"version {model.version}, {model.size_bytes / MEGABYTE:,.0f} MB: {model.folder}"
        yield Finding("ok", "model", text)
    if is_transform:
        return
    serverless = settings.serverless.memory_mb is not None
    most = SERVERLESS_REQUEST_BYTES if serverless else REQUEST_BYTES
    start = SERVERLESS_STARTUP_SECONDS.most if serverless else settings.startup_seconds
    text = f"up to {most.most / MEGABYTE:.1f} MB and {ANSWER_SECONDS.most} s each; {start} s for a container to start"
    yield Finding("ok", "requests", text)


def _check_credentials(calls: Calls, settings: AwsSettings) -> Iterator[Finding]:
    identity = calls.call("sts", "get_caller_identity")
    account, role_account = str(identity["Account"]), settings.role.split(":")[4]
    if account != role_account:
        yield Finding(
            "error", "credentials", f"are of account {account}, but the role is of {role_account}; log in to that one"
        )
    else:
        yield Finding("ok", "credentials", f"account {account}, {identity['Arn']}")


def _check_region(calls: Calls, settings: AwsSettings) -> Iterator[Finding]:
    state = Endpoint(calls, settings.endpoint, settings.wait_minutes, print).look()
    there = f"endpoint {settings.endpoint} is {state.status}" if state else f"no endpoint {settings.endpoint} yet"
    yield Finding("ok", "region", f"SageMaker answers in {settings.region}; {there}")


def _check_role(calls: Calls, settings: AwsSettings) -> Iterator[Finding]:
    answer = calls.call("iam", "get_role", RoleName=settings.role.rpartition("/")[2])
    if _SERVICE in json.dumps(answer["Role"]["AssumeRolePolicyDocument"]):
        yield Finding("ok", "role", f"{settings.role} may be taken by SageMaker")
    else:
        yield Finding("error", "role", f"{settings.role} does not trust {_SERVICE}; docs/aws.md has the trust policy")


def _buckets(settings: AwsSettings, is_transform: bool) -> list[str]:
    urls = [settings.artifacts]
    if is_transform:
        urls += [url for url in (settings.transform.input, settings.transform.output) if url]
    return list(dict.fromkeys(split_url(url)[0] for url in urls))


def _check_bucket(calls: Calls, settings: AwsSettings, bucket: str) -> Iterator[Finding]:
    region = calls.call("s3", "get_bucket_location", Bucket=bucket).get("LocationConstraint") or "us-east-1"
    if region != settings.region:
        text = f"s3://{bucket} is in {region}, but SageMaker takes models of its own region, {settings.region}"
        yield Finding("error", "bucket", text)
    else:
        yield Finding("ok", "bucket", f"s3://{bucket} is in {region}")


def _check_image(calls: Calls, settings: AwsSettings, is_transform: bool) -> Iterator[Finding]:
    registry, _, rest = settings.image.partition("/")
    name, separator, version = re.split(r"(@|:)", rest, maxsplit=1)
    answer = calls.call(
        "ecr",
        "describe_images",
        registryId=registry.partition(".")[0],
        repositoryName=name,
        imageIds=[{"imageDigest" if separator == "@" else "imageTag": version}],
    )
    found = answer["imageDetails"][0]
    if "vnd.oci." in (kind := found.get("imageManifestMediaType", "")):
        text = f"{settings.image} is {kind}, which SageMaker has refused; docs/aws.md builds it in docker's own format"
        yield Finding("warning", "image", text)
    size, most = int(found.get("imageSizeInBytes", 0)), SERVERLESS_IMAGE_BYTES.most
    if settings.serverless.memory_mb is not None and not is_transform and size > most:
        text = f"{settings.image} is {size / MEGABYTE:,.0f} MB; a serverless endpoint takes {most / MEGABYTE:,.0f} MB"
        yield Finding("error", "image", text)
    else:
        yield Finding("ok", "image", f"{settings.image} is there, {size / MEGABYTE:,.0f} MB packed")


def _check_quota(calls: Calls, settings: AwsSettings, is_transform: bool) -> Iterator[Finding]:
    if settings.serverless.memory_mb is not None and not is_transform:
        yield Finding("skipped", "quota", "that of serverless endpoints is not asked for; the console shows it")
        return
    place = settings.transform if is_transform else settings
    count, running = place.instance_count, 0
    name = f"{place.instance_type} for {'transform job' if is_transform else 'endpoint'} usage"
    if not is_transform:
        state = Endpoint(calls, settings.endpoint, settings.wait_minutes, print).look()
        running = sum(
            variant.instances or 0
            for variant in (state.variants if state else ())
            if variant.spec.get("InstanceType") == settings.instance_type
        )
    quota = next(
        (
            found["Value"]
            for page in pages(calls, "service-quotas", "list_service_quotas", ServiceCode="sagemaker")
            for found in page.get("Quotas", ())
            if found["QuotaName"] == name
        ),
        None,
    )
    if quota is None:
        yield Finding("warning", "quota", f"{name}: is not listed; is {place.instance_type} an instance type there?")
    elif quota < count:
        text = f"{name} is {quota:g}, but {count} are asked for; request more in the console (Service Quotas)"
        yield Finding("error", "quota", text)
    elif quota < count + running:
        text = f"{name} is {quota:g}: during the change {running} old and {count} new ones run at a time"
        yield Finding("warning", "quota", text)
    else:
        yield Finding("ok", "quota", f"{name} is {quota:g}, of which {count + running} are needed")
