"""The DriftValidator node."""

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import BaseChannel, Channel, standard_artifacts
from tfx.types import standard_component_specs as specs
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.code_hash import make_code_hash
from components.drift_validator.executor import CODE_HASH_KEY, SETTINGS_KEY, Executor
from components.drift_validator.report import DRIFT_KEY
from components.drift_validator.settings import DriftSettings


class DriftValidatorSpec(ComponentSpec):
    """Inputs, output and parameters of the DriftValidator."""

    PARAMETERS = {SETTINGS_KEY: ExecutionParameter(type=str), CODE_HASH_KEY: ExecutionParameter(type=str)}
    INPUTS = {
        specs.MODEL_KEY: ChannelParameter(type=standard_artifacts.Model),
        specs.BASELINE_MODEL_KEY: ChannelParameter(type=standard_artifacts.Model, optional=True),
    }
    # TFX's own type for data that do not fit: Vertex AI's containers cannot import a type from a package within ours.
    OUTPUTS = {DRIFT_KEY: ChannelParameter(type=standard_artifacts.ExampleAnomalies)}


class DriftValidator(base_component.BaseComponent):
    """Compares the images that two models were trained on; its output `drift` holds `drift.json`."""

    SPEC_CLASS = DriftValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, settings: DriftSettings, *, model: BaseChannel, baseline_model: BaseChannel) -> None:
        """Wires the node.

        Args:
            settings: the thresholds, and whether a drift blocks the push.
            model: of this run.
            baseline_model: the latest blessed model; may be empty at run time.
        """
        super().__init__(
            spec=DriftValidatorSpec(
                **{
                    specs.MODEL_KEY: model,
                    specs.BASELINE_MODEL_KEY: baseline_model,
                    DRIFT_KEY: Channel(type=standard_artifacts.ExampleAnomalies),
                    SETTINGS_KEY: settings.model_dump_json(),
                    CODE_HASH_KEY: make_code_hash(Executor.__module__),
                }
            )
        )
