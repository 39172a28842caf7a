"""Which gates refused a model: the Evaluator hears all of them, and its blessing is the verdict that counts."""

import os

from components.drift_validator.report import describe_report, read_report
from components.evaluator.rollback import ROLLBACK_GATE, read_rollback
from components.serving_validator.findings import read_findings
from data.json_files import find_json

REFUSALS_FILE = "refusals.json"
"""In the `evaluation` artifact: each other gate that refused, by the name of its setting, to what it found."""

REFUSALS_KEY = "refusals"
"""Property of the blessing, JSON: all gates that refused. Blessings without it are of the time when each gate stood
alone, so that theirs is the verdict on the metrics only."""

METRICS_GATE, DRIFT_GATE, SERVING_GATE = "evaluator.gates", "drift.gate", "serving_validator"


def find_refusals(drift_uri: str | None, serving_uri: str | None, model_uri: str | None = None) -> dict[str, str]:
    """Returns the gates before the Evaluator that refuse the model, each with what it found in one line.

    Args:
        drift_uri: what the DriftValidator wrote, or None.
        serving_uri: what the ServingValidator wrote, or None.
        model_uri: the model's folder, or None: what was rolled back is not blessed again because a gate was changed.
    """
    refusals = {}
    if model_uri and (rollback := read_rollback(model_uri)):
        refusals[ROLLBACK_GATE] = rollback.describe()
    if drift_uri and (report := read_report(drift_uri))["gate"] and report["drifted"]:
        refusals[DRIFT_GATE] = describe_report(report)
    findings = read_findings(serving_uri)["findings"] if serving_uri else []
    if failed := [f"{finding['check']}: {finding['message']}" for finding in findings if not finding["passed"]]:
        refusals[SERVING_GATE] = "; ".join(failed)
    return refusals


def read_refusals(evaluation_uri: str) -> dict[str, str]:
    """Returns the content of `REFUSALS_FILE`; nothing for an evaluation without it."""
    return find_json(os.path.join(evaluation_uri, REFUSALS_FILE)) or {}
