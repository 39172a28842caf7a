"""What was found about drift, as JSON for the summary, the report and the gate."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from data.json_files import read_json, write_json

if TYPE_CHECKING:  # It imports TensorFlow, for which whoever only reads does not wait.
    from components.drift_validator.comparison import StatisticDrift

DRIFT_KEY = "drift"
DRIFT_FILE = "drift.json"
"""In the `drift` artifact: `{"compared", "reason", "baseline", "split", "gate", "drifted", "rows"}`.

A row is a `StatisticDrift`."""


def make_report(
    rows: Sequence["StatisticDrift"], *, gate: bool, split: str, baseline: str | None, reason: str | None = None
) -> dict[str, Any]:
    """Returns the content of `DRIFT_FILE`, of plain JSON types.

    Args:
        rows: every statistic that was compared; none where there was nothing to compare with.
        gate: whether a drift blocks the push.
        split: of the images.
        baseline: where the blessed model lies, None without one.
        reason: why nothing was compared.
    """
    return {
        "compared": bool(rows),
        "reason": reason,
        "baseline": baseline,
        "split": split,
        "gate": gate,
        "drifted": [row.statistic for row in rows if not row.passed],
        "rows": [asdict(row) for row in rows],
    }


def describe_report(report: dict[str, Any]) -> str:
    """Returns one line for a person."""
    if not report["compared"]:
        return report["reason"]
    furthest = sorted(report["rows"], key=lambda row: row["bound"] - row["distance"])
    shown = [row for row in furthest if not row["passed"]] or furthest[:1]
    figures = ", ".join(f"{row['statistic']} {row['distance']:.3f} (threshold {row['bound']:g})" for row in shown)
    return f"drifted: {figures}" if report["drifted"] else f"no drift; furthest is {figures}"


def write_report(report: dict[str, Any], uri: str) -> None:
    """Writes it into a local or remote folder."""
    write_json(os.path.join(uri, DRIFT_FILE), report)


def read_report(uri: str) -> dict[str, Any]:
    """Reads it back."""
    return read_json(os.path.join(uri, DRIFT_FILE))
