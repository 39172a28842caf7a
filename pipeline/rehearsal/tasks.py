"""Runs one task as Vertex does: a resolver, or a container with cache and retries."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from data.json_files import write_json
from pipeline.rehearsal.artifact_store import ArtifactStore, StoredArtifact, cache_key
from pipeline.rehearsal.executor_input import (
    WHOLE_INPUT,
    collect_outputs,
    fill_query,
    make_executor_input,
    make_output_artifacts,
)
from pipeline.rehearsal.graph import Task
from pipeline.rehearsal.processes import Interrupted, Processes

SUCCEEDED, CACHED, FAILED, NOT_RUN = "succeeded", "cached", "failed", "not run"
HEADER = "====="  # begins the log of each process


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
        reason: why it failed or was not run, or what a resolver found.
        log_path: of a container.
        seconds: that it took.
    """

    state: str
    outputs: Mapping[str, StoredArtifact] = field(default_factory=dict)
    attempts: int = 0
    reason: str = ""
    log_path: Path | None = None
    seconds: float = 0.0


class TaskFailure(Exception):
    """A task failed; the message says how."""


def run_task(task: Task, job: Job, inputs: Mapping[str, StoredArtifact]) -> TaskResult:
    """Runs a task.

    Args:
        task: with the substitutions made.
        job: the rehearsal.
        inputs: the artifacts of its inputs; those that a resolver did not find are missing.

    Raises:
        Interrupted: the rehearsal was stopped.
    """
    return _resolve(task, job, inputs) if task.kind == "resolver" else _run_container(task, job, inputs)


def _resolve(task: Task, job: Job, inputs: Mapping[str, StoredArtifact]) -> TaskResult:
    if task.artifacts.keys() - inputs.keys():
        return TaskResult(SUCCEEDED, reason="found nothing to look for")
    found: dict[str, StoredArtifact] = {}
    for key, query in task.executor.resolver.output_artifact_queries.items():
        try:
            with job.lock:
                artifact = job.store.find(fill_query(query.filter, inputs))
        except LookupError as error:
            return TaskResult(FAILED, reason=f"the query of '{key}' cannot be filled: there is no {error}")
        if artifact:
            found[key] = artifact
    text = ", ".join(f"{key}: {artifact.uri}" for key, artifact in found.items())
    return TaskResult(SUCCEEDED, found, reason=text or "found none")


def _run_container(task: Task, job: Job, inputs: Mapping[str, StoredArtifact]) -> TaskResult:
    log_path = job.log_dir / f"{task.name}.log"
    retries = task.spec.retry_policy
    most = retries.max_retry_count + 1 if job.use_retries else 1
    attempt = 0
    while True:
        attempt += 1
        try:
            state, outputs = _attempt(task, job, inputs, attempt, log_path)
            return TaskResult(state, outputs, 0 if state == CACHED else attempt, log_path=log_path)
        except TaskFailure as error:
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
    task: Task, job: Job, inputs: Mapping[str, StoredArtifact], attempt: int, log_path: Path
) -> tuple[str, dict[str, StoredArtifact]]:
    """Starts the container once, unless the cache has what it would make.

    Raises:
        TaskFailure: a process ended badly.
    """
    key = None
    if task.spec.caching_options.enable_cache and job.use_cache:
        key = cache_key(
            [
                json_format.MessageToDict(task.component),
                json_format.MessageToDict(task.executor),
                {name: artifact.name for name, artifact in inputs.items()},
                dict(task.parameters),
            ]
        )
        with job.lock:
            found = job.store.cached(key)
        if found is not None:
            return CACHED, found
    task_root = job.root / "0" / job.job_id / f"{task.name}_{attempt}"
    artifacts = make_output_artifacts(task, task_root)
    message = make_executor_input(task.parameters, inputs, artifacts, task_root)
    _start(task, job, message, log_path, f"attempt-{attempt}")
    made = collect_outputs(message, artifacts)
    with job.lock:
        job.store.add(made, key)
    return SUCCEEDED, made


def _start(task: Task, job: Job, message: Any, log_path: Path, label: str) -> None:
    container = task.executor.container
    command = [*container.command, *container.args]
    started = {"command": command, "executorInput": json_format.MessageToDict(message)}
    write_json(str(log_path.with_suffix(f".{label}.json")), started)
    with log_path.open("a", encoding="utf-8") as log:
        log.write(f"{HEADER} {label}\n")
    given = json_format.MessageToJson(message, indent=None)
    status = job.processes.run([word.replace(WHOLE_INPUT, given) for word in command], log_path)
    if status:
        how = f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}"
        raise TaskFailure(f"its container {how}")
