"""TFX's Evaluator, with an EvalConfig that is made when the model's classes are known."""

from typing import Any

from apache_beam.utils import shared
from tfx.components.evaluator import executor as tfx_executor
from tfx.types import Artifact, artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.utils import proto_utils

from components.evaluator.baseline import check_baseline, write_baseline
from components.evaluator.eval_config import make_eval_config
from components.evaluator.model_classes import write_evaluation_classes
from components.evaluator.settings import EvaluatorSettings
from components.exported_model.manifest import read_classes, saved_model_path
from components.progress import report_progress

SETTINGS_KEY = "settings"
CODE_HASH_KEY = "code_hash"


class _Nothing:
    """Takes a model's place among Beam's shared objects."""


class Executor(tfx_executor.Executor):
    """Completes the parameters of TFX's own executor, which then does the work and sets the blessing.

    The classes of a folder of images or of TFRecords are found in the run, by Transform; the figures and gates of
    single classes need them. Beside TFMA's files the evaluation gets `class_names.json`, since TFMA knows classes
    by index only, and `baseline.json`, which says whether the baseline has learned images of test: such a one is
    measured, but no gate compares with it.
    """

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Evaluates the model, and the baseline where there is one, and blesses the model or not.

        Args:
            input_dict: `examples`, `model`, and where there is one `baseline_model`.
            output_dict: `evaluation` and `blessing`.
            exec_properties: `settings` (JSON of EvaluatorSettings) and `example_splits`.

        Raises:
            UserError: a gate on a class or a metric that this model does not have.
        """
        settings = EvaluatorSettings.model_validate_json(exec_properties[SETTINGS_KEY])
        class_names = _class_names(input_dict[specs.MODEL_KEY])
        evaluation_uri = artifact_utils.get_single_uri(output_dict[specs.EVALUATION_KEY])
        baseline_class_names, compare = None, True
        if input_dict.get(specs.BASELINE_MODEL_KEY):
            baseline_class_names = _class_names(input_dict[specs.BASELINE_MODEL_KEY])
            if baseline_class_names != class_names:
                report_progress(
                    "the baseline has other classes: gates on the change of single classes do not apply", lasting=True
                )
            baseline = check_baseline(
                artifact_utils.get_single_uri(input_dict[specs.BASELINE_MODEL_KEY]),
                artifact_utils.get_single_uri(input_dict[specs.EXAMPLES_KEY]),
            )
            write_baseline(evaluation_uri, baseline)
            compare = baseline.comparable
            if remark := baseline.describe():
                report_progress(remark, lasting=True)
        eval_config = make_eval_config(settings, class_names, baseline_class_names, compare=compare)
        write_evaluation_classes(evaluation_uri, class_names)
        super().Do(
            input_dict,
            output_dict,
            {**exec_properties, specs.EVAL_CONFIG_KEY: proto_utils.proto_to_json(eval_config)},
        )
        # Beam keeps the last shared object, here the model, until another one comes.
        shared.Shared().acquire(_Nothing)


def _class_names(model: list[Artifact]) -> list[str]:
    return read_classes(saved_model_path(artifact_utils.get_single_instance(model)))
