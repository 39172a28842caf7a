"""The local resolver strategy for the model that a warm start goes on from."""

from ml_metadata import MetadataStore
from tfx import types
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.types import standard_component_specs as specs

from components.resolver.latest_blessed_other_model import INPUTS, OUTPUTS, is_event, resolve_latest_blessed


class LatestBlessedBaseModelStrategy(ResolverStrategy):
    """Resolves the latest blessed model that was not made in a run on these very examples.

    The latest of all would, in a second unchanged run, be the model of the first: it would be trained again from
    itself, run after run, and nothing would ever be served from cache. With this one the base is what the run before
    had, as long as the images are the same; when images come, training goes on from the last blessed model.

    The Resolver's inputs are `model`, `model_blessing` and `examples` (ImageExampleGen's of this run).
    """

    def resolve_artifacts(
        self, store: MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]] | None:
        """Returns the base under `model` and `model_blessing`, both empty where there is none."""
        examples = input_dict[specs.EXAMPLES_KEY]
        return resolve_latest_blessed(
            store, input_dict, specs.EXAMPLES_KEY, _find_models_of(store, [artifact.id for artifact in examples])
        )


def _find_models_of(store: MetadataStore, examples_ids: list[int]) -> set[int]:
    """Returns the ids of the models that an Evaluator judged on examples: each blessed model has its own such run."""
    readers = {
        event.execution_id
        for event in store.get_events_by_artifact_ids(examples_ids)
        if is_event(event, INPUTS, specs.EXAMPLES_KEY)
    }
    events = store.get_events_by_execution_ids(list(readers)) if readers else []
    # Other readers of examples and models, such as the Resolver itself, give no blessing.
    evaluations = {event.execution_id for event in events if is_event(event, OUTPUTS, specs.BLESSING_KEY)}
    return {
        event.artifact_id
        for event in events
        if event.execution_id in evaluations and is_event(event, INPUTS, specs.MODEL_KEY)
    }
