"""The local resolver strategy for the baseline that a new model is compared with."""

from ml_metadata import MetadataStore
from tfx import types
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.dsl.io import fileio

CANDIDATE_KEY = "candidate"


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
    """Returns the latest blessed model whose files still exist, without those of some ids.

    Args:
        store: of the metadata.
        input_dict: `model`, `model_blessing` and one other key.
        other_key: that key; it is handed on.
        excluded_ids: of models.

    Returns:
        The model under `model`, its blessing under `model_blessing`, both empty where there is none.
    """
    channels = {key: list(artifacts) for key, artifacts in input_dict.items() if key != other_key}
    channels["model"] = [
        model for model in channels["model"] if model.id not in excluded_ids and fileio.exists(model.uri)
    ]
    found = LatestBlessedModelStrategy().resolve_artifacts(store, channels)
    return {**(found or {}), other_key: input_dict[other_key]}
