"""Runs the drift validator: the statistics that both models carry, compared."""

from typing import Any

from tfx.dsl.components.base import base_executor
from tfx.types import Artifact, artifact_utils
from tfx.types import standard_component_specs as specs

from components.drift_validator.comparison import compare_statistics
from components.drift_validator.report import DRIFT_KEY, describe_report, make_report, write_report
from components.drift_validator.settings import DriftSettings
from components.progress import report_progress
from data.image_statistics import read_image_statistics

SETTINGS_KEY = "settings"
CODE_HASH_KEY = "code_hash"
COMPARED_SPLIT = "train"


class Executor(base_executor.BaseExecutor):
    """Tells how far the images moved since the blessed model was trained."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes `drift.json`; a drift raises nothing.

        Args:
            input_dict: `model`, and where there is one `baseline_model`: a resolver on Vertex AI finds nothing else of
                the blessed run, so both carry the statistics of their images.
            output_dict: `drift`.
            exec_properties: `settings`, JSON of DriftSettings.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        settings = DriftSettings.model_validate_json(exec_properties[SETTINGS_KEY])
        report = compare_models(
            settings,
            artifact_utils.get_single_uri(input_dict[specs.MODEL_KEY]),
            next((model.uri for model in input_dict.get(specs.BASELINE_MODEL_KEY, [])), None),
        )
        write_report(report, artifact_utils.get_single_uri(output_dict[DRIFT_KEY]))
        report_progress(describe_report(report), lasting=bool(report["drifted"]))


def compare_models(settings: DriftSettings, model_uri: str, baseline_uri: str | None) -> dict[str, Any]:
    """Returns the report on the training images of two models.

    Args:
        settings: the thresholds.
        model_uri: folder of this run's `model` artifact.
        baseline_uri: the blessed model's, None where there is none.
    """
    current = read_image_statistics(model_uri)
    baseline = read_image_statistics(baseline_uri) if baseline_uri else None
    reason = None
    if not baseline_uri:
        reason = "there is no blessed model to compare with"
    elif current is None or baseline is None:
        which = "this model" if current is None else "the blessed model"
        reason = f"{which} carries no statistics of its images"
    rows = []
    if current and baseline:
        thresholds = settings.thresholds.model_dump()
        rows = compare_statistics(current[COMPARED_SPLIT], baseline[COMPARED_SPLIT], thresholds)
    return make_report(rows, gate=settings.gate, split=COMPARED_SPLIT, baseline=baseline_uri, reason=reason)
