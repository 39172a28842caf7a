"""The two messages between Vertex and a container: ExecutorInput, what to do, and ExecutorOutput, what was done."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2 as pb

from pipeline.rehearsal.artifact_store import StoredArtifact, TaskOutputs, artifact_title, make_artifact, updated
from pipeline.rehearsal.graph import Task
from pipeline.rehearsal.values import fits, from_message, is_legacy, kind_of, to_legacy, to_value

OUTPUT_FILE = "executor_output.json"
# Their URI is a file, not a folder.
_VALUE_TYPES = ("tfx.String", "tfx.Integer", "tfx.Float", "tfx.Boolean", "tfx.JsonValue", "tfx.Bytes")


class BadOutput(Exception):
    """A container ended well, but did not say what it made in the form that Vertex reads."""


def make_output_artifacts(task: Task, task_root: Path) -> dict[str, StoredArtifact]:
    """Returns new artifacts for a task's outputs, each with a place of its own below `task_root`, which is made."""
    artifacts = {}
    # A bucket has no folders that would have to be made; here a task finds those that it writes into.
    task_root.mkdir(parents=True, exist_ok=True)
    for key, spec in task.component.output_definitions.artifacts.items():
        uri = task_root / key
        if artifact_title(spec.artifact_type) not in _VALUE_TYPES:
            uri.mkdir(parents=True, exist_ok=True)
        metadata = json_format.MessageToDict(spec.metadata)
        for old in (spec.properties, spec.custom_properties):
            metadata.update({name: from_message(value.constant_value) for name, value in old.items()})
        artifacts[key] = make_artifact(spec.artifact_type, str(uri), metadata)
    return artifacts


def make_executor_input(
    task: Task,
    inputs: Mapping[str, StoredArtifact],
    parameters: Mapping[str, Any],
    outputs: Mapping[str, StoredArtifact],
    task_root: Path,
) -> pb.ExecutorInput:
    """Returns what a container gets in place of `{{$}}`.

    Args:
        task: whose component declares the parameters: legacy ones (schema 2.0) and today's lie in different fields.
        inputs: the artifacts; optional ones that nobody made are left out.
        parameters: the values.
        outputs: from `make_output_artifacts`.
        task_root: the folder of the task's outputs.
    """
    message = pb.ExecutorInput()
    declared = task.component.input_definitions.parameters
    for key, artifact in inputs.items():
        message.inputs.artifacts[key].artifacts.append(artifact.message())
    for key, value in parameters.items():
        if is_legacy(declared[key]):
            message.inputs.parameters[key].CopyFrom(to_legacy(value))
        else:
            message.inputs.parameter_values[key].CopyFrom(to_value(value))
    for key, artifact in outputs.items():
        message.outputs.artifacts[key].artifacts.append(artifact.message())
    for key in task.component.output_definitions.parameters:
        message.outputs.parameters[key].output_file = str(task_root / f"{key}.parameter")
    message.outputs.output_file = str(task_root / OUTPUT_FILE)
    return message


def read_executor_output(message: pb.ExecutorInput) -> pb.ExecutorOutput:
    """Reads the file that the container wrote; a container may write none.

    Raises:
        BadOutput: it is no ExecutorOutput.
    """
    path = Path(message.outputs.output_file)
    if not path.exists():
        return pb.ExecutorOutput()
    try:
        return json_format.Parse(path.read_text(encoding="utf-8"), pb.ExecutorOutput())
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise BadOutput(f"{path} is no ExecutorOutput: {' '.join(str(error).split())}") from None


def collect_outputs(
    task: Task, message: pb.ExecutorInput, output: pb.ExecutorOutput, artifacts: Mapping[str, StoredArtifact]
) -> TaskOutputs:
    """Returns what a task made: the artifacts as its container changed them, and its output parameters.

    Raises:
        BadOutput: an output is unknown or missing, or a parameter is of another kind than declared.
    """
    declared = task.component.output_definitions.parameters
    return TaskOutputs(
        merge_artifacts(artifacts, output),
        {key: _output_parameter(key, spec, message, output) for key, spec in declared.items()},
    )


def merge_artifacts(artifacts: Mapping[str, StoredArtifact], output: pb.ExecutorOutput) -> dict[str, StoredArtifact]:
    """Returns the output artifacts with the places and properties that the container reported.

    Raises:
        BadOutput: it reports one that its component does not declare.
    """
    unknown = sorted({*output.artifacts} - {*artifacts})
    if unknown:
        raise BadOutput(f"the ExecutorOutput has the artifact '{unknown[0]}', which the component does not declare")
    reported = {key: made.artifacts[0] for key, made in output.artifacts.items() if made.artifacts}
    return {
        key: updated(artifact, reported[key]) if key in reported else artifact for key, artifact in artifacts.items()
    }


def _output_parameter(key: str, spec: Any, message: pb.ExecutorInput, output: pb.ExecutorOutput) -> Any:
    kind = kind_of(spec)
    path = Path(message.outputs.parameters[key].output_file)
    if key in output.parameter_values:
        value = from_message(output.parameter_values[key])
    elif key in output.parameters:
        value = from_message(output.parameters[key])
    elif path.exists():
        text = path.read_text(encoding="utf-8")
        try:
            value = text if kind == "STRING" else from_message(json_format.Parse(text, to_value(None)))
        except json_format.ParseError:
            raise BadOutput(f"the output parameter '{key}' is {text[:60]!r}, but is declared as {kind}") from None
    else:
        raise BadOutput(f"the output parameter '{key}' was not written")
    if not fits(kind, value):
        raise BadOutput(f"the output parameter '{key}' is {value!r}, but is declared as {kind}")
    return value
