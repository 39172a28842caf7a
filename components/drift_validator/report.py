"""What was found about drift, as JSON for the summary, the report and the gate."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from components.drift_validator.comparison import StatisticDrift

DRIFT_FILE = "drift.json"
"""In the `drift` artifact: `{"compared", "reason", "baseline", "split", "gate", "drifted", "statistics"}`."""


def make_report(
    statistics: Sequence[StatisticDrift], *, gate: bool, split: str, baseline: str | None, reason: str | None = None
) -> dict[str, Any]:
    """Returns the content of `DRIFT_FILE`, of plain JSON types.

    Args:
        statistics: every one that was compared; none where there was nothing to compare with.
        gate: whether a drift blocks the push.
        split: of the images.
        baseline: where the blessed model lies, None without one.
        reason: why nothing was compared.
    """
    return {
        "compared": bool(statistics),
        "reason": reason,
        "baseline": baseline,
        "split": split,
        "gate": gate,
        "drifted": [statistic.name for statistic in statistics if statistic.drifted],
        "statistics": [asdict(statistic) for statistic in statistics],
    }


def describe_report(report: dict[str, Any]) -> str:
    """Returns one line for a person."""
    if not report["compared"]:
        return report["reason"]
    furthest = sorted(report["statistics"], key=lambda one: one["threshold"] - one["distance"])
    shown = [one for one in furthest if one["drifted"]] or furthest[:1]
    figures = ", ".join(f"{one['name']} {one['distance']:.3f} (threshold {one['threshold']:g})" for one in shown)
    return f"drifted: {figures}" if report["drifted"] else f"no drift; furthest is {figures}"


def write_report(report: dict[str, Any], uri: str) -> None:
    """Writes it into a local or remote folder."""
    import tensorflow as tf

    tf.io.gfile.makedirs(uri)
    with tf.io.gfile.GFile(os.path.join(uri, DRIFT_FILE), "w") as file:
        file.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def read_report(uri: str) -> dict[str, Any]:
    """Reads it back."""
    import tensorflow as tf

    with tf.io.gfile.GFile(os.path.join(uri, DRIFT_FILE)) as file:
        return json.loads(file.read())
