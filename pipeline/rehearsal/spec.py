"""Reads a compiled pipeline spec strictly: what kfp's own protos do not know is refused, as Vertex refuses it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2 as pb

from data.errors import UserError
from pipeline.rehearsal.values import fits, from_message, kind_of, parse_value

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
SCHEMA_VERSIONS = ("2.0.0", "2.1.0")


@dataclass(frozen=True)
class Spec:
    """A parsed spec.

    Attributes:
        path: the file.
        name: the pipeline's name.
        pipeline_root: where artifacts go, `gs://` or local; empty where the file names none.
        pipeline: the whole spec.
        executors: executor label -> how a component runs.
        parameters: the values of the pipeline's own parameters.
    """

    path: Path
    name: str
    pipeline_root: str
    pipeline: pb.PipelineSpec
    executors: Mapping[str, Any]
    parameters: Mapping[str, Any]


def read_spec(path: Path, parameters: Mapping[str, str]) -> Spec:
    """Reads a `PipelineJob` or a bare `PipelineSpec`, schema 2.0 or 2.1, JSON or YAML.

    Args:
        path: the file.
        parameters: the command line's values, as text; they win over the file's.

    Raises:
        UserError: the file cannot be read, is no pipeline spec, or a parameter is unknown, missing or of another kind.
    """
    tree = _read_tree(path)
    job = pb.PipelineJob()
    if "pipelineSpec" in tree:
        _parse(path, {key: value for key, value in tree.items() if key != "pipelineSpec"}, job)
        tree = tree["pipelineSpec"]
    # The deployment config is a free-form Struct within the spec: it is parsed by its own proto.
    spec = _parse(path, tree, pb.PipelineSpec())
    config = _parse(path, tree.get("deploymentSpec", tree.get("deployment_spec", {})), pb.PipelineDeploymentConfig())
    name = spec.pipeline_info.name
    if name and not NAME.fullmatch(name):
        raise UserError(f"{path}: pipelineInfo.name is {name!r}; Vertex takes a-z, 0-9 and '-', at most 128 characters")
    if not name or not spec.root.dag.tasks:
        raise UserError(f"{path}: {'has no task' if name else 'is no pipeline spec: it has no pipelineInfo.name'}")
    if spec.schema_version not in SCHEMA_VERSIONS:
        raise UserError(
            f"{path}: schemaVersion is '{spec.schema_version}'; Vertex takes {' and '.join(SCHEMA_VERSIONS)}"
        )
    return Spec(
        path=path,
        name=name,
        pipeline_root=job.runtime_config.gcs_output_directory or spec.default_pipeline_root,
        pipeline=spec,
        executors=dict(config.executors),
        parameters=_make_parameters(path, spec, job.runtime_config, parameters),
    )


def _read_tree(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise UserError(f"{path}: cannot be read as a pipeline spec: {reason}") from None
    try:
        if path.suffix in (".yaml", ".yml"):
            documents = list(yaml.safe_load_all(text))
            tree = documents[0] if len(documents) == 1 else None
        else:
            tree = json.loads(text)
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: is not JSON or YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("pipelineSpec", {}), dict):
        raise UserError(f"{path}: is no pipeline spec: expected one object with pipelineInfo, components and root")
    return tree


def _parse(path: Path, tree: Mapping[str, Any], message: Any) -> Any:
    try:
        return json_format.ParseDict(tree, message, ignore_unknown_fields=False)
    except (json_format.ParseError, TypeError, AttributeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise UserError(f"{path}: is refused by kfp's {type(message).__name__}: {text}") from None


def _make_parameters(path: Path, spec: Any, runtime: Any, given: Mapping[str, str]) -> dict[str, Any]:
    declared = spec.root.input_definitions.parameters
    unknown = sorted(({*given, *runtime.parameter_values, *runtime.parameters}) - set(declared))
    if unknown:
        known = ", ".join(sorted(declared)) or "none"
        raise UserError(f"{path}: has no parameter '{unknown[0]}'; its parameters are: {known}")
    values: dict[str, Any] = {}
    for name, declaration in declared.items():
        kind = kind_of(declaration)
        if name in given:
            values[name] = parse_value(name, kind, given[name])
        elif name in runtime.parameter_values:
            values[name] = from_message(runtime.parameter_values[name])
        elif name in runtime.parameters:
            values[name] = from_message(runtime.parameters[name])
        elif declaration.HasField("default_value"):
            values[name] = from_message(declaration.default_value)
        elif declaration.is_optional:
            continue
        else:
            raise UserError(f"{path}: parameter '{name}' ({kind}) has no value; give --parameter {name}=VALUE")
        if not fits(kind, values[name]):
            raise UserError(f"{path}: parameter '{name}' is {values[name]!r}, but is declared as {kind}")
    return values
