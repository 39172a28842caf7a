"""Runs the tasks in their order, some at the same time; not those that need one that failed."""

import concurrent.futures
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from pipeline.rehearsal.artifact_store import StoredArtifact
from pipeline.rehearsal.graph import Task
from pipeline.rehearsal.tasks import FAILED, NOT_RUN, Job, TaskResult, run_task


class Observer(Protocol):
    """Is told what happens, in the scheduler's thread."""

    def task_started(self, name: str) -> None:
        """A task begins."""

    def task_ended(self, task: Task, result: TaskResult) -> None:
        """A task has ended, or will never begin."""


def run_tasks(tasks: Mapping[str, Task], job: Job, observer: Observer, parallel: int) -> dict[str, TaskResult]:
    """Runs all tasks.

    Args:
        tasks: in order, checked, with the substitutions made.
        job: the rehearsal.
        observer: is told of each task's begin and end.
        parallel: at most so many tasks at the same time.

    Returns:
        Every task's result. What is downstream of a failure is not begun, with `job.fail_fast` nothing is any more.

    Raises:
        KeyboardInterrupt: as it came; all processes have been ended.
    """
    outcomes: dict[str, TaskResult] = {}
    running: dict[concurrent.futures.Future[TaskResult], tuple[Task, float]] = {}
    pending = dict(tasks)
    with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
        try:
            while pending or running:
                for task in _ready(pending, outcomes):
                    reason = _why_not(task, outcomes, job.fail_fast)
                    if reason is not None:
                        del pending[task.name]
                        outcomes[task.name] = reason
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
                    outcomes[task.name] = replace(future.result(), seconds=time.monotonic() - started)
                    observer.task_ended(task, outcomes[task.name])
        except BaseException:
            job.processes.stop()
            raise
    return outcomes


def _ready(pending: Mapping[str, Task], outcomes: Mapping[str, TaskResult]) -> list[Task]:
    return [task for task in pending.values() if all(name in outcomes for name in task.upstream)]


def _why_not(task: Task, outcomes: Mapping[str, TaskResult], fail_fast: bool) -> TaskResult | None:
    """Returns the result of a task that is not to run, or None."""
    states = {name: outcomes[name].state for name in task.upstream}
    for blocked, reason in ((FAILED, "failed"), (NOT_RUN, "was not run")):
        for name, state in states.items():
            if state == blocked:
                return TaskResult(NOT_RUN, reason=f"{name} {reason}")
    if fail_fast and any(outcome.state == FAILED for outcome in outcomes.values()):
        return TaskResult(NOT_RUN, reason="another task failed")
    return None


def _run(task: Task, tasks: Mapping[str, Task], job: Job, outcomes: Mapping[str, TaskResult]) -> TaskResult:
    inputs: dict[str, StoredArtifact] = {}
    for key, source in task.artifacts.items():
        made = outcomes[source.task].outputs
        if source.key in made:
            inputs[key] = made[source.key]
        # TFX marks no input as optional; a resolver that finds nothing leaves an empty list, on Vertex as here.
        elif tasks[source.task].kind != "resolver":
            return TaskResult(FAILED, reason=f"its input '{key}' was not made by {source.task}")
    return run_task(task, job, inputs)
