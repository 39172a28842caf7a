"""What Vertex checks when a pipeline is submitted: every input is given, known, and of the declared type."""

import glob
import json
from collections.abc import Iterator, Mapping
from typing import Any

from data.errors import UserError
from pipeline.rehearsal.artifact_store import artifact_title, parse_query
from pipeline.rehearsal.conditions import parse_condition
from pipeline.rehearsal.graph import Constant, OutputOf, StatusOf, Task
from pipeline.rehearsal.placeholders import check_placeholders
from pipeline.rehearsal.substitutions import Places
from pipeline.rehearsal.values import fits, kind_of

ANY_ARTIFACT = "system.Artifact"
DATA_SETTINGS = "data_settings"
"""ImageExampleGen's parameter that says where its images are; not imported, since the node loads Beam for seconds."""


def check_tasks(path: Any, tasks: Mapping[str, Task]) -> None:
    """Checks all tasks before any of them runs.

    Raises:
        UserError: names the first mistake, and how many more there are.
    """
    first, *more = [*(f"task '{task.name}' {found}" for task in tasks.values() for found in _findings(task, tasks)), ""]
    if first:
        others = [text for text in more if text]
        raise UserError(f"{path}: {first}" + (f" ({len(others)} more: {'; '.join(others)})" if others else ""))


def check_images(path: Any, tasks: Mapping[str, Task], places: Places) -> None:
    """Checks that images which are in a bucket also are where a rehearsal reads them.

    Raises:
        UserError: there are none.
    """
    for task in tasks.values():
        source = task.parameters.get(DATA_SETTINGS)
        settings = _parse(source.value) if isinstance(source, Constant) else {}
        for key in ("path", "class_names"):
            found = str(settings.get(key) or "")
            local = places.local(found)
            if local != found and not glob.glob(local):
                raise UserError(
                    f"{path}: task '{task.name}' reads data.{key} {found}, of which a rehearsal needs some here: "
                    f"{local} is not there; copy what a small run needs to it, e.g. 50 images of each class"
                )


def _parse(value: Any) -> dict[str, Any]:
    """Returns the settings; none for what is no JSON object, of a pipeline that is not this one."""
    try:
        settings = json.loads(value)
    except (TypeError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _findings(task: Task, tasks: Mapping[str, Task]) -> Iterator[str]:
    yield from _artifact_findings(task, tasks)
    yield from _parameter_findings(task, tasks)
    if task.kind == "container":
        container = task.executor.container
        if not container.command:
            yield "names no command: the entry point of its image is not known here; give the container a command"
        check = container.lifecycle.pre_cache_check
        for text in [*container.command, *container.args, *check.command, *check.args]:
            if wrong := check_placeholders(text, task):
                yield wrong
    if task.kind == "resolver":
        for query in task.executor.resolver.output_artifact_queries.values():
            try:
                parse_query(query.filter)
            except UserError as error:
                yield f"cannot be rehearsed: {error}"
    if condition := task.spec.trigger_policy.condition:
        try:
            parse_condition(condition)
        except ValueError as error:
            yield f"has a condition that cannot be read: {error}"


def _artifact_findings(task: Task, tasks: Mapping[str, Task]) -> Iterator[str]:
    declared = task.component.input_definitions.artifacts
    for key, spec in declared.items():
        if key not in task.artifacts and not spec.is_optional:
            yield f"lacks its input '{key}' of type {artifact_title(spec.artifact_type)}"
    for key, source in task.artifacts.items():
        if key not in declared:
            yield f"is given the input '{key}', which its component does not declare"
            continue
        offered = tasks[source.task].component.output_definitions.artifacts if source.task in tasks else {}
        if source.key not in offered:
            known = ", ".join(sorted(offered)) or "none"
            yield (
                f"takes its input '{key}' from the output '{source.key}' of '{source.task}', whose outputs are: {known}"
            )
            continue
        wanted, found = artifact_title(declared[key].artifact_type), artifact_title(offered[source.key].artifact_type)
        if wanted not in (found, ANY_ARTIFACT):
            yield (
                f"declares its input '{key}' as {wanted}, but the output '{source.key}' of '{source.task}' is {found};"
                " Vertex refuses artifacts of another type"
            )


def _parameter_findings(task: Task, tasks: Mapping[str, Task]) -> Iterator[str]:
    declared = task.component.input_definitions.parameters
    for key, spec in declared.items():
        if key not in task.parameters and not spec.is_optional and not spec.HasField("default_value"):
            yield f"lacks its parameter '{key}' ({kind_of(spec)})"
    for key, source in task.parameters.items():
        if key not in declared:
            yield f"is given the parameter '{key}', which its component does not declare"
            continue
        kind = kind_of(declared[key])
        if isinstance(source, Constant) and not fits(kind, source.value):
            yield f"has the parameter '{key}' = {source.value!r}, but its component declares it as {kind}"
        elif isinstance(source, OutputOf):
            offered = tasks[source.task].component.output_definitions.parameters if source.task in tasks else {}
            if source.key not in offered:
                known = ", ".join(sorted(offered)) or "none"
                yield (
                    f"takes its parameter '{key}' from the output '{source.key}' of '{source.task}', whose output"
                    f" parameters are: {known}"
                )
            elif kind_of(offered[source.key]) != kind:
                found = kind_of(offered[source.key])
                yield (
                    f"declares its parameter '{key}' as {kind}, but the output '{source.key}' of '{source.task}' is"
                    f" {found}"
                )
        elif isinstance(source, StatusOf) and not task.runs_after_failures:
            yield f"asks for the state of '{source.name}', which only a task with ALL_UPSTREAM_TASKS_COMPLETED may"
