"""What the stand-in of Vertex AI keeps of artifacts: what runs left, found by queries and by lineage."""

import re
from dataclasses import dataclass, field
from typing import Any

from google.cloud import aiplatform_v1 as vertex
from google.protobuf import json_format

from tests.vertex_stand_in import PARENT, ServiceError

STORE = f"{PARENT}/metadataStores/default"
_TERM = re.compile(r'(?:(schema_title|uri|name|state)="?([^"]*?)"?|metadata\.(\w+)\.(\w+)_value="?([^"]*?)"?)')


@dataclass
class VertexMetadata:
    """Plays MetadataService.

    Attributes:
        artifacts: by resource name, the oldest first.
        events: of executions.
    """

    artifacts: dict[str, vertex.Artifact] = field(default_factory=dict)
    events: list[vertex.Event] = field(default_factory=list)

    def add(self, title: str, uri: str, **metadata: Any) -> str:
        """Keeps an artifact, and returns its name."""
        name = f"{STORE}/artifacts/{len(self.artifacts) + 1}"
        artifact = vertex.Artifact(
            name=name, uri=uri, schema_title=f"tfx.{title}", state="LIVE", metadata=metadata, etag="1"
        )
        self.artifacts[name] = artifact
        return name

    def run(self, inputs: list[str], outputs: list[str]) -> None:
        """Keeps that one execution made artifacts of others."""
        executions = {event.execution for event in self.events}
        name = f"{STORE}/executions/{len(executions) + 1}"
        for kind, names in (("INPUT", inputs), ("OUTPUT", outputs)):
            self.events += [vertex.Event(artifact=one, execution=name, type_=kind) for one in names]

    def find(self, query: str) -> list[vertex.Artifact]:
        """Answers a query of Vertex AI's language, as far as it is used here: terms with AND, the latest first."""
        found = list(reversed(self.artifacts.values()))
        for term in query.split(" AND "):
            match = _TERM.fullmatch(term)
            if match is None:
                raise ServiceError("INVALID_ARGUMENT", f"The filter {term} is not understood.")
            key, value, field_name, kind, wanted = match.groups()
            if key:
                found = [one for one in found if _text(getattr(one, key)) == value]
            else:
                typed = float(wanted) if kind == "number" else wanted
                found = [one for one in found if metadata_of(one).get(field_name) == typed]
        return found

    def ListArtifacts(self, request: vertex.ListArtifactsRequest) -> vertex.ListArtifactsResponse:
        assert request.parent == STORE
        found = self.find(request.filter)
        start = int(request.page_token or 0)
        token = str(start + 1) if start + 1 < len(found) else ""
        return vertex.ListArtifactsResponse(artifacts=found[start : start + 1], next_page_token=token)

    def GetArtifact(self, request: vertex.GetArtifactRequest) -> vertex.Artifact:
        return self.artifacts[request.name]

    def UpdateArtifact(self, request: vertex.UpdateArtifactRequest) -> vertex.Artifact:
        artifact = self.artifacts[request.artifact.name]
        assert list(request.update_mask.paths) == ["metadata"]
        if request.artifact.etag != artifact.etag:
            raise ServiceError("ABORTED", "The etag is not the current one.")
        artifact.metadata, artifact.etag = request.artifact.metadata, str(int(artifact.etag) + 1)
        return artifact

    def QueryArtifactLineageSubgraph(
        self, request: vertex.QueryArtifactLineageSubgraphRequest
    ) -> vertex.LineageSubgraph:
        assert request.max_hops == 1
        return self._subgraph([event for event in self.events if event.artifact == request.artifact])

    def QueryExecutionInputsAndOutputs(
        self, request: vertex.QueryExecutionInputsAndOutputsRequest
    ) -> vertex.LineageSubgraph:
        return self._subgraph([event for event in self.events if event.execution == request.execution])

    def _subgraph(self, events: list[vertex.Event]) -> vertex.LineageSubgraph:
        names = dict.fromkeys(event.artifact for event in events)
        return vertex.LineageSubgraph(artifacts=[self.artifacts[name] for name in names], events=events)


def metadata_of(artifact: vertex.Artifact) -> dict[str, Any]:
    found: dict[str, Any] = json_format.MessageToDict(vertex.Artifact.pb(artifact).metadata)
    return found


def _text(value: Any) -> str:
    return str(getattr(value, "name", value))
