"""The DriftValidator node: the statistics that two models carry of their images, compared."""

from typing import Any

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ExampleAnomalies, Model

from components.drift_validator.comparison import compare_statistics
from components.drift_validator.report import describe_report, make_report, write_report
from components.drift_validator.settings import DriftSettings
from components.progress import report_progress
from data.image_statistics import read_image_statistics

COMPARED_SPLIT = "train"


@component
def DriftValidator(
    model: InputArtifact[Model],
    # TFX's own type for data that do not fit: Vertex AI's containers cannot import a type from a package within ours.
    drift: OutputArtifact[ExampleAnomalies],
    settings: Parameter[str],
    code_hash: Parameter[str],
    baseline_model: InputArtifact[Model] = None,  # TFX reads `| None` as no input
) -> None:
    """Tells how far the images moved since the blessed model was trained; a drift raises nothing.

    Args:
        model: of this run. A resolver on Vertex AI finds nothing of the blessed run but its model, so both carry the
            statistics of their images.
        drift: gets `drift.json`.
        settings: JSON of DriftSettings.
        code_hash: of this module: part of the cache key.
        baseline_model: the latest blessed model; may be empty at run time.
    """
    baseline_uri = baseline_model.uri if baseline_model else None
    report = compare_models(DriftSettings.model_validate_json(settings), model.uri, baseline_uri)
    write_report(report, drift.uri)
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
