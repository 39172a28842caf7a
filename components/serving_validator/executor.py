"""Runs the serving validator: a trial of the export, the verdict on it, and what a person is told."""

import os
from typing import Any

from tfx.dsl.components.base import base_executor
from tfx.types import Artifact, artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.utils import io_utils

from components.exported_model.manifest import saved_model_path
from components.progress import report_progress
from components.serving_validator.findings import Finding, write_findings
from components.serving_validator.settings import ServingValidatorSettings
from components.serving_validator.trial import validate

SETTINGS_KEY = "settings"
CODE_HASH_KEY = "code_hash"

BLESSED_KEY = "blessed"
_BLESSED_FILE, _NOT_BLESSED_FILE = "INFRA_BLESSED", "INFRA_NOT_BLESSED"  # TFX's own


class Executor(base_executor.BaseExecutor):
    """Blesses an export that serves what was trained."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Tries the model and sets the blessing's integer property `blessed`; a model that fails raises nothing.

        Args:
            input_dict: `model`, raw `examples` with a `test` split, and `transform_graph`.
            output_dict: `blessing`, an InfraBlessing; it gets `findings.json`.
            exec_properties: `settings` (JSON of ServingValidatorSettings).
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        settings = ServingValidatorSettings.model_validate_json(exec_properties[SETTINGS_KEY])
        findings, measured = validate(
            settings,
            saved_model_path=saved_model_path(artifact_utils.get_single_instance(input_dict[specs.MODEL_KEY])),
            examples_uri=artifact_utils.get_single_uri(input_dict[specs.EXAMPLES_KEY]),
            transform_graph_uri=artifact_utils.get_single_uri(input_dict[specs.TRANSFORM_GRAPH_KEY]),
        )
        blessing = artifact_utils.get_single_instance(output_dict[specs.BLESSING_KEY])
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
