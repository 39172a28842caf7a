"""The tasks of a spec with everything that they refer to looked up; and their order."""

import graphlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format

from data.errors import UserError
from pipeline.rehearsal.spec import Spec


@dataclass(frozen=True)
class OutputOf:
    """An output of another task."""

    task: str
    key: str


@dataclass(frozen=True)
class Task:
    """One thing to run.

    Attributes:
        name: unique.
        component: the declared inputs and outputs.
        executor: a kfp `ExecutorSpec`: container or resolver.
        artifacts: input name -> where the artifact comes from.
        parameters: input name -> value, a plain one.
        upstream: the tasks that must have ended before.
        spec: the task as it stands in the spec: caching and retries.
    """

    name: str
    component: Any
    executor: Any
    artifacts: Mapping[str, OutputOf]
    parameters: Mapping[str, Any]
    upstream: tuple[str, ...]
    spec: Any

    @property
    def kind(self) -> str:
        """`container` or `resolver`."""
        return str(self.executor.WhichOneof("spec"))


def make_tasks(spec: Spec) -> dict[str, Task]:
    """Returns the tasks by name, each after those that it depends on.

    Raises:
        UserError: a task waits for itself, or something is named that is not there.
    """
    try:
        tasks = {name: _make_task(spec, name, task) for name, task in spec.pipeline.root.dag.tasks.items()}
        order = graphlib.TopologicalSorter({name: tasks[name].upstream for name in sorted(tasks)}).static_order()
        return {name: tasks[name] for name in order}
    except graphlib.CycleError as error:
        raise UserError(
            f"{spec.path}: the tasks wait for each other in a cycle: {' -> '.join(error.args[1])}"
        ) from None
    except KeyError as error:
        raise UserError(
            f"{spec.path}: names {error}, which is not in it; compile it anew with run_vertex --compile-only"
        ) from None


def _make_task(spec: Spec, name: str, task: Any) -> Task:
    component = dict(spec.pipeline.components)[task.component_ref.name]  # the map itself would make one that is missing
    sources = {key: value.task_output_artifact for key, value in task.inputs.artifacts.items()}
    return Task(
        name=name,
        component=component,
        executor=spec.executors[component.executor_label],
        artifacts={key: OutputOf(source.producer_task, source.output_artifact_key) for key, source in sources.items()},
        parameters={key: _plain(value.runtime_value.constant) for key, value in task.inputs.parameters.items()},
        upstream=tuple(sorted({*task.dependent_tasks, *(source.producer_task for source in sources.values())})),
        spec=task,
    )


def _plain(value: Any) -> Any:
    """Returns the plain value of a `google.protobuf.Value`, which knows floats only: 3 comes back as 3.0."""
    plain = json_format.MessageToDict(value)
    return int(plain) if isinstance(plain, float) and plain.is_integer() else plain
