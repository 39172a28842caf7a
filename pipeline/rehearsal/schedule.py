"""Runs the tasks in their order, some at the same time; not those that need one that failed, but exit handlers."""

import concurrent.futures
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.rehearsal.artifact_store import StoredArtifact
from pipeline.rehearsal.graph import Constant, OutputOf, Task
from pipeline.rehearsal.tasks import CACHED, FAILED, NOT_RUN, SKIPPED, SUCCEEDED, Job, TaskResult, run_task
from pipeline.rehearsal.values import from_message, kind_of

_UNKNOWN_ERROR = 2  # google.rpc.Code.UNKNOWN


@dataclass(frozen=True)
class Outcome:
    """How a task ended, and the seconds that it took."""

    result: TaskResult
    seconds: float


class Observer(Protocol):
    """Is told what happens, in the scheduler's thread."""

    def task_started(self, name: str) -> None:
        """A task begins."""

    def task_ended(self, task: Task, outcome: Outcome) -> None:
        """A task has ended, or will never begin."""


def run_tasks(tasks: Mapping[str, Task], job: Job, observer: Observer, parallel: int) -> dict[str, Outcome]:
    """Runs all tasks.

    Args:
        tasks: in order, checked, with the substitutions made.
        job: the rehearsal.
        observer: is told of each task's begin and end.
        parallel: at most so many tasks at the same time.

    Returns:
        Every task's outcome. What is downstream of a failure is not begun, with `job.fail_fast` nothing is any more;
        tasks that wait for others to end, however, are.

    Raises:
        KeyboardInterrupt: as it came; all processes have been ended.
    """
    outcomes: dict[str, Outcome] = {}
    running: dict[concurrent.futures.Future[TaskResult], tuple[Task, float]] = {}
    pending = dict(tasks)
    with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
        try:
            while pending or running:
                for task in _ready(pending, outcomes):
                    reason = _why_not(task, outcomes, job.fail_fast)
                    if reason is not None:
                        del pending[task.name]
                        outcomes[task.name] = Outcome(reason, 0.0)
                        observer.task_ended(task, outcomes[task.name])
                    elif len(running) < parallel:
                        del pending[task.name]
                        observer.task_started(task.name)
                        future = pool.submit(_run, task, tasks, job, outcomes)
                        running[future] = (task, time.monotonic())
                if not running:
                    continue  # What was ready did not run: others may be ready now.
                done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    task, started = running.pop(future)
                    outcomes[task.name] = Outcome(future.result(), time.monotonic() - started)
                    observer.task_ended(task, outcomes[task.name])
        except BaseException:
            job.processes.stop()
            raise
    return outcomes


def _ready(pending: Mapping[str, Task], outcomes: Mapping[str, Outcome]) -> list[Task]:
    return [task for task in pending.values() if all(name in outcomes for name in task.upstream)]


def _why_not(task: Task, outcomes: Mapping[str, Outcome], fail_fast: bool) -> TaskResult | None:
    """Returns the result of a task that is not to run, or None."""
    if task.runs_after_failures:
        return None
    states = {name: outcomes[name].result.state for name in task.upstream}
    for blocked, reason in ((FAILED, "failed"), (NOT_RUN, "was not run"), (SKIPPED, "was skipped")):
        for name, state in states.items():
            if state == blocked:
                return TaskResult(SKIPPED if state == SKIPPED else NOT_RUN, reason=f"{name} {reason}")
    if fail_fast and any(outcome.result.state == FAILED for outcome in outcomes.values()):
        return TaskResult(NOT_RUN, reason="another task failed")
    return None


def _run(task: Task, tasks: Mapping[str, Task], job: Job, outcomes: Mapping[str, Outcome]) -> TaskResult:
    inputs: dict[str, StoredArtifact] = {}
    for key, source in task.artifacts.items():
        made = outcomes[source.task].result.outputs.artifacts
        if source.key in made:
            inputs[key] = made[source.key]
    lacking = [key for key in task.artifacts if key not in inputs and not _may_be_missing(task, key, tasks)]
    if lacking:
        source = task.artifacts[lacking[0]]
        return TaskResult(FAILED, reason=f"its input '{lacking[0]}' was not made by {source.task}")
    parameters = {
        key: from_message(spec.default_value)
        for key, spec in task.component.input_definitions.parameters.items()
        if spec.HasField("default_value")
    }
    for key, parameter in task.parameters.items():
        if isinstance(parameter, Constant):
            parameters[key] = parameter.value
        elif isinstance(parameter, OutputOf):
            values = outcomes[parameter.task].result.outputs.parameters
            if parameter.key not in values:
                return TaskResult(FAILED, reason=f"its parameter '{key}' was not made by {parameter.task}")
            parameters[key] = values[parameter.key]
        else:
            status = _final_status(parameter.name, parameter.tasks, job, outcomes)
            kind = kind_of(task.component.input_definitions.parameters[key])
            parameters[key] = json.dumps(status) if kind == "STRING" else status
    return run_task(task, job, inputs, parameters)


def _may_be_missing(task: Task, key: str, tasks: Mapping[str, Task]) -> bool:
    """Tells whether an input may be left out: it is optional, or a resolver found nothing for it."""
    if task.component.input_definitions.artifacts[key].is_optional:
        return True
    # TFX marks no input as optional; a resolver that finds nothing leaves an empty list, on Vertex as here.
    return tasks[task.artifacts[key].task].kind == "resolver"


def _final_status(name: str, tasks: tuple[str, ...], job: Job, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """Returns what an exit handler learns, in the form of Vertex's PipelineTaskFinalStatus."""
    failed = [task for task in tasks if outcomes[task].result.state == FAILED]
    good = all(outcomes[task].result.state in (SUCCEEDED, CACHED, SKIPPED) for task in tasks)
    status: dict[str, Any] = {
        "state": "SUCCEEDED" if good else "FAILED",
        "pipelineJobResourceName": f"projects/0/locations/local/pipelineJobs/{job.job_id}",
        "pipelineTaskName": name,
    }
    if failed:
        status["error"] = {"code": _UNKNOWN_ERROR, "message": f"{failed[0]}: {outcomes[failed[0]].result.reason}"}
    return status
