"""The two messages between Vertex and a container: ExecutorInput, what to do, and ExecutorOutput, what was done."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import json_format, struct_pb2
from kfp.pipeline_spec import pipeline_spec_pb2 as pb

from pipeline.rehearsal.artifact_store import StoredArtifact, make_artifact, updated
from pipeline.rehearsal.graph import Task

OUTPUT_FILE = "executor_output.json"
WHOLE_INPUT = "{{$}}"
"""The placeholder of the ExecutorInput, the only one in the command line of a container of ours."""

_PROPERTY = re.compile(r"\{\{\$\.inputs\.artifacts\['([^']+)'\]\.metadata\['([^']+)'\]\}\}")


def fill_query(text: str, inputs: Mapping[str, StoredArtifact]) -> str:
    """Returns a resolver's query with the properties of its inputs in place of their placeholders.

    Raises:
        LookupError: an input or its property is not there.
    """
    return _PROPERTY.sub(lambda match: str(inputs[match.group(1)].metadata[match.group(2)]), text)


def make_output_artifacts(task: Task, task_root: Path) -> dict[str, StoredArtifact]:
    """Returns new artifacts for a task's outputs, each with a place of its own below `task_root`, which is made."""
    artifacts = {}
    # A bucket has no folders that would have to be made; here a task finds those that it writes into.
    task_root.mkdir(parents=True, exist_ok=True)
    for key, spec in task.component.output_definitions.artifacts.items():
        uri = task_root / key
        uri.mkdir(exist_ok=True)
        artifacts[key] = make_artifact(spec.artifact_type, str(uri))
    return artifacts


def make_executor_input(
    parameters: Mapping[str, Any],
    inputs: Mapping[str, StoredArtifact],
    outputs: Mapping[str, StoredArtifact],
    task_root: Path,
) -> pb.ExecutorInput:
    """Returns what a container gets in place of `{{$}}`.

    Args:
        parameters: the values.
        inputs: the artifacts; those that a resolver did not find are left out.
        outputs: from `make_output_artifacts`.
        task_root: the folder of the task's outputs.
    """
    message = pb.ExecutorInput()
    for key, value in parameters.items():
        message.inputs.parameter_values[key].CopyFrom(json_format.ParseDict(value, struct_pb2.Value()))
    for side, artifacts in ((message.inputs, inputs), (message.outputs, outputs)):
        for key, artifact in artifacts.items():
            side.artifacts[key].artifacts.append(artifact.message())
    message.outputs.output_file = str(task_root / OUTPUT_FILE)
    return message


def collect_outputs(message: pb.ExecutorInput, artifacts: Mapping[str, StoredArtifact]) -> dict[str, StoredArtifact]:
    """Returns the output artifacts with the places and properties that the container reported, if it did."""
    path = Path(message.outputs.output_file)
    output = pb.ExecutorOutput()
    if path.exists():
        json_format.Parse(path.read_text(encoding="utf-8"), output)
    reported = {key: made.artifacts[0] for key, made in output.artifacts.items() if made.artifacts}
    return {
        key: updated(artifact, reported[key]) if key in reported else artifact for key, artifact in artifacts.items()
    }
