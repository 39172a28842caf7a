"""The ServingValidator node."""

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import BaseChannel, Channel, standard_artifacts
from tfx.types import standard_component_specs as specs
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.code_hash import make_code_hash
from components.serving_validator.executor import CODE_HASH_KEY, SETTINGS_KEY, Executor
from components.serving_validator.settings import ServingValidatorSettings


class ServingValidatorSpec(ComponentSpec):
    """Inputs, output and parameters of the ServingValidator."""

    PARAMETERS = {
        SETTINGS_KEY: ExecutionParameter(type=str),
        CODE_HASH_KEY: ExecutionParameter(type=str),
    }
    INPUTS = {
        specs.MODEL_KEY: ChannelParameter(type=standard_artifacts.Model),
        specs.EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples),
        specs.TRANSFORM_GRAPH_KEY: ChannelParameter(type=standard_artifacts.TransformGraph),
    }
    OUTPUTS = {specs.BLESSING_KEY: ChannelParameter(type=standard_artifacts.InfraBlessing)}


class ServingValidator(base_component.BaseComponent):
    """Tries the exported model in a fresh process; its `blessing` is what the Evaluator takes as `infra_blessing`."""

    SPEC_CLASS = ServingValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        settings: ServingValidatorSettings,
        *,
        model: BaseChannel,
        examples: BaseChannel,
        transform_graph: BaseChannel,
    ) -> None:
        """Wires the node.

        Args:
            settings: how much to try, and the bounds.
            model: the export, of this project's Trainer.
            examples: raw Examples with a `test` split.
            transform_graph: of the Transform whose examples the model was trained on.
        """
        super().__init__(
            spec=ServingValidatorSpec(
                **{
                    specs.MODEL_KEY: model,
                    specs.EXAMPLES_KEY: examples,
                    specs.TRANSFORM_GRAPH_KEY: transform_graph,
                    specs.BLESSING_KEY: Channel(type=standard_artifacts.InfraBlessing),
                    SETTINGS_KEY: settings.model_dump_json(),
                    CODE_HASH_KEY: make_code_hash(Executor.__module__),
                }
            )
        )
