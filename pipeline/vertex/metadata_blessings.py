"""Takes a model's blessing back, or gives it again, where runs on Vertex AI keep it: in its metadata.

The resolver of the next run looks for a blessing whose `blessed` is 1. The record in the model's folder makes a later
evaluation refuse the model, too.
"""

import json
from collections.abc import Iterator
from typing import Any

from google.cloud import aiplatform_v1 as vertex
from google.protobuf import field_mask_pb2, json_format

from components.evaluator.refusals import REFUSALS_KEY
from components.evaluator.rollback import ROLLBACK_GATE, Rollback, remove_rollback, write_rollback
from components.google_cloud.calls import GIVE_UP_SECONDS, ROLE, call, ensure, list_pages
from data.errors import UserError
from pipeline.vertex.cloud import Cloud

# Of TFX, whose import takes seconds: `tfx.components.evaluator.constants`, and its Pusher's own.
BLESSED_KEY, MODEL_KEY, DESTINATION_KEY = "blessed", "current_model_id", "pushed_destination"


class MetadataBlessings:
    """The verdicts on the models of a project, by the resource names of their `Model` artifacts."""

    def __init__(self, cloud: Cloud) -> None:
        """Asks nothing yet."""
        self._cloud = cloud
        self._store = f"{cloud.parent}/metadataStores/default"
        self._found: dict[str, set[str]] = {}
        self._blessed_by: dict[str, set[str]] = {}  # Of each model that was found, what its Pusher was given.

    @property
    def place(self) -> str:
        """The project."""
        return f"project {self._cloud.project} in {self._cloud.region}"

    def find_models(self, version_path: str) -> set[str]:
        """Returns the model that was pushed to a place, or nothing where the metadata know of none.

        It is what the Pusher had as its input that made the `PushedModel` artifact with this address, or that pushed to
        it: an endpoint's version is known by the one, one in a folder of versions by the other.

        Raises:
            UserError | CloudFault: as `call`.
        """
        if version_path not in self._found:
            self._found[version_path] = set(self._find_models(version_path))
        return self._found[version_path]

    def describe_model(self, model: str) -> str:
        """Returns the model's folder."""
        return self._get(model).uri

    def is_blessed(self, model: str) -> bool:
        """Says whether the Evaluator blessed a model, and would still without a rollback."""
        return any(
            _is_blessed(metadata) or list(_refusals(metadata)) == [ROLLBACK_GATE]
            for metadata in map(_metadata_of, self._find_blessings(model))
        )

    def take_back(self, model: str, rollback: Rollback) -> None:
        """Refuses a blessed model after all; done again, it changes nothing more.

        Raises:
            UserError: the record cannot be written, or as `call`.
            CloudFault: as `call`.
        """
        _in_bucket(lambda uri: write_rollback(uri, rollback), self.describe_model(model))
        for blessing in self._find_blessings(model):

            def refuse(metadata: dict[str, Any]) -> bool:
                if not _is_blessed(metadata):
                    return False
                _judge(metadata, {**_refusals(metadata), ROLLBACK_GATE: rollback.describe()})
                return True

            self._update(blessing.name, refuse)

    def give_back(self, model: str) -> None:
        """Undoes `take_back`; what a gate refused stays refused. Errors as there."""
        for blessing in self._find_blessings(model):

            def bless(metadata: dict[str, Any]) -> bool:
                refusals = _refusals(metadata)
                if refusals.pop(ROLLBACK_GATE, None) is None:
                    return False
                _judge(metadata, refusals)
                return True

            self._update(blessing.name, bless)
        _in_bucket(remove_rollback, self.describe_model(model))

    @property
    def _client(self) -> vertex.MetadataServiceClient:
        return self._cloud.client(vertex.MetadataServiceClient)

    def _find_models(self, path: str) -> Iterator[str]:
        for pushed in self._find_pushes(path):
            lineage = self._ask("query_artifact_lineage_subgraph", artifact=pushed.name, max_hops=1)
            output = vertex.Event.Type.OUTPUT
            makers = {event.execution for event in lineage.events if event.type_ == output}
            for maker in sorted(makers):
                known = self._ask("query_execution_inputs_and_outputs", execution=maker)
                made = {event.artifact for event in known.events if event.type_ == output}
                if pushed.name in made:
                    given = {event.artifact for event in known.events if event.type_ != output}
                    kinds = {one.name: one.schema_title for one in known.artifacts if one.name in given}
                    blessings = {name for name, kind in kinds.items() if kind == "tfx.ModelBlessing"}
                    for model in (name for name, kind in kinds.items() if kind == "tfx.Model"):
                        self._blessed_by.setdefault(model, set()).update(blessings)
                        yield model

    def _find_pushes(self, path: str) -> Iterator[vertex.Artifact]:
        for term in (f'uri="{path}"', f'metadata.{DESTINATION_KEY}.string_value="{path}"'):
            yield from self._list(f'schema_title="tfx.PushedModel" AND {term}')

    def _find_blessings(self, model: str) -> list[vertex.Artifact]:
        """Returns the blessing with which a model was pushed, and those of other evaluations of it."""
        named = self._list(f'schema_title="tfx.ModelBlessing" AND metadata.{MODEL_KEY}.string_value="{model}"')
        found = {one.name: one for one in named}
        return [*found.values(), *(self._get(name) for name in self._blessed_by.get(model, set()) - found.keys())]

    def _list(self, query: str) -> Iterator[vertex.Artifact]:
        request = vertex.ListArtifactsRequest(parent=self._store, filter=query)
        for page in list_pages(self._client.list_artifacts, request, doing="looking into the metadata", role=ROLE):
            yield from page.artifacts

    def _ask(self, method: str, **fields: Any) -> vertex.LineageSubgraph:
        kinds = {
            "query_artifact_lineage_subgraph": vertex.QueryArtifactLineageSubgraphRequest,
            "query_execution_inputs_and_outputs": vertex.QueryExecutionInputsAndOutputsRequest,
        }
        doing = "looking into the metadata"
        found: vertex.LineageSubgraph = call(
            getattr(self._client, method), kinds[method](**fields), doing=doing, role=ROLE
        )
        return found

    def _get(self, name: str) -> vertex.Artifact:
        request = vertex.GetArtifactRequest(name=name)
        found: vertex.Artifact = call(self._client.get_artifact, request, doing="looking into the metadata", role=ROLE)
        return found

    def _update(self, name: str, change: Any) -> None:
        """Changes an artifact's metadata, as it is now: what another has changed meanwhile is not written over."""
        artifact, doing = vertex.Artifact(), "changing the blessing in the metadata"

        def find() -> vertex.Artifact | None:
            nonlocal artifact
            artifact = self._get(name)
            return None if change(_metadata_of(artifact)) else artifact

        def write() -> None:
            metadata = _metadata_of(artifact)
            change(metadata)
            request = vertex.UpdateArtifactRequest(
                artifact=vertex.Artifact(name=name, metadata=metadata, etag=artifact.etag),
                update_mask=field_mask_pb2.FieldMask(paths=["metadata"]),
            )
            call(self._client.update_artifact, request, doing=doing, role=ROLE, again=False)

        ensure(find, write, doing, GIVE_UP_SECONDS, ROLE)


def _metadata_of(artifact: vertex.Artifact) -> dict[str, Any]:
    found: dict[str, Any] = json_format.MessageToDict(vertex.Artifact.pb(artifact).metadata)
    return found


def _is_blessed(metadata: dict[str, Any]) -> bool:
    return bool(metadata.get(BLESSED_KEY) == 1)


def _refusals(metadata: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = json.loads(metadata.get(REFUSALS_KEY) or "{}")
    return found


def _judge(metadata: dict[str, Any], refusals: dict[str, str]) -> None:
    metadata[REFUSALS_KEY] = json.dumps(refusals, ensure_ascii=False)
    metadata[BLESSED_KEY] = int(not refusals)


def _in_bucket(act: Any, uri: str) -> None:
    import tensorflow as tf

    try:
        if tf.io.gfile.isdir(uri):  # Else it was cleaned.
            act(uri)
    except (OSError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{uri}: the record of the rollback cannot be written: {reason}; grant roles/storage.objectUser on the "
            "bucket to whoever runs this command"
        ) from None
