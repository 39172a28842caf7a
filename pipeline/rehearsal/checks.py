"""What Vertex checks when a pipeline is submitted, and what a rehearsal needs, before any of its tasks runs."""

import glob
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kfp.pipeline_spec import pipeline_spec_pb2 as pb

from data.errors import UserError
from pipeline.rehearsal.artifact_store import QUERY, artifact_title
from pipeline.rehearsal.executor_input import WHOLE_INPUT
from pipeline.rehearsal.graph import Task
from pipeline.rehearsal.substitutions import Places

DATA_SETTINGS = "data_settings"
"""ImageExampleGen's parameter that says where its images are; not imported, since the node loads Beam for seconds."""

# A value of the wrong kind is refused by Vertex at submission.
_KINDS: dict[str, tuple[type, ...]] = {"NUMBER_INTEGER": (int,), "NUMBER_DOUBLE": (int, float), "STRING": (str,)}
_PLACEHOLDER = re.compile(r"\{\{\$.*?\}\}")


def check_tasks(path: Any, tasks: Mapping[str, Task]) -> None:
    """Checks all tasks before any of them runs.

    Raises:
        UserError: names the first mistake.
    """
    for task in tasks.values():
        for found in _findings(task, tasks):
            raise UserError(f"{path}: task '{task.name}' {found}")


def check_images(path: Any, tasks: Mapping[str, Task], places: Places) -> None:
    """Checks that images which are in a bucket also are where a rehearsal reads them.

    Raises:
        UserError: there are none.
    """
    for task in tasks.values():
        settings = _parse(task.parameters.get(DATA_SETTINGS))
        for key in ("path", "class_names", "corrections"):
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
    declared = task.component.input_definitions
    for key in sorted({*declared.artifacts, *declared.parameters} - {*task.artifacts, *task.parameters}):
        yield f"lacks its input '{key}'; compile it anew with run_vertex --compile-only"
    for key, source in task.artifacts.items():
        offered = tasks[source.task].component.output_definitions.artifacts[source.key]
        wanted, found = artifact_title(declared.artifacts[key].artifact_type), artifact_title(offered.artifact_type)
        if wanted != found:
            yield (
                f"declares its input '{key}' as {wanted}, but the output '{source.key}' of '{source.task}' is {found};"
                " Vertex refuses artifacts of another type"
            )
    for key, value in task.parameters.items():
        kind = pb.ParameterType.ParameterTypeEnum.Name(declared.parameters[key].parameter_type)
        if isinstance(value, bool) or not isinstance(value, _KINDS.get(kind, ())):
            yield f"has the parameter '{key}' = {value!r}, but its component declares it as {kind}"
    # Both are empty in a task of the other kind.
    container = task.executor.container
    for text in (*container.command, *container.args):
        for placeholder in set(_PLACEHOLDER.findall(text)) - {WHOLE_INPUT}:
            yield f"has the placeholder {placeholder}, which is not rehearsed; run_vertex compiles none"
    for query in task.executor.resolver.output_artifact_queries.values():
        if not QUERY.fullmatch(query.filter):
            yield f"has the query {query.filter!r}, which is not one of the two that run_vertex compiles"
