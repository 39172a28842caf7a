"""The Evaluator node."""

from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import BaseChannel, Channel, standard_artifacts
from tfx.types import standard_component_specs as specs
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import json_utils

from components.code_hash import make_code_hash
from components.drift_validator.report import DRIFT_KEY
from components.evaluator.executor import CODE_HASH_KEY, SETTINGS_KEY, Executor
from components.evaluator.settings import EvaluatorSettings

TEST_SPLIT = "test"


class EvaluatorSpec(ComponentSpec):
    """Inputs and outputs of TFX's Evaluator, and what other gates found; the gates in place of an EvalConfig."""

    PARAMETERS = {
        SETTINGS_KEY: ExecutionParameter(type=str),
        specs.EXAMPLE_SPLITS_KEY: ExecutionParameter(type=str),
        CODE_HASH_KEY: ExecutionParameter(type=str),
    }
    INPUTS = {
        **specs.EvaluatorSpec.INPUTS,
        DRIFT_KEY: ChannelParameter(type=standard_artifacts.ExampleAnomalies, optional=True),
        specs.INFRA_BLESSING_KEY: ChannelParameter(type=standard_artifacts.InfraBlessing, optional=True),
    }
    OUTPUTS = specs.EvaluatorSpec.OUTPUTS
    TYPE_ANNOTATION = specs.EvaluatorSpec.TYPE_ANNOTATION


class Evaluator(base_beam_component.BaseBeamComponent):
    """Measures a model on the test split and blesses it if it passes all gates, those before this node included."""

    SPEC_CLASS = EvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)


def make_evaluator(
    settings: EvaluatorSettings,
    *,
    examples: BaseChannel,
    model: BaseChannel,
    **optional: BaseChannel,
) -> Evaluator:
    """Returns the Evaluator node, on the test split alone: TFMA would pour several splits into one number.

    Args:
        settings: the gates.
        examples: raw Examples with a `test` split.
        model: the candidate; its signatures `serving_examples` and `transform_features` are called.
        **optional: any of `baseline_model` (the latest blessed model; may be empty at run time, then gates on a change
            do not apply), `schema` (how TFX parses the examples; without one it looks at the data), `drift` and
            `infra_blessing` (what the DriftValidator and the ServingValidator found: conditions of the blessing).

    Returns:
        The node, with outputs `evaluation` and `blessing`.
    """
    return Evaluator(
        EvaluatorSpec(
            **{
                specs.EXAMPLES_KEY: examples,
                specs.MODEL_KEY: model,
                **optional,
                specs.EVALUATION_KEY: Channel(type=standard_artifacts.ModelEvaluation),
                specs.BLESSING_KEY: Channel(type=standard_artifacts.ModelBlessing),
                SETTINGS_KEY: settings.model_dump_json(),
                specs.EXAMPLE_SPLITS_KEY: json_utils.dumps([TEST_SPLIT]),
                CODE_HASH_KEY: make_code_hash(Executor.__module__),
            }
        )
    )
