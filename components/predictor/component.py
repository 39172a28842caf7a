"""The Predictor node."""

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import BaseChannel, Channel, standard_artifacts
from tfx.types import standard_component_specs as specs
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.code_hash import make_code_hash
from components.predictor.executor import CODE_HASH_KEY, PREDICTIONS_KEY, Executor


class PredictorSpec(ComponentSpec):
    """Inputs, parameters and output of the Predictor."""

    PARAMETERS = {CODE_HASH_KEY: ExecutionParameter(type=str)}
    INPUTS = {
        specs.EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples),
        specs.MODEL_KEY: ChannelParameter(type=standard_artifacts.Model),
        specs.BASELINE_MODEL_KEY: ChannelParameter(type=standard_artifacts.Model, optional=True),
    }
    OUTPUTS = {PREDICTIONS_KEY: ChannelParameter(type=standard_artifacts.InferenceResult)}


class Predictor(base_component.BaseComponent):
    """Keeps what a model, and the last blessed one, answer to every test image, and the features that they saw."""

    SPEC_CLASS = PredictorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, *, examples: BaseChannel, model: BaseChannel, baseline_model: BaseChannel | None = None) -> None:
        """Wires the node.

        Args:
            examples: raw Examples with a `test` split.
            model: with the signature `embed_examples`, or `serving_examples` alone: then without embeddings.
            baseline_model: the latest blessed model; may be empty at run time.
        """
        baseline = {} if baseline_model is None else {specs.BASELINE_MODEL_KEY: baseline_model}
        super().__init__(
            PredictorSpec(
                **{
                    specs.EXAMPLES_KEY: examples,
                    specs.MODEL_KEY: model,
                    **baseline,
                    PREDICTIONS_KEY: Channel(type=standard_artifacts.InferenceResult),
                    CODE_HASH_KEY: make_code_hash(Executor.__module__),
                }
            )
        )
