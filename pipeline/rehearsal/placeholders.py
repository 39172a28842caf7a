"""The placeholders of a container's command line: `{{$}}`, the whole ExecutorInput, and parts of it."""

import json
import re
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from pipeline.rehearsal.graph import Task
from pipeline.rehearsal.values import from_message

_PLACEHOLDER = re.compile(r"\{\{\$(.*?)\}\}")
_PART = re.compile(r"\.(inputs|outputs)\.(artifacts|parameters)\['([^']+)'\](?:\.(\w+)(?:\['([^']+)'\])?)?")
_JOB_KEYS = ("pipeline_job_name", "pipeline_job_uuid", "pipeline_task_name", "pipeline_task_uuid", "pipeline_root")


def check_placeholders(text: str, task: Task) -> str:
    """Returns what is wrong with the placeholders of an argument, or ''."""
    for inner in _PLACEHOLDER.findall(text):
        if inner in ("", ".outputs.output_file", ".outputs.output_metadata_uri") or inner[1:] in _JOB_KEYS:
            continue
        part = _PART.fullmatch(inner)
        if part is None:
            return f"has the placeholder {{{{${inner}}}}}, which is not known"
        side, kind, key = part.group(1, 2, 3)
        definitions = task.component.input_definitions if side == "inputs" else task.component.output_definitions
        if key not in getattr(definitions, kind):
            return f"has the placeholder {{{{${inner}}}}}, but its component has no {side[:-1]} '{key}'"
    return ""


def fill_placeholders(text: str, executor_input: Any, job: Mapping[str, str]) -> str:
    """Returns the text with its placeholders replaced.

    Args:
        text: one argument.
        executor_input: a kfp `ExecutorInput`.
        job: values of `pipeline_job_name` and its like.

    Raises:
        LookupError: an input that is named has no artifact or no value.
    """
    return _PLACEHOLDER.sub(lambda match: _value(match.group(1), executor_input, job), text)


def _value(inner: str, executor_input: Any, job: Mapping[str, str]) -> str:
    if not inner:
        return str(json_format.MessageToJson(executor_input, indent=None))
    if inner in (".outputs.output_file", ".outputs.output_metadata_uri"):
        return str(executor_input.outputs.output_file)
    if inner[1:] in _JOB_KEYS:
        return job[inner[1:]]
    part = _PART.fullmatch(inner)
    if part is None:
        raise LookupError(f"{{{{${inner}}}}} is not known")
    side, kind, key, attribute, index = part.groups()
    group = getattr(executor_input, side)
    if kind == "parameters" and side == "outputs":
        return str(group.parameters[key].output_file)
    if kind == "parameters":
        found = group.parameter_values if key in group.parameter_values else group.parameters
        value = from_message(found[key]) if key in found else ""
        return value if isinstance(value, str) else json.dumps(value)
    artifacts = group.artifacts[key].artifacts if key in group.artifacts else []
    if not artifacts:
        raise LookupError(f"{{{{${inner}}}}}: there is no artifact")
    return _attribute(artifacts[0], attribute, index)


def _attribute(artifact: Any, attribute: str | None, index: str | None) -> str:
    if attribute in (None, "uri", "path"):
        return str(artifact.uri)
    if attribute == "name":
        return str(artifact.name)
    if attribute == "value":
        with open(artifact.uri, encoding="utf-8") as file:
            return file.read()
    metadata = json_format.MessageToDict(artifact.metadata)
    if attribute != "metadata" or (index is not None and index not in metadata):
        raise LookupError(f"the artifact {artifact.name} has no {attribute} {index or ''}".rstrip())
    value = metadata if index is None else metadata[index]
    return value if isinstance(value, str) else json.dumps(value)
