"""The local resolver strategy for the baseline that a new model is compared with."""

from collections.abc import Iterable

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts
from tfx.types import standard_component_specs as specs

from components.evaluator.refusals import REFUSALS_KEY
from components.progress import report_progress

CANDIDATE_KEY = "candidate"

_Event = metadata_store_pb2.Event
INPUTS, OUTPUTS = (_Event.INPUT,), (_Event.OUTPUT, _Event.INTERNAL_OUTPUT)


class LatestBlessedOtherModelStrategy(ResolverStrategy):
    """Resolves the latest blessed model that is not the candidate and whose files still exist.

    TFX's own `LatestBlessedModelStrategy` would, in a second unchanged run, resolve the candidate itself: the
    Evaluator would then run again to compare a model with itself. With this one the inputs of an unchanged run
    are unchanged, so that it is served from cache.

    The Resolver's inputs are `model`, `model_blessing` and `candidate` (the Trainer's model of this run).
    """

    def resolve_artifacts(
        self, store: MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]] | None:
        """Returns the baseline under `model` and `model_blessing`, both empty where there is none."""
        candidate_ids = {artifact.id for artifact in input_dict[CANDIDATE_KEY]}
        return resolve_latest_blessed(store, input_dict, CANDIDATE_KEY, candidate_ids)


def resolve_latest_blessed(
    store: MetadataStore, input_dict: dict[str, list[types.Artifact]], other_key: str, excluded_ids: set[int]
) -> dict[str, list[types.Artifact]]:
    """Returns the latest model that the Evaluator blessed and whose files still exist.

    A blessing that an earlier version wrote is not the verdict of all gates: there the ServingValidator's counts, too.
    Otherwise what drift or a serving check refused would become what the next run is compared with.

    Args:
        store: of the metadata.
        input_dict: `model`, `model_blessing` and one other key.
        other_key: that key; it is handed on.
        excluded_ids: of models that are passed over.

    Returns:
        The model under `model`, its blessing under `model_blessing`, both empty where there is none.
    """
    served_ids = _find_served_models(store)

    def is_verdict(blessing: types.Artifact) -> bool:
        model_id = blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY)
        return blessing.has_custom_property(REFUSALS_KEY) or model_id in served_ids

    blessings = list(filter(is_verdict, input_dict[specs.MODEL_BLESSING_KEY]))

    def find_latest(models: list[types.Artifact]) -> dict[str, list[types.Artifact]]:
        channels = {specs.MODEL_KEY: models, specs.MODEL_BLESSING_KEY: blessings}
        return LatestBlessedModelStrategy().resolve_artifacts(store, channels) or {}

    models = [one for one in input_dict[specs.MODEL_KEY] if one.id not in excluded_ids]
    found = find_latest([one for one in models if fileio.exists(one.uri)])
    latest, used = (one.get(specs.MODEL_KEY, []) for one in (find_latest(models), found))
    if latest != used:
        instead = f"{used[0].uri} takes its place" if used else "no other was blessed: gates on change pass without it"
        report_progress(f"the latest blessed model cannot be found: {latest[0].uri} is gone; {instead}", lasting=True)
    return {**found, other_key: input_dict[other_key]}


def _find_served_models(store: MetadataStore) -> set[int]:
    """Returns the ids of the models that a ServingValidator blessed; TFX's InfraBlessing does not name its model."""
    blessings = [
        artifact.id
        for artifact in store.get_artifacts_by_type(standard_artifacts.InfraBlessing.TYPE_NAME)
        if artifact.custom_properties[constants.ARTIFACT_PROPERTY_BLESSED_KEY].int_value == 1
    ]
    events = store.get_events_by_artifact_ids(blessings) if blessings else []
    trials = {event.execution_id for event in events if is_event(event, OUTPUTS, specs.BLESSING_KEY)}
    return {
        event.artifact_id
        for event in (store.get_events_by_execution_ids(list(trials)) if trials else [])
        if is_event(event, INPUTS, specs.MODEL_KEY)
    }


def is_event(event: metadata_store_pb2.Event, kinds: Iterable[int], key: str) -> bool:
    """Returns whether an event is of one of some kinds and about one input or output."""
    return event.type in kinds and event.path.steps[0].key == key
