"""What rehearsals leave for each other: artifacts, to be found by resolvers, and the results that a cache serves."""

import hashlib
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2 as pb

from data.errors import UserError
from pipeline.output_dir import write_whole

_NAME_PREFIX = "projects/0/locations/local/metadataStores/default/artifacts/"
_TERM = re.compile(r"""([a-zA-Z_][\w.]*)\s*=\s*(?:"([^"]*)"|([\w.+-]+))""")


def artifact_title(schema: Any) -> str:
    """Returns the name of an artifact type, e.g. `tfx.Model`, of a kfp `ArtifactTypeSchema`; '' if it has none."""
    if schema.instance_schema:
        parsed = yaml.safe_load(schema.instance_schema)
        return str(parsed.get("title", "")) if isinstance(parsed, dict) else ""
    return str(schema.schema_title or schema.schema_uri)


@dataclass(frozen=True)
class StoredArtifact:
    """An artifact as Vertex's metadata store keeps it.

    Attributes:
        name: stable and unique, in the form that Vertex gives.
        uri: a local path.
        type: a kfp `ArtifactTypeSchema` as JSON.
        metadata: its properties, of plain JSON types.
    """

    name: str
    uri: str
    type: dict[str, Any]
    metadata: dict[str, Any]

    @property
    def title(self) -> str:
        """The type's name, e.g. `tfx.Model`."""
        return artifact_title(json_format.ParseDict(self.type, pb.ArtifactTypeSchema()))

    def message(self) -> pb.RuntimeArtifact:
        """Returns it as a task gets it."""
        return json_format.ParseDict(asdict(self), pb.RuntimeArtifact())


@dataclass(frozen=True)
class TaskOutputs:
    """What a task left."""

    artifacts: Mapping[str, StoredArtifact]
    parameters: Mapping[str, Any]


def make_artifact(type_schema: Any, uri: str, metadata: Mapping[str, Any]) -> StoredArtifact:
    """Returns an artifact with a new name."""
    name = f"{_NAME_PREFIX}{uuid.uuid4().int % 10**19}"
    return StoredArtifact(name, uri, json_format.MessageToDict(type_schema), dict(metadata))


def updated(artifact: StoredArtifact, message: Any) -> StoredArtifact:
    """Returns the artifact with the place and the properties that its task reported."""
    metadata = {**artifact.metadata, **json_format.MessageToDict(message.metadata)}
    return replace(artifact, uri=message.uri or artifact.uri, metadata=metadata)


def cache_key(parts: Any) -> str:
    """Returns the hash of everything, of JSON types, that decides what a task does."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class ArtifactStore:
    """One JSON file, written by atomic rename after each task; one process at a time (the output folder is locked)."""

    def __init__(self, path: Path, pipeline: str) -> None:
        """Reads the file if it is there.

        Args:
            path: the file.
            pipeline: resolvers see the artifacts of this pipeline only, as on Vertex.

        Raises:
            UserError: the file is damaged.
        """
        self._path = path
        self._pipeline = pipeline
        self._tree: dict[str, Any] = {"artifacts": [], "cache": {}}
        if path.exists():
            try:
                tree = json.loads(path.read_text(encoding="utf-8"))
                for row in tree["artifacts"]:
                    StoredArtifact(**row["artifact"])
                self._tree = {"artifacts": list(tree["artifacts"]), "cache": dict(tree["cache"])}
            except (OSError, ValueError, KeyError, TypeError):
                raise UserError(
                    f"{path}: is damaged; remove it to rehearse from the start, or choose another --output-dir"
                ) from None

    def add(self, outputs: TaskOutputs, key: str | None = None) -> None:
        """Keeps a task's outputs, and for the cache under a key."""
        known = {row["artifact"]["name"] for row in self._tree["artifacts"]}
        for artifact in outputs.artifacts.values():
            if artifact.name not in known:
                self._tree["artifacts"].append({"pipeline": self._pipeline, "artifact": asdict(artifact)})
        if key is not None:
            self._tree["cache"][key] = {
                "artifacts": {name: artifact.name for name, artifact in outputs.artifacts.items()},
                "parameters": dict(outputs.parameters),
            }
        write_whole(self._path, json.dumps(self._tree, indent=1, ensure_ascii=False) + "\n")

    def cached(self, key: str) -> TaskOutputs | None:
        """Returns what a task left that did the same, unless its files are gone."""
        entry = self._tree["cache"].get(key)
        if entry is None:
            return None
        by_name = {row["artifact"]["name"]: StoredArtifact(**row["artifact"]) for row in self._tree["artifacts"]}
        found = {name: by_name.get(artifact) for name, artifact in entry["artifacts"].items()}
        kept = {name: item for name, item in found.items() if item is not None and _is_there(item)}
        return TaskOutputs(kept, entry["parameters"]) if len(kept) == len(found) else None

    def find(self, query: str, limit: int = 1) -> list[StoredArtifact]:
        """Answers a resolver's query, latest first.

        Args:
            query: terms joined by AND, e.g. `schema_title="tfx.Model" AND state=LIVE`.
            limit: at most so many.

        Raises:
            UserError: the query is of a form that is not known.
        """
        terms = parse_query(query)
        rows = [row for row in reversed(self._tree["artifacts"]) if row["pipeline"] == self._pipeline]
        artifacts = (StoredArtifact(**row["artifact"]) for row in rows)
        return [item for item in artifacts if _matches(item, terms)][:limit]


def parse_query(query: str) -> Sequence[tuple[str, str]]:
    """Returns the terms of a resolver's query as (field, value).

    Raises:
        UserError: it is of a form that is not known.
    """
    terms = []
    for term in query.split(" AND "):
        match = _TERM.fullmatch(term.strip())
        field = match.group(1) if match else ""
        if match is None or not (
            field in ("schema_title", "state", "name", "uri")
            or re.fullmatch(r"metadata\.\w+\.(number|string)_value", field)
        ):
            raise UserError(f"a resolver's query has the term {term.strip()!r}, which is not known")
        terms.append((field, match.group(2) if match.group(2) is not None else match.group(3)))
    return terms


def _matches(artifact: StoredArtifact, terms: Sequence[tuple[str, str]]) -> bool:
    return all(_matches_term(artifact, field, value) for field, value in terms)


def _matches_term(artifact: StoredArtifact, field: str, value: str) -> bool:
    if field == "state":
        return ("LIVE" if _is_there(artifact) else "DELETED") == value
    if not field.startswith("metadata."):
        return bool({"schema_title": artifact.title, "name": artifact.name, "uri": artifact.uri}[field] == value)
    _, key, kind = field.split(".")
    found = artifact.metadata.get(key)
    if kind == "number_value":
        return isinstance(found, int | float) and float(found) == float(value)
    return isinstance(found, str) and found == value


def _is_there(artifact: StoredArtifact) -> bool:
    return "://" in artifact.uri or Path(artifact.uri).exists()
