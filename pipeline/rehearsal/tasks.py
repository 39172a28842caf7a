"""Runs one task as Vertex does: condition, cache, then its container, importer or resolver, with retries."""

import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2 as pb

from pipeline.output_dir import write_whole
from pipeline.rehearsal.artifact_store import (
    ArtifactStore,
    StoredArtifact,
    TaskOutputs,
    cache_key,
    make_artifact,
)
from pipeline.rehearsal.conditions import ConditionError, evaluate_condition
from pipeline.rehearsal.executor_input import (
    BadOutput,
    collect_outputs,
    make_executor_input,
    make_output_artifacts,
    merge_artifacts,
    read_executor_output,
)
from pipeline.rehearsal.graph import Task
from pipeline.rehearsal.placeholders import fill_placeholders
from pipeline.rehearsal.processes import Interrupted, Processes
from pipeline.rehearsal.values import from_message

SUCCEEDED, CACHED, SKIPPED, FAILED, NOT_RUN = "succeeded", "cached", "skipped", "failed", "not run"
HEADER = "====="  # begins the log of each process
_NOTHING = TaskOutputs({}, {})


@dataclass(frozen=True)
class Job:
    """One rehearsal of a pipeline.

    Attributes:
        pipeline: its name.
        job_id: unique.
        root: the local pipeline root.
        log_dir: a log per task.
        store: artifacts and cache.
        lock: held while the store is used.
        processes: those that run.
        use_cache: whether tasks may be served from cache.
        use_retries: whether the tasks' retry policies count.
        fail_fast: whether nothing is begun after a task has failed.
        retrying: is told a task's name and why it is tried again.
    """

    pipeline: str
    job_id: str
    root: Path
    log_dir: Path
    store: ArtifactStore
    lock: threading.Lock
    processes: Processes
    use_cache: bool
    use_retries: bool
    fail_fast: bool
    retrying: Callable[[str, str], None]


@dataclass(frozen=True)
class TaskResult:
    """How a task ended.

    Attributes:
        state: one of the names above.
        outputs: what it made, or what the cache had.
        attempts: how often its container was started.
        reason: why it was skipped or failed, or what a resolver found.
        log_path: of a container.
    """

    state: str
    outputs: TaskOutputs = _NOTHING
    attempts: int = 0
    reason: str = ""
    log_path: Path | None = None


class TaskFailure(Exception):
    """A task failed; the message says how."""


def run_task(task: Task, job: Job, inputs: Mapping[str, StoredArtifact], parameters: Mapping[str, Any]) -> TaskResult:
    """Runs a task.

    Args:
        task: with the substitutions made.
        job: the rehearsal.
        inputs: the artifacts of its inputs; those that nobody made are missing.
        parameters: the values of its parameters, declared defaults included.

    Raises:
        Interrupted: the rehearsal was stopped.
    """
    try:
        if task.spec.trigger_policy.condition and not _holds(task.spec.trigger_policy.condition, inputs, parameters):
            return TaskResult(SKIPPED, reason=f"condition is false: {task.spec.trigger_policy.condition}")
        if task.kind == "resolver":
            return _resolve(task, job, inputs)
        if task.kind == "importer":
            return _import(task, job, parameters)
        return _run_container(task, job, inputs, parameters)
    except (TaskFailure, ConditionError) as error:
        return TaskResult(FAILED, reason=str(error))


def _holds(condition: str, inputs: Mapping[str, StoredArtifact], parameters: Mapping[str, Any]) -> bool:
    artifacts = {
        key: {"artifacts": [{"uri": item.uri, "name": item.name, "metadata": item.metadata}]}
        for key, item in inputs.items()
    }
    try:
        return evaluate_condition(condition, {"artifacts": artifacts, "parameter_values": parameters})
    except ConditionError as error:
        raise TaskFailure(f"the condition {condition} cannot be evaluated: {error}") from None


def _resolve(task: Task, job: Job, inputs: Mapping[str, StoredArtifact]) -> TaskResult:
    if task.artifacts.keys() - inputs.keys():
        return TaskResult(SUCCEEDED, reason="found nothing to look for")
    message = pb.ExecutorInput()
    for key, artifact in inputs.items():
        message.inputs.artifacts[key].artifacts.append(artifact.message())
    found: dict[str, StoredArtifact] = {}
    for key, query in task.executor.resolver.output_artifact_queries.items():
        try:
            text = fill_placeholders(query.filter, message, {})
        except LookupError as error:
            raise TaskFailure(f"the query of '{key}' cannot be filled: {error}") from None
        with job.lock:
            for artifact in job.store.find(text)[:1]:
                found[key] = artifact
    text = ", ".join(f"{key}: {artifact.uri}" for key, artifact in found.items())
    return TaskResult(SUCCEEDED, TaskOutputs(found, {}), reason=text or "found none")


def _import(task: Task, job: Job, parameters: Mapping[str, Any]) -> TaskResult:
    importer = task.executor.importer
    source = importer.artifact_uri
    if source.WhichOneof("value") == "runtime_parameter":
        uri = parameters.get(source.runtime_parameter)
    else:
        uri = from_message(getattr(source, source.WhichOneof("value") or "constant"))
    if not isinstance(uri, str) or not uri:
        raise TaskFailure(f"the importer's URI is {uri!r}")
    if "://" not in uri and not os.path.exists(uri):
        raise TaskFailure(f"there is nothing at {uri}; put what the pipeline imports there")
    metadata = json_format.MessageToDict(importer.metadata)
    for old in (importer.properties, importer.custom_properties):
        metadata.update({key: from_message(value.constant_value) for key, value in old.items()})
    key = cache_key(["importer", uri, json_format.MessageToDict(importer.type_schema), metadata])
    with job.lock:
        outputs = None if importer.reimport else job.store.cached(key)
        if outputs is None:
            (name,) = task.component.output_definitions.artifacts
            outputs = TaskOutputs({name: make_artifact(importer.type_schema, uri, metadata)}, {})
            job.store.add(outputs, key)
    return TaskResult(SUCCEEDED, outputs, reason=uri)


def _run_container(
    task: Task, job: Job, inputs: Mapping[str, StoredArtifact], parameters: Mapping[str, Any]
) -> TaskResult:
    log_path = job.log_dir / f"{task.name.replace('/', '.')}.log"
    retries = task.spec.retry_policy
    most = retries.max_retry_count + 1 if job.use_retries else 1
    attempt = 0
    while True:
        attempt += 1
        try:
            state, outputs = _attempt(task, job, inputs, parameters, attempt, log_path)
            return TaskResult(state, outputs, 0 if state == CACHED else attempt, log_path=log_path)
        except (TaskFailure, BadOutput) as error:
            if attempt >= most:
                return TaskResult(FAILED, attempts=attempt, reason=str(error), log_path=log_path)
            seconds = backoff_seconds(retries, attempt)
            job.retrying(task.name, f"{error}; attempt {attempt + 1} of {most} in {seconds:g} s")
            if job.processes.stopped.wait(seconds):
                raise Interrupted from None


def backoff_seconds(policy: Any, failures: int) -> float:
    """Returns how long to wait after so many failures: `backoffDuration` times `backoffFactor` to the power, capped."""
    first = policy.backoff_duration.seconds + policy.backoff_duration.nanos / 1e9
    # Vertex's own defaults, where the policy is silent: factor 2, at most an hour.
    longest = policy.backoff_max_duration.seconds + policy.backoff_max_duration.nanos / 1e9 or 3600.0
    return float(min(first * (policy.backoff_factor or 2.0) ** (failures - 1), longest))


def _attempt(
    task: Task,
    job: Job,
    inputs: Mapping[str, StoredArtifact],
    parameters: Mapping[str, Any],
    attempt: int,
    log_path: Path,
) -> tuple[str, TaskOutputs]:
    """Starts the container once, and its pre-cache check before it.

    Raises:
        TaskFailure: a process ended badly.
        BadOutput: what it reports cannot be read.
    """
    container = task.executor.container
    task_root = job.root / "0" / job.job_id / f"{task.name.replace('/', '.')}_{attempt}"
    artifacts = make_output_artifacts(task, task_root)
    message = make_executor_input(task, inputs, parameters, artifacts, task_root)
    check = container.lifecycle.pre_cache_check
    if check.command:
        _start(task, job, [*check.command, *check.args], message, log_path, f"check-{attempt}")
        output = read_executor_output(message)
        # Found by the check: ExampleGen's fingerprint, span and version. They are part of the cache key.
        parameters = {
            **parameters,
            **{
                key: from_message(value)
                for key, value in [*output.parameters.items(), *output.parameter_values.items()]
            },
        }
        declared = {key: parameters[key] for key in parameters if key in task.component.input_definitions.parameters}
        artifacts = merge_artifacts(artifacts, output)
        message = make_executor_input(task, inputs, declared, artifacts, task_root)
    key = None
    if task.spec.caching_options.enable_cache and job.use_cache:
        key = cache_key(
            [
                json_format.MessageToDict(task.component),
                json_format.MessageToDict(task.executor),
                {name: artifact.name for name, artifact in inputs.items()},
                dict(parameters),
            ]
        )
        with job.lock:
            found = job.store.cached(key)
        if found is not None:
            shutil.rmtree(task_root)
            return CACHED, found
    _start(task, job, [*container.command, *container.args], message, log_path, f"attempt-{attempt}")
    made = collect_outputs(task, message, read_executor_output(message), artifacts)
    with job.lock:
        job.store.add(made, key)
    return SUCCEEDED, made


def _start(task: Task, job: Job, command: list[str], message: Any, log_path: Path, label: str) -> None:
    known = {
        "pipeline_job_name": job.job_id,
        "pipeline_job_uuid": job.job_id,
        "pipeline_task_name": task.name,
        "pipeline_task_uuid": os.path.basename(os.path.dirname(message.outputs.output_file)),
        "pipeline_root": str(job.root),
    }
    try:
        filled = [fill_placeholders(word, message, known) for word in command]
    except (LookupError, OSError) as error:
        raise TaskFailure(f"its command line cannot be filled: {error}") from None
    started = {"command": command, "executorInput": json_format.MessageToDict(message)}
    write_whole(log_path.with_suffix(f".{label}.json"), json.dumps(started, indent=1) + "\n")
    with log_path.open("a", encoding="utf-8") as log:
        log.write(f"{HEADER} {label}\n")
    status = job.processes.run(filled, {item.name: item.value for item in task.executor.container.env}, log_path)
    if status:
        how = f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}"
        raise TaskFailure(f"its container {how}")
