"""The StatisticsGen node."""

from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import BaseChannel, Channel, standard_artifacts
from tfx.types import standard_component_specs as specs
from tfx.types.component_spec import ComponentSpec, ExecutionParameter

from components.code_hash import make_code_hash
from components.statistics_gen.executor import CODE_HASH_KEY, Executor


class StatisticsGenSpec(ComponentSpec):
    """Input and output of TFX's node of this name."""

    PARAMETERS = {CODE_HASH_KEY: ExecutionParameter(type=str)}
    INPUTS = {specs.EXAMPLES_KEY: specs.StatisticsGenSpec.INPUTS[specs.EXAMPLES_KEY]}
    OUTPUTS = specs.StatisticsGenSpec.OUTPUTS
    TYPE_ANNOTATION = specs.StatisticsGenSpec.TYPE_ANNOTATION


class StatisticsGen(base_beam_component.BaseBeamComponent):
    """Takes TFDV's statistics of each split, for SchemaGen, ExampleValidator and the report."""

    SPEC_CLASS = StatisticsGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(self, examples: BaseChannel) -> None:
        """Wires the node; `examples` are raw."""
        super().__init__(
            StatisticsGenSpec(
                **{
                    specs.EXAMPLES_KEY: examples,
                    specs.STATISTICS_KEY: Channel(type=standard_artifacts.ExampleStatistics),
                    CODE_HASH_KEY: make_code_hash(Executor.__module__),
                }
            )
        )
