"""The tasks of a spec, flattened, with everything that they refer to looked up; and their order."""

import graphlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kfp.pipeline_spec import pipeline_spec_pb2 as pb

from data.errors import UserError
from pipeline.rehearsal.spec import Spec
from pipeline.rehearsal.values import from_message

ALL_COMPLETED = pb.PipelineTaskSpec.TriggerPolicy.ALL_UPSTREAM_TASKS_COMPLETED


@dataclass(frozen=True)
class OutputOf:
    """An output, artifact or parameter, of another task."""

    task: str
    key: str


@dataclass(frozen=True)
class StatusOf:
    """The final state of a task, or of all tasks of a nested pipeline, for an exit handler."""

    name: str
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Constant:
    """A value that is known before anything runs."""

    value: Any


@dataclass(frozen=True)
class Task:
    """One thing to run.

    Attributes:
        name: unique; within a nested pipeline `<outer task>/<task>`.
        component: the declared inputs and outputs.
        executor: a kfp `ExecutorSpec`: container, importer or resolver.
        artifacts: input name -> where the artifact comes from.
        parameters: input name -> where the value comes from.
        upstream: the tasks that must have ended before.
        spec: the task as it stands in the spec: condition, caching and retries.
    """

    name: str
    component: Any
    executor: Any
    artifacts: Mapping[str, OutputOf]
    parameters: Mapping[str, Constant | OutputOf | StatusOf]
    upstream: tuple[str, ...]
    spec: Any

    @property
    def kind(self) -> str:
        """`container`, `importer` or `resolver`."""
        return str(self.executor.WhichOneof("spec"))

    @property
    def runs_after_failures(self) -> bool:
        """Whether it waits for its upstream tasks to end, however they end: an exit handler."""
        return bool(self.spec.trigger_policy.strategy == ALL_COMPLETED)


def make_tasks(spec: Spec) -> dict[str, Task]:
    """Returns the tasks by name, each after those that it depends on.

    Raises:
        UserError: a task refers to something that is not there, needs what cannot be rehearsed, or waits for itself.
    """
    constants = {name: Constant(value) for name, value in spec.parameters.items()}
    tasks = {task.name: task for task in _flatten(spec, "", spec.pipeline.root.dag.tasks, constants, ())}
    try:
        order = graphlib.TopologicalSorter({name: tasks[name].upstream for name in sorted(tasks)}).static_order()
        return {name: tasks[name] for name in order}
    except graphlib.CycleError as error:
        raise UserError(
            f"{spec.path}: the tasks wait for each other in a cycle: {' -> '.join(error.args[1])}"
        ) from None


def _flatten(
    spec: Spec, prefix: str, group: Mapping[str, Any], scope: Mapping[str, Any], inherited: tuple[str, ...]
) -> Iterator[Task]:
    for name, task in group.items():
        where = f"{spec.path}: task '{prefix}{name}'"
        component = spec.pipeline.components.get(task.component_ref.name)
        if component is None:
            raise UserError(f"{where} refers to the component '{task.component_ref.name}', which is not there")
        if task.WhichOneof("iterator"):
            raise UserError(f"{where} is a loop over items, which is not rehearsed; TFX compiles none")
        parameters = {
            key: _find_parameter(where, f"{prefix}{name}", key, value, spec, prefix, group, scope)
            for key, value in task.inputs.parameters.items()
        }
        waits_for = set(inherited)
        for other in task.dependent_tasks:
            waits_for.update(_leaves(spec, where, prefix, group, other))
        if component.WhichOneof("implementation") == "dag":
            if task.inputs.artifacts or component.dag.outputs.ListFields() or task.trigger_policy.condition:
                raise UserError(f"{where} is a nested pipeline with artifacts or a condition, which is not rehearsed")
            known = {key: value for key, value in parameters.items() if value is not None}
            yield from _flatten(spec, f"{prefix}{name}/", component.dag.tasks, known, tuple(sorted(waits_for)))
            continue
        artifacts = {
            key: _find_artifact(where, key, value, prefix, group) for key, value in task.inputs.artifacts.items()
        }
        for source in [*artifacts.values(), *parameters.values()]:
            waits_for.update(
                source.tasks if isinstance(source, StatusOf) else [source.task] if isinstance(source, OutputOf) else []
            )
        executor = spec.executors.get(component.executor_label)
        if executor is None or executor.WhichOneof("spec") not in ("container", "importer", "resolver"):
            found = executor.WhichOneof("spec") if executor is not None else None
            raise UserError(
                f"{where} has the executor '{component.executor_label}', which is {found or 'not in deploymentSpec'};"
                " container, importer and resolver can be rehearsed"
            )
        yield Task(
            name=f"{prefix}{name}",
            component=component,
            executor=executor,
            artifacts=artifacts,
            parameters={key: value for key, value in parameters.items() if value is not None},
            upstream=tuple(sorted(waits_for)),
            spec=task,
        )


def _leaves(spec: Spec, where: str, prefix: str, group: Mapping[str, Any], name: str) -> list[str]:
    """Returns the tasks that a name of the same group stands for: itself, or all in the nested pipeline."""
    if name not in group:
        raise UserError(
            f"{where} depends on the task '{name}', which is not there; there are {', '.join(sorted(group))}"
        )
    component = spec.pipeline.components[group[name].component_ref.name]
    if component.WhichOneof("implementation") != "dag":
        return [f"{prefix}{name}"]
    inner = component.dag.tasks
    return [leaf for item in inner for leaf in _leaves(spec, where, f"{prefix}{name}/", inner, item)]


def _find_artifact(where: str, key: str, value: Any, prefix: str, group: Mapping[str, Any]) -> OutputOf:
    source = value.task_output_artifact
    if value.WhichOneof("kind") != "task_output_artifact":
        raise UserError(f"{where} takes its input '{key}' from the pipeline's caller, which a rehearsal cannot give")
    if source.producer_task not in group:
        raise UserError(f"{where} takes its input '{key}' from the task '{source.producer_task}', which is not there")
    return OutputOf(f"{prefix}{source.producer_task}", source.output_artifact_key)


def _find_parameter(
    where: str,
    task: str,
    key: str,
    value: Any,
    spec: Spec,
    prefix: str,
    group: Mapping[str, Any],
    scope: Mapping[str, Any],
) -> Constant | OutputOf | StatusOf | None:
    kind = value.WhichOneof("kind")
    if value.parameter_expression_selector:
        raise UserError(f"{where} selects a part of its parameter '{key}', which is not rehearsed; TFX compiles none")
    if kind == "task_output_parameter":
        source = value.task_output_parameter
        # TFX 1.16 writes `<id>_task` for the value of another node's output: a task that its spec does not have.
        producer = source.producer_task
        if producer not in group:
            raise UserError(f"{where} takes its parameter '{key}' from the task '{producer}', which is not there")
        return OutputOf(f"{prefix}{producer}", source.output_parameter_key)
    if kind == "task_final_status":
        producer = value.task_final_status.producer_task
        return StatusOf(producer, tuple(_leaves(spec, where, prefix, group, producer)))
    if kind == "runtime_value" and value.runtime_value.WhichOneof("value") != "runtime_parameter":
        message = getattr(value.runtime_value, value.runtime_value.WhichOneof("value") or "constant")
        return Constant(from_message(message))
    name = value.component_input_parameter or value.runtime_value.runtime_parameter
    declared = spec.pipeline.root.input_definitions.parameters if not prefix else scope
    if not name or (name not in declared and name not in scope):
        raise UserError(
            f"{where} takes its parameter '{key}' from the pipeline's parameter '{name}', which is not there"
        )
    return scope.get(name)
