"""Whether the pipeline can run on Vertex AI, as far as this machine can tell: one line a finding, with what to do."""

import importlib.metadata
import json
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from components.lane import installed_lane, lane_of
from pipeline.finding import Finding
from pipeline.lanes import LANES
from pipeline.locks import locked_versions
from pipeline.vertex.endpoint_settings import find_serving_image
from pipeline.vertex.machines import is_listed
from pipeline.vertex.settings import VertexSettings
from pipeline.vertex.sources import make_sources_hash
from pipeline.vertex.worker_pools import parse_custom_job, trainer_image

SOURCES_LABEL = "sources-hash"
"""The image's label that holds `make_sources_hash()` of what it was built from."""
LANE_LABEL = "lane"
"""The image's label that holds the lane whose locks it was built from."""

_TASK_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


def check_versions(installed: Mapping[str, str] | None = None, python: str | None = None) -> Iterator[Finding]:
    """Holds the installed versions against the tested set of their lane.

    Args:
        installed: package to version; None looks at this environment.
        python: of Python; None takes the running one.
    """
    python = python or platform.python_version()
    found = _version("tfx") if installed is None else installed.get("tfx")
    lane = lane_of(found) if found else None
    if lane not in LANES:
        yield Finding("error", "tfx", f"is {found or 'not installed'}; make an environment of {' or '.join(LANES)}")
        return
    pythons = [".".join(map(str, version)) for version in sorted(LANES[lane].pythons)]
    if python.rpartition(".")[0] not in pythons:
        text = f"is {python}, but {lane} needs {' or '.join(pythons)}; make the environment with it"
        yield Finding("error", "python", text)
    wrong = False
    tested = locked_versions(lane)
    for package, wanted in tested.items():
        found = _version(package) if installed is None else installed.get(package)
        if found is None:
            wrong = True
            yield Finding("error", package, f"is not installed; install {wanted}")
        elif found != wanted:
            wrong = True
            yield Finding("error", package, f"is {found}, but the tested set has {wanted}; install that")
    if not wrong:
        yield Finding("ok", "versions", f"the tested set: {', '.join(f'{k} {v}' for k, v in tested.items())}")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_names(job: Mapping[str, Any], settings: VertexSettings) -> Iterator[Finding]:
    """Holds names and paths against Vertex AI's and Cloud Storage's rules."""
    problems = []
    for task in job["pipelineSpec"]["root"]["dag"]["tasks"]:
        if not _TASK_NAME.fullmatch(task):
            problems.append(("task", f"is called {task!r}; use up to 128 letters, digits, '.', '_' and '-'"))
    bucket = settings.pipeline_root.removeprefix("gs://").partition("/")[0]
    if ".." in bucket or "google" in bucket or bucket.startswith("goog") or re.fullmatch(r"[0-9.]+", bucket):
        problems.append(("pipeline_root", f"has the bucket {bucket}, a name that Cloud Storage does not allow"))
    if "/" not in settings.pipeline_root.removeprefix("gs://"):
        yield Finding(
            "warning", "pipeline_root", f"is a whole bucket, {settings.pipeline_root}; give it a folder there"
        )
    for subject, text in problems:
        yield Finding("error", subject, text)
    if not problems:
        yield Finding("ok", "names", f"{len(job['pipelineSpec']['root']['dag']['tasks'])} tasks")


def check_spec(job: Mapping[str, Any]) -> Iterator[Finding]:
    """Parses the spec with KFP's own types, unknown fields refused, and looks whether its graph holds together."""
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    try:
        spec = json_format.ParseDict(dict(job["pipelineSpec"]), pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(dict(job), pipeline_spec_pb2.PipelineJob())
        deployment = json_format.MessageToDict(spec.deployment_spec)
        json_format.ParseDict(deployment, pipeline_spec_pb2.PipelineDeploymentConfig())
    except json_format.ParseError as error:
        yield Finding("error", "spec", f"is not what KFP understands: {error}")
        return
    tasks = spec.root.dag.tasks
    problems = []
    for name, task in tasks.items():
        component = spec.components.get(task.component_ref.name)
        if component is None or component.executor_label not in deployment["executors"]:
            problems.append(f"task {name} has no executor")
        producers = {a.task_output_artifact.producer_task for a in task.inputs.artifacts.values()} - {""}
        problems.extend(
            f"task {name} needs {other}, which is no task"
            for other in sorted(producers | set(task.dependent_tasks))
            if other not in tasks
        )
    for problem in problems:
        yield Finding("error", "spec", problem)
    if not problems:
        yield Finding(
            "ok", "spec", f"{len(tasks)} tasks, schema {spec.schema_version}, {len(json.dumps(job)) // 1024} KiB"
        )


def check_jobs(job: Mapping[str, Any]) -> Iterator[Finding]:
    """Parses the Trainer's job, as it stands in the spec, with Vertex AI's own types."""
    trainer = job["pipelineSpec"]["root"]["dag"]["tasks"].get("Trainer", {})
    value = trainer.get("inputs", {}).get("parameters", {}).get("custom_config", {})
    text = value.get("runtimeValue", {}).get("constant", "{}")
    custom_job = dict(json.loads(text).get("ai_platform_training_args") or {})
    if not custom_job:
        yield Finding("ok", "Trainer", "trains in its own task")
        return
    custom_job.pop("project", None)
    try:
        parsed = parse_custom_job(custom_job)
    except ValueError as error:
        yield Finding("error", "Trainer", f"its job is not what Vertex AI understands: {error}")
        return
    pool, machines = (
        parsed.job_spec.worker_pool_specs[0],
        sum(p.replica_count for p in parsed.job_spec.worker_pool_specs),
    )
    shown = f"{machines} x {pool.machine_spec.machine_type}" if machines > 1 else pool.machine_spec.machine_type
    yield Finding("ok", "Trainer", f"CustomJob on {shown} with {pool.container_spec.image_uri}")


def check_memory(settings: VertexSettings, preset: str) -> Iterator[Finding]:
    """Says how it can be known whether a step fits into the TPU's memory: that takes its compiler and minutes."""
    if settings.trainer.tpu:
        yield Finding(
            "skipped",
            "memory",
            f"whether a training step fits into {settings.trainer.tpu} tells, with the same settings: "
            f"python -m pipeline.preflight --tpu {settings.trainer.tpu} --preset {preset}",
        )


def check_gpus(settings: VertexSettings) -> Iterator[Finding]:
    """Names GPUs whose machines and counts are not known here."""
    asked = {"trainer.gpu": settings.trainer.gpu, "endpoint.accelerator_type": settings.endpoint.accelerator_type}
    for setting, text in asked.items():
        kind = (text or "").partition(":")[0].strip().upper()
        if kind and not is_listed(kind):
            text = f"is {kind}, which is not known here: Vertex AI tells whether the machine carries it"
            yield Finding("warning", setting, text)


def check_server(settings: VertexSettings) -> Iterator[Finding]:
    """Looks at what an endpoint is served by: the pipeline's own image, or the TensorFlow of another server."""
    endpoint = settings.endpoint
    if not endpoint.name:
        return
    image = find_serving_image(endpoint, settings.image)
    yield Finding("ok", "endpoint", f"{endpoint.name} is {endpoint.kind} where it is new, served by {image}")
    if endpoint.container == "pipeline":
        labels = _image_labels(image)
        if labels is None:
            yield Finding("skipped", "endpoint", f"{image} is not on this machine; build it: make image STAGES=serving")
        elif labels.get(LANE_LABEL) != installed_lane():
            text = (
                f"is of the lane {labels.get(LANE_LABEL)}, and {installed_lane()} exports the model; build and push it"
            )
            yield Finding("error", "endpoint", f"{image} {text} with make image STAGES=serving LANE={installed_lane()}")
        return
    # An older TensorFlow than that which exports may lack operations.
    named = re.search(r"/tf2-[a-z]+\.([0-9]+)-([0-9]+)[:@]|:([0-9]+)\.([0-9]+)", image)
    exporter = locked_versions(installed_lane())["tensorflow"]
    found = tuple(int(part) for part in named.groups() if part) if named else None
    if found and found < tuple(map(int, exporter.split(".")[:2])):
        yield Finding(
            "warning",
            "endpoint",
            f"serving_image has TensorFlow {found[0]}.{found[1]}, and {exporter} exports the model: that an older one "
            "reads it was not tried; give endpoint.serving_image a copy of tensorflow/serving of such a version",
        )


def check_image(settings: VertexSettings) -> Iterator[Finding]:
    """Looks at the images of the tasks and of the Trainer's job: their names, and what they hold where an engine is."""
    for image in dict.fromkeys((settings.image, trainer_image(settings))):
        if image.endswith(":latest") or (":" not in image.rpartition("/")[2] and "@" not in image):
            yield Finding(
                "warning", "image", f"{image} has no tag of its own: steps of one run may run different code; tag it"
            )
        yield _check_sources(image)


def _check_sources(image: str) -> Finding:
    labels = _image_labels(image)
    if labels is None:
        text = f"{image} is not on this machine; its tasks compare their sources with the spec's when they start"
        return Finding("skipped", "image", text)
    for label in (SOURCES_LABEL, LANE_LABEL):
        if label not in labels:
            return Finding("error", "image", f"{image} has no label {label}; build it with make image")
    if labels[LANE_LABEL] != installed_lane():
        text = f"is of the lane {labels[LANE_LABEL]}, and this environment of {installed_lane()}; build and push it"
        return Finding("error", "image", f"{image} {text} with make image LANE={installed_lane()}")
    expected, found = make_sources_hash(), labels[SOURCES_LABEL]
    if found != expected:
        text = f"holds other sources ({found[:12]}) than this checkout ({expected[:12]}); build and push it"
        return Finding("error", "image", f"{image} {text}")
    return Finding("ok", "image", f"{image} holds the sources of this checkout")


def _image_labels(image: str) -> dict[str, str] | None:
    """Returns an image's labels from a container engine of this machine; None where none has it."""
    # buildah's own templates know no JSON: it prints all that it knows.
    commands: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
        (("docker", "image", "inspect", "--format", "{{json .Config.Labels}}", image), ()),
        (("podman", "image", "inspect", "--format", "{{json .Labels}}", image), ()),
        (("buildah", "inspect", "--type", "image", image), ("OCIv1", "config", "Labels")),
    )
    for command, keys in commands:
        if shutil.which(command[0]) is None:
            continue
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
            labels = json.loads(result.stdout)
        except (subprocess.SubprocessError, OSError, json.JSONDecodeError):
            continue
        for key in keys:
            labels = (labels or {}).get(key)
        return labels or {}
    return None
