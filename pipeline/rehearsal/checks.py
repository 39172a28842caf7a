"""What Vertex checks when a pipeline is submitted: every input is given, known, and of the declared type."""

import glob
import json
from collections.abc import Iterator, Mapping
from typing import Any

from data.errors import UserError
from pipeline.rehearsal.artifact_store import QUERY, artifact_title
from pipeline.rehearsal.executor_input import check_placeholders
from pipeline.rehearsal.graph import Task, fits, kind_of
from pipeline.rehearsal.substitutions import Places

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
        settings = _parse(task.parameters.get(DATA_SETTINGS))
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
    yield from _parameter_findings(task)
    if task.kind == "container":
        container = task.executor.container
        if not container.command:
            yield "names no command: the entry point of its image is not known here; give the container a command"
        yield from filter(None, map(check_placeholders, [*container.command, *container.args]))
    else:
        for query in task.executor.resolver.output_artifact_queries.values():
            if not QUERY.fullmatch(query.filter):
                yield f"has the query {query.filter!r}, which is not one of the two that run_vertex compiles"


def _artifact_findings(task: Task, tasks: Mapping[str, Task]) -> Iterator[str]:
    declared = task.component.input_definitions.artifacts
    for key, spec in declared.items():
        if key not in task.artifacts:
            yield f"lacks its input '{key}' of type {artifact_title(spec.artifact_type)}"
    for key, source in task.artifacts.items():
        if key not in declared:
            yield f"is given the input '{key}', which its component does not declare"
            continue
        offered = tasks[source.task].component.output_definitions.artifacts
        if source.key not in offered:
            known = ", ".join(sorted(offered)) or "none"
            yield (
                f"takes its input '{key}' from the output '{source.key}' of '{source.task}', whose outputs are: {known}"
            )
            continue
        wanted, found = artifact_title(declared[key].artifact_type), artifact_title(offered[source.key].artifact_type)
        if wanted != found:
            yield (
                f"declares its input '{key}' as {wanted}, but the output '{source.key}' of '{source.task}' is {found};"
                " Vertex refuses artifacts of another type"
            )


def _parameter_findings(task: Task) -> Iterator[str]:
    declared = task.component.input_definitions.parameters
    for key, spec in declared.items():
        if key not in task.parameters:
            yield f"lacks its parameter '{key}' ({kind_of(spec)})"
    for key, value in task.parameters.items():
        if key not in declared:
            yield f"is given the parameter '{key}', which its component does not declare"
        elif not fits(kind_of(declared[key]), value):
            yield f"has the parameter '{key}' = {value!r}, but its component declares it as {kind_of(declared[key])}"
