"""The charts of the report, each from its section's facts."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from components.evaluator.results import CalibrationBin
from components.report_gen.charts import Axes, Line, draw_bars, draw_lines, nice_ticks
from components.report_gen.training_text import SOLVE

_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def draw_calibration(calibration: Sequence[CalibrationBin]) -> Markup:
    """Draws accuracy by confidence beside the diagonal of a model that is as sure as it is right."""
    axes = Axes((0.0, 1.0), (0.0, 1.0), "confidence", "accuracy", _SHARES, _SHARES)
    points = [(row.confidence, row.accuracy) for row in calibration if row.confidence is not None]
    lines = [Line("this model", points, 1), Line("perfectly calibrated", ((0.0, 0.0), (1.0, 1.0)), 4)]
    return draw_lines(axes, lines, "Accuracy of the images by the confidence of the answer; the table has the values")


def draw_histogram(histogram: list[dict[str, Any]]) -> Markup:
    """Draws images by confidence, right and wrong answers stacked."""
    most = max(row["right"] + row["wrong"] for row in histogram)
    ticks = nice_ticks(0, most)
    axes = Axes((0.0, 1.0), (0.0, ticks[-1]), "confidence", "test images", _SHARES, ticks)
    bars = [(row["lower"], row["upper"], (row["right"], row["wrong"])) for row in histogram]
    return draw_bars(axes, bars, ("right", "wrong"), "Test images by the confidence of the answer")


def draw_risk(curve: Sequence[tuple[float, float]]) -> Markup:
    """Draws the share of errors among the surest images by how many of them are decided."""
    ticks = nice_ticks(0.0, max(max(risk for _, risk in curve), 0.05))
    axes = Axes((0.0, 1.0), (0.0, ticks[-1]), "coverage", "share of errors", _SHARES, ticks)
    return draw_lines(axes, [Line("test", curve, 1)], "Share of errors where only the surest images are decided")


def draw_training(history: list[dict[str, Any]], kind: str, best: dict[str, Any] | None = None) -> Markup:
    """Draws `loss` or `accuracy` of train and eval over the epochs of all phases; a line where a phase begins.

    A solved head is epoch 0, a dot of its own. Figures of an eval without images are None, and left out.
    """
    first = 0 if history and history[0].get("phase") == SOLVE else 1
    epochs = list(range(first, first + len(history)))
    values = [row[key] for row in history for key in (kind, f"eval_{kind}") if row[key] is not None]
    ticks = nice_ticks(0.0, max(values, default=1.0)) if kind == "loss" else list(_SHARES)
    last = max(first + 1, epochs[-1])
    x_ticks = epochs if last <= 12 else [tick for tick in nice_ticks(first, last) if first <= tick <= last]
    axes = Axes((first, last), (ticks[0], ticks[-1]), "epoch", kind, x_ticks, ticks)
    lines = [
        Line("train", _points(epochs, history, kind), 1),
        Line("eval", _points(epochs, history, f"eval_{kind}"), 2),
    ]
    starts = [epochs[i] - 0.5 for i in range(1, len(history)) if history[i]["phase"] != history[i - 1]["phase"]]
    return draw_lines(axes, lines, f"{kind} by epoch, train and eval", marks=starts)


def _points(epochs: list[int], history: list[dict[str, Any]], key: str) -> list[tuple[float, float | None]]:
    """Returns the points of a line, interrupted after a solved head: no step leads from it to the mean of an epoch."""
    points: list[tuple[float, float | None]] = []
    for x, row in zip(epochs, history, strict=True):
        points.append((x, row[key]))
        if row.get("phase") == SOLVE:
            points.append((x, None))
    return points
