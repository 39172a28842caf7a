"""A batch transform: the images of a folder in S3, asked of a version on machines of their own, results back to S3."""

import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data.errors import Fault, UserError
from data.folder_layout import IMAGE_SUFFIXES
from pipeline.sagemaker.archive import PushedModel
from pipeline.sagemaker.calls import Calls, find, pages
from pipeline.sagemaker.deployment import make_model
from pipeline.sagemaker.endpoint import POLL_SECONDS, Tell, UnderWay
from pipeline.sagemaker.limits import TRANSFORM_PAYLOAD_MB, TRANSFORM_RETRIES
from pipeline.sagemaker.resources import Made, make_hash, make_tags, plan_model, split_url
from pipeline.sagemaker.settings import AwsSettings
from pipeline.serving.limits import DEFAULT_MEGABYTES, MEGABYTE

CONTENT_TYPE = "image/*"
RESULT_SUFFIX = ".out"
_ENDED_BADLY = ("Failed", "Stopped")
_SHOWN = 5
_ATTEMPTS = 100


@dataclass(frozen=True)
class Image:
    """An image in S3.

    Attributes:
        name: from the folder of all images.
        size_bytes: of the file.
        tag: what S3 calls its content.
    """

    name: str
    size_bytes: int
    tag: str


@dataclass(frozen=True)
class Job:
    """A transform job.

    Attributes:
        name: at SageMaker.
        output: where its results are.
        images: that it is asked about.
        is_new: whether it was started now.
    """

    name: str
    output: str
    images: tuple[Image, ...]
    is_new: bool


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        status: SageMaker's: `Completed`, `Failed`, `Stopped`.
        reason: why it failed; else empty.
        results: how many there are.
        missing: names of images without one.
    """

    status: str
    reason: str
    results: int
    missing: tuple[str, ...]


def start_transform(calls: Calls, settings: AwsSettings, model: PushedModel, tell: Tell) -> Job:
    """Starts a job, or finds the one that was started of the same images, model and settings.

    Raises:
        UserError | Fault: it was not started; what was made for it was taken back.
    """
    assert settings.transform.input is not None  # `load_settings` looked.
    assert settings.transform.output is not None
    source = settings.transform.input.rstrip("/") + "/"
    images = list_images(calls, source, tell)
    payload = plan_payload(source, images, settings.transform.max_concurrent)
    planned = plan_model(settings, model)
    made = Made()
    try:
        make_model(calls, settings, model, planned, made, tell)
        content = [source, settings.transform.model_dump(), planned["ModelName"]]
        base = f"{settings.endpoint}-{make_hash([*content, [(image.name, image.tag) for image in images]])}"
        name, is_there = _find_name(calls, base)
        output = f"{settings.transform.output.rstrip('/')}/{name}"
        if not is_there:
            _start(calls, settings, planned["ModelName"], name, source, images, payload, output, made)
    except UnderWay:
        raise
    except (UserError, Fault) as error:
        raise made.take_back(error) from error
    return Job(name, output, tuple(images), not is_there)


def list_images(calls: Calls, source: str, tell: Tell) -> list[Image]:
    """Returns the images below a folder, at any depth; what is none, by its name, is left out and told.

    Raises:
        UserError: there are none.
    """
    bucket, prefix = split_url(source)
    images, others = [], []
    for page in pages(calls, "s3", "list_objects_v2", Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", ()):
            name = found["Key"].removeprefix(prefix)
            if name.lower().endswith(IMAGE_SUFFIXES) and found["Size"]:
                images.append(Image(name, found["Size"], found["ETag"]))
            elif not found["Key"].endswith("/"):
                others.append(name)
    if others:
        tell(f"left out: {_list_some(others)}, which are no images or empty")
    if not images:
        raise UserError(f"transform.input {source}: holds no images ({', '.join(IMAGE_SUFFIXES)}); give another folder")
    return images


def plan_payload(source: str, images: Sequence[Image], max_concurrent: int) -> int:
    """Returns MaxPayloadInMB: of the largest image.

    Raises:
        UserError: an image is larger than the server takes, or than SageMaker sends so many of at a time.
    """
    largest = max(images, key=lambda image: image.size_bytes)
    megabytes = math.ceil(largest.size_bytes / MEGABYTE)
    if largest.size_bytes > DEFAULT_MEGABYTES * MEGABYTE:
        raise UserError(
            f"{source}{largest.name}: is {largest.size_bytes / MEGABYTE:.1f} MB, and the server takes"
            f" {DEFAULT_MEGABYTES} MB; make it smaller, or move it away"
        )
    if megabytes * max_concurrent > TRANSFORM_PAYLOAD_MB.most:
        raise UserError(
            f"transform.max_concurrent is {max_concurrent}, but {source}{largest.name} is"
            f" {largest.size_bytes / MEGABYTE:.1f} MB, and all that one machine is asked about at a time may be"
            f" {TRANSFORM_PAYLOAD_MB.most} MB; use at most {TRANSFORM_PAYLOAD_MB.most // megabytes}"
        )
    return megabytes


def follow_transform(calls: Calls, settings: AwsSettings, job: Job, tell: Tell) -> Outcome:
    """Returns how a job ended, once it has, and which images have no result.

    Raises:
        UnderWay: it takes longer than is waited.
        UserError | Fault: it cannot be asked about; it goes on.
    """
    deadline, told = time.monotonic() + settings.transform_minutes * 60, ""
    while True:
        answer = calls.call("sagemaker", "describe_transform_job", TransformJobName=job.name)
        status = answer["TransformJobStatus"]
        if status not in ("InProgress", "Stopping"):
            break
        if status != told:
            told = status
            tell(f"job {job.name}: {status} ...")
        if time.monotonic() >= deadline:
            raise UnderWay(
                f"job {job.name}: still {status} after {settings.transform_minutes:g} minutes; it goes on: run the"
                " command again to follow it"
            )
        time.sleep(POLL_SECONDS)
    bucket, prefix = split_url(f"{job.output}/")
    results = {
        found["Key"].removeprefix(prefix).removesuffix(RESULT_SUFFIX)
        for page in pages(calls, "s3", "list_objects_v2", Bucket=bucket, Prefix=prefix)
        for found in page.get("Contents", ())
        if found["Key"].endswith(RESULT_SUFFIX)
    }
    # Which folders SageMaker keeps its pages leave open: without them a file's own name tells, if as many have it.
    there = Counter(map(_last, results))
    wanted = Counter(_last(image.name) for image in job.images)
    absent = (image.name for image in job.images if image.name not in results)
    missing = tuple(name for name in absent if there[_last(name)] < wanted[_last(name)])
    return Outcome(status, " ".join(str(answer.get("FailureReason") or "").split()), len(results), missing)


def describe_outcome(job: Job, outcome: Outcome) -> str:
    """Returns one line for people."""
    lacking = f"; no result of {_list_some(outcome.missing)}" if outcome.missing else ""
    why = f" ({outcome.reason})" if outcome.reason else ""
    results = f"{outcome.results} of {len(job.images)} results in {job.output}"
    return f"job {job.name}: {outcome.status}{why}, {results}{lacking}"


def _find_name(calls: Calls, base: str) -> tuple[str, bool]:
    """Returns the name of the job that runs or is done, or the first that is free after those that ended badly."""
    for attempt in range(1, _ATTEMPTS):
        name = f"{base}-{attempt}"
        answer = find(calls, "sagemaker", "describe_transform_job", TransformJobName=name)
        if answer is None:
            return name, False
        if answer["TransformJobStatus"] not in _ENDED_BADLY:
            return name, True
    raise UserError(f"job {base}: ended badly {_ATTEMPTS - 1} times; change something before it is tried again")


def _start(
    calls: Calls,
    settings: AwsSettings,
    model_name: str,
    name: str,
    source: str,
    images: Sequence[Image],
    payload: int,
    output: str,
    made: Made,
) -> None:
    bucket, key = split_url(f"{settings.artifacts}/transforms/{name}.manifest")
    # Names the images: a folder's other files, and what a console leaves there, would be sent as well.
    manifest = json.dumps([{"prefix": source}, *(image.name for image in images)])
    made.noting(f"s3://{bucket}/{key}", lambda: calls.call("s3", "delete_object", Bucket=bucket, Key=key))()
    calls.call("s3", "put_object", Bucket=bucket, Key=key, Body=manifest.encode())
    arguments: dict[str, Any] = {
        "TransformJobName": name,
        "ModelName": model_name,
        "MaxConcurrentTransforms": settings.transform.max_concurrent,
        "MaxPayloadInMB": payload,
        "ModelClientConfig": {"InvocationsMaxRetries": TRANSFORM_RETRIES.most},
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "ManifestFile", "S3Uri": f"s3://{bucket}/{key}"}},
            "ContentType": CONTENT_TYPE,
            "SplitType": "None",
        },
        "TransformOutput": {"S3OutputPath": output, "Accept": "application/json", "AssembleWith": "None"},
        "TransformResources": {
            "InstanceType": settings.transform.instance_type,
            "InstanceCount": settings.transform.instance_count,
        },
        "Tags": make_tags(settings),
    }
    try:
        calls.call("sagemaker", "create_transform_job", **arguments)
    except (UserError, Fault) as error:  # Its answer may have been lost.
        try:
            is_there = find(calls, "sagemaker", "describe_transform_job", TransformJobName=name)
        except (UserError, Fault):
            raise UnderWay(f"{error}: whether job {name} runs cannot be told; run the command again") from error
        if not is_there:
            raise


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _list_some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
