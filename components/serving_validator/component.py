"""The ServingValidator node: a trial of the export, the verdict on it, and what a person is told."""

import os

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, InferenceResult, InfraBlessing, Model, TransformGraph
from tfx.utils import io_utils

from components.exported_model.manifest import saved_model_path
from components.progress import report_progress
from components.serving_validator.findings import Finding, write_findings
from components.serving_validator.reference_check import check_reference
from components.serving_validator.settings import ServingValidatorSettings
from components.serving_validator.trial import validate

BLESSED_KEY = "blessed"
_BLESSED_FILE, _NOT_BLESSED_FILE = "INFRA_BLESSED", "INFRA_NOT_BLESSED"  # TFX's own


@component
def ServingValidator(
    model: InputArtifact[Model],
    examples: InputArtifact[Examples],
    transform_graph: InputArtifact[TransformGraph],
    blessing: OutputArtifact[InfraBlessing],
    settings: Parameter[str],
    code_hash: Parameter[str],
    predictions: InputArtifact[InferenceResult] = None,  # TFX reads `| None` as no input
) -> None:
    """Tries the exported model in a fresh process, and blesses one that serves what was trained; raises nothing.

    Args:
        model: the export, of this project's Trainer.
        examples: raw Examples with a `test` split.
        transform_graph: of the Transform whose examples the model was trained on.
        blessing: the Evaluator's `infra_blessing`; gets `findings.json` and the integer property `blessed`.
        settings: JSON of ServingValidatorSettings.
        code_hash: of this module: part of the cache key.
        predictions: of the Predictor: what the model met on test, and will carry when it is pushed, is looked at.
    """
    findings, measured = validate(
        ServingValidatorSettings.model_validate_json(settings),
        saved_model_path=saved_model_path(model),
        examples_uri=examples.uri,
        transform_graph_uri=transform_graph.uri,
    )
    if predictions:
        findings.append(check_reference(predictions.uri, examples.uri, saved_model_path(model)))
    blessed = all(finding.passed for finding in findings)
    write_findings(blessing.uri, findings, measured)
    io_utils.write_string_file(os.path.join(blessing.uri, _BLESSED_FILE if blessed else _NOT_BLESSED_FILE), "")
    blessing.set_int_custom_property(BLESSED_KEY, int(blessed))
    for line in describe(findings, measured):
        report_progress(line, lasting=True)


def describe(findings: list[Finding], measured: dict[str, float]) -> list[str]:
    """Returns what to show: every failure, or one line where there is none."""
    failures = [f"{finding.check}: {finding.message}" for finding in findings if not finding.passed]
    if failures:
        return failures
    latency = ""
    if "latency_p50_ms" in measured:
        latency = f" one image in {measured['latency_p50_ms']:.0f} ms (p95 {measured['latency_p95_ms']:.0f}),"
    return [f"{len(findings)} checks of the export passed;{latency} {measured['model_mb']:.0f} MB"]
