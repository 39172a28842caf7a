"""What rehearsals leave for each other: artifacts, to be found by resolvers, and the results that a cache serves."""

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2 as pb

from data.errors import UserError
from data.json_files import read_json, write_json

_NAME_PREFIX = "projects/0/locations/local/metadataStores/default/artifacts/"
QUERY = re.compile(
    r'schema_title="([\w.]+)" AND state=LIVE AND (?:name="([^"]*)"|metadata\.(\w+)\.number_value=([\d.]+))'
)
"""A resolver's query: the model of that name, or the latest artifact with a property of that value, e.g. `blessed`."""


def artifact_title(schema: Any) -> str:
    """Returns the name of an artifact type, e.g. `tfx.Model`, of a kfp `ArtifactTypeSchema`; '' if it has none."""
    parsed = yaml.safe_load(schema.instance_schema)  # TFX writes YAML into this field of the JSON.
    return str(parsed.get("title", "")) if isinstance(parsed, dict) else ""


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


def make_artifact(type_schema: Any, uri: str) -> StoredArtifact:
    """Returns an artifact with a new name."""
    name = f"{_NAME_PREFIX}{uuid.uuid4().int % 10**19}"
    return StoredArtifact(name, uri, json_format.MessageToDict(type_schema), {})


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
                tree = read_json(str(path))
                for row in tree["artifacts"]:
                    StoredArtifact(**row["artifact"])
                self._tree = {"artifacts": list(tree["artifacts"]), "cache": dict(tree["cache"])}
            except (OSError, ValueError, KeyError, TypeError):
                raise UserError(
                    f"{path}: is damaged; remove it to rehearse from the start, or choose another --output-dir"
                ) from None

    def add(self, outputs: Mapping[str, StoredArtifact], key: str | None = None) -> None:
        """Keeps a task's outputs, and for the cache under a key."""
        for artifact in outputs.values():
            self._tree["artifacts"].append({"pipeline": self._pipeline, "artifact": asdict(artifact)})
        if key is not None:
            self._tree["cache"][key] = {"artifacts": {name: artifact.name for name, artifact in outputs.items()}}
        write_json(str(self._path), self._tree)

    def cached(self, key: str) -> dict[str, StoredArtifact] | None:
        """Returns the outputs of a task that did the same, unless their files are gone."""
        entry = self._tree["cache"].get(key)
        if entry is None:
            return None
        by_name = {row["artifact"]["name"]: StoredArtifact(**row["artifact"]) for row in self._tree["artifacts"]}
        found = {name: by_name.get(artifact) for name, artifact in entry["artifacts"].items()}
        kept = {name: item for name, item in found.items() if item is not None and _is_there(item)}
        return kept if len(kept) == len(found) else None

    def find(self, query: str) -> StoredArtifact | None:
        """Answers a resolver's query: the latest of this pipeline's artifacts that are still there, or None.

        Args:
            query: of one of the two forms of `QUERY`.

        Raises:
            LookupError: it is of another form.
        """
        match = QUERY.fullmatch(query)
        if match is None:
            raise LookupError(query)
        title, name, key, number = match.groups()
        for row in reversed(self._tree["artifacts"]):
            artifact = StoredArtifact(**row["artifact"])
            if row["pipeline"] != self._pipeline or artifact.title != title or not _is_there(artifact):
                continue
            value = artifact.metadata.get(key)
            if artifact.name == name or (isinstance(value, int | float) and value == float(number)):
                return artifact
        return None


def _is_there(artifact: StoredArtifact) -> bool:
    return "://" in artifact.uri or Path(artifact.uri).exists()
