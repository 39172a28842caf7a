"""The ReportGen node."""

import json
from typing import Any

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import BaseChannel, Channel, standard_artifacts
from tfx.types import standard_component_specs as specs
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.types.experimental import simple_artifacts

from components.code_hash import make_code_hash
from components.drift_validator.report import DRIFT_KEY
from components.model_converter.record import FORMATS_KEY
from components.predictor.executor import PREDICTIONS_KEY
from components.report_gen.executor import CODE_HASH_KEY, CONFIG_KEY, REPORT_KEY, SETTINGS_KEY, Executor
from components.report_gen.settings import ReportSettings

_OPTIONAL_INPUTS = {
    PREDICTIONS_KEY: standard_artifacts.InferenceResult,
    specs.EXAMPLES_KEY: standard_artifacts.Examples,
    specs.MODEL_KEY: standard_artifacts.Model,
    specs.MODEL_RUN_KEY: standard_artifacts.ModelRun,
    specs.TRANSFORM_GRAPH_KEY: standard_artifacts.TransformGraph,
    specs.STATISTICS_KEY: standard_artifacts.ExampleStatistics,
    specs.ANOMALIES_KEY: standard_artifacts.ExampleAnomalies,
    DRIFT_KEY: standard_artifacts.ExampleAnomalies,
    specs.INFRA_BLESSING_KEY: standard_artifacts.InfraBlessing,
    specs.TUNER_RESULTS_KEY: standard_artifacts.TunerResults,
    FORMATS_KEY: simple_artifacts.File,
}


_CODE = {
    "ImageExampleGen": "components.image_example_gen.executor",
    "Transform": "components.transform.preprocessing",
    "Trainer": "components.trainer.run_fn",
    "Evaluator": "components.evaluator.executor",
    "DriftValidator": "components.drift_validator.component",
    "ServingValidator": "components.serving_validator.component",
    "Predictor": "components.predictor.component",
    "ReportGen": "components.report_gen.executor",
}


class ReportGenSpec(ComponentSpec):
    """Inputs, parameters and output of ReportGen; all it needs is an evaluation."""

    PARAMETERS = {
        SETTINGS_KEY: ExecutionParameter(type=str),
        CONFIG_KEY: ExecutionParameter(type=str),
        CODE_HASH_KEY: ExecutionParameter(type=str),
    }
    INPUTS = {
        specs.EVALUATION_KEY: ChannelParameter(type=standard_artifacts.ModelEvaluation),
        **{key: ChannelParameter(type=kind, optional=True) for key, kind in _OPTIONAL_INPUTS.items()},
    }
    OUTPUTS = {REPORT_KEY: ChannelParameter(type=simple_artifacts.File)}


class ReportGen(base_component.BaseComponent):
    """Writes the report of a run, whether the model was blessed or not."""

    SPEC_CLASS = ReportGenSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self, *, evaluation: BaseChannel, settings: ReportSettings, config: dict[str, Any], **inputs: BaseChannel
    ) -> None:
        """Wires the node.

        Args:
            evaluation: the Evaluator's.
            settings: what the page shows.
            config: the whole configuration, of plain JSON types, for the page.
            **inputs: any of `predictions`, `examples`, `model`, `model_run`, `transform_graph`, `statistics`,
                `anomalies`, `drift`, `infra_blessing`, `tuner_results` and `formats`; what has no input is left out.
        """
        super().__init__(
            ReportGenSpec(
                **{
                    specs.EVALUATION_KEY: evaluation,
                    **inputs,
                    REPORT_KEY: Channel(type=simple_artifacts.File),
                    SETTINGS_KEY: settings.model_dump_json(),
                    CONFIG_KEY: json.dumps(config, ensure_ascii=False),
                    # Of every node: the page shows what was run.
                    CODE_HASH_KEY: json.dumps({node: make_code_hash(module) for node, module in _CODE.items()}),
                }
            )
        )
