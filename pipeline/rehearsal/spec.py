"""Reads the spec that run_vertex compiles, strictly: what kfp's protos do not know or it never compiles is refused."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from kfp.pipeline_spec import pipeline_spec_pb2 as pb

from components.lane import installed_lane, lane_of
from data.errors import UserError

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
SCHEMA_VERSION = "2.1.0"

_COMPILED = {
    "PipelineJob": "display_name labels pipeline_spec runtime_config",
    "RuntimeConfig": "gcs_output_directory",
    "PipelineSpec": "pipeline_info deployment_spec sdk_version schema_version components root",
    "root": "dag",
    "DagSpec": "tasks",
    "PipelineTaskSpec": "task_info inputs dependent_tasks caching_options component_ref trigger_policy retry_policy",
    "TriggerPolicy": "",
    "InputParameterSpec": "runtime_value",
    "ValueOrRuntimeParameter": "constant",
    "InputArtifactSpec": "task_output_artifact",
    "ComponentSpec": "input_definitions output_definitions executor_label",
    "ComponentOutputsSpec": "artifacts",
    "ArtifactSpec": "artifact_type",
    "ArtifactTypeSchema": "instance_schema",
    "ParameterSpec": "parameter_type",
    "ExecutorSpec": "container resolver",
    "PipelineContainerSpec": "image command args resources",
    "ResourceSpec": "cpu_limit memory_limit",
    "ArtifactQuerySpec": "filter",
}
"""Message -> the fields that run_vertex's compiler may fill; `root` is a ComponentSpec, but no component of a task."""

_NAMES = {
    "condition": "a condition",
    "strategy": "an exit handler",
    "task_final_status": "an exit handler's parameter",
    "importer": "an importer",
    "dag": "a nested pipeline",
    "parameter_iterator": "a loop over items",
    "artifact_iterator": "a loop over items",
    "input_definitions": "a list of the pipeline's parameters",
    "component_input_parameter": "a parameter of the pipeline",
    "runtime_parameter": "a parameter of the pipeline",
    "parameter_values": "a parameter of the pipeline",
}


@dataclass(frozen=True)
class Spec:
    """A parsed spec.

    Attributes:
        path: the file.
        name: the pipeline's name.
        pipeline_root: where artifacts go, `gs://` or local; empty where the file names none.
        pipeline: the whole spec.
        executors: executor label -> how a component runs.
    """

    path: Path
    name: str
    pipeline_root: str
    pipeline: pb.PipelineSpec
    executors: Mapping[str, Any]


def read_spec(path: Path) -> Spec:
    """Reads a `PipelineJob`, such as `run_vertex --compile-only` writes it.

    Raises:
        UserError: the file cannot be read, is no pipeline spec, is of another lane, or has something that run_vertex
            never compiles.
    """
    tree = _read_tree(path)
    job = _parse(path, tree, pb.PipelineJob())
    # Both are free-form Structs within the job: they are parsed by their own protos.
    spec = _parse(path, tree.get("pipelineSpec", {}), pb.PipelineSpec())
    config = _parse(path, json_format.MessageToDict(spec.deployment_spec), pb.PipelineDeploymentConfig())
    name = spec.pipeline_info.name
    if name and not NAME.fullmatch(name):
        raise UserError(f"{path}: pipelineInfo.name is {name!r}; Vertex takes a-z, 0-9 and '-', at most 128 characters")
    if not name or not spec.root.dag.tasks:
        raise UserError(f"{path}: {'has no task' if name else 'is no pipeline spec: it has no pipelineInfo.name'}")
    if spec.schema_version != SCHEMA_VERSION:
        raise UserError(
            f"{path}: schemaVersion is '{spec.schema_version}', which is not rehearsed; run_vertex compiles "
            f"{SCHEMA_VERSION}"
        )
    for message, where in ((job, ""), (spec, ""), (config, "deploymentSpec.")):
        for foreign in _find_foreign(message, message.DESCRIPTOR.name, where):
            raise UserError(f"{path}: {foreign}; run_vertex compiles none")
    sdk, own = spec.sdk_version, installed_lane()
    if sdk.startswith("tfx-") and lane_of(sdk.removeprefix("tfx-")) != own:
        raise UserError(
            f"{path}: was compiled with {sdk}, and this environment is of the lane {own}; compile it again here, or "
            "rehearse it in the environment that compiled it"
        )
    return Spec(path, name, job.runtime_config.gcs_output_directory, spec, dict(config.executors))


def _read_tree(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read as a pipeline spec: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: is not JSON: {error}; YAML is not rehearsed, and run_vertex writes none") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("pipelineSpec", {}), dict):
        raise UserError(f"{path}: is no pipeline spec: expected one object with displayName and pipelineSpec")
    return tree


def _parse(path: Path, tree: Mapping[str, Any], message: Any) -> Any:
    try:
        return json_format.ParseDict(tree, message, ignore_unknown_fields=False)
    except (json_format.ParseError, TypeError, AttributeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise UserError(f"{path}: is refused by kfp's {type(message).__name__}: {text}") from None


def _find_foreign(message: Any, kind: str, where: str) -> Iterator[str]:
    """Yields what a message holds, at any depth, beyond `_COMPILED`.

    Args:
        message: a parsed one; what is in a free-form Struct is not looked at.
        kind: key of `_COMPILED`; all fields of one that is not there are known.
        where: the path to the message, with a dot at its end where it is not empty.
    """
    for field, value in message.ListFields():
        place = f"{where}{field.json_name}"
        if kind in _COMPILED and field.name not in _COMPILED[kind].split():
            named = f"{_NAMES[field.name]}, which is " if field.name in _NAMES else ""
            yield f"{place} is {named}not rehearsed"
        elif field.message_type is None or field.message_type.file.package == "google.protobuf":
            continue
        elif field.message_type.GetOptions().map_entry:
            for key in sorted(value):
                if isinstance(value[key], Message):
                    yield from _find_foreign(value[key], value[key].DESCRIPTOR.name, f"{place}.{key}.")
        else:
            yield from _find_foreign(value, "root" if field.name == "root" else value.DESCRIPTOR.name, f"{place}.")
