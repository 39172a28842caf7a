"""The charts of the report, each from its section's facts."""

from typing import Any

from markupsafe import Markup

from components.report_gen.charts import Axes, Line, draw_bars, draw_lines, nice_ticks

_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def draw_calibration(calibration: list[dict[str, Any]]) -> Markup:
    """Draws accuracy by confidence beside the diagonal of a model that is as sure as it is right."""
    axes = Axes((0.0, 1.0), (0.0, 1.0), "confidence", "accuracy", _SHARES, _SHARES)
    points = [(row["confidence"], row["accuracy"]) for row in calibration if row["images"]]
    lines = [Line("this model", points, 1), Line("perfectly calibrated", ((0.0, 0.0), (1.0, 1.0)), 4)]
    return draw_lines(axes, lines, "Accuracy of the images by the confidence of the answer; the table has the values")


def draw_histogram(histogram: list[dict[str, Any]]) -> Markup:
    """Draws images by confidence, right and wrong answers stacked."""
    most = max(row["right"] + row["wrong"] for row in histogram)
    ticks = nice_ticks(0, most)
    axes = Axes((0.0, 1.0), (0.0, ticks[-1]), "confidence", "test images", _SHARES, ticks)
    bars = [(row["lower"], row["upper"], (row["right"], row["wrong"])) for row in histogram]
    return draw_bars(axes, bars, ("right", "wrong"), "Test images by the confidence of the answer")


def draw_training(history: list[dict[str, Any]], kind: str, best: dict[str, Any] | None = None) -> Markup:
    """Draws `loss` or `accuracy` of train and eval over the epochs of all phases; a line where a phase begins."""
    epochs = list(range(1, len(history) + 1))
    values = [row[key] for row in history for key in (kind, f"eval_{kind}")]
    ticks = nice_ticks(0.0, max(values)) if kind == "loss" else list(_SHARES)
    last = max(2, len(history))
    x_ticks = epochs if last <= 12 else [tick for tick in nice_ticks(1, last) if 1 <= tick <= last]
    axes = Axes((1, last), (ticks[0], ticks[-1]), "epoch", kind, x_ticks, ticks)
    lines = [
        Line("train", [(x, row[kind]) for x, row in zip(epochs, history, strict=True)], 1),
        Line("eval", [(x, row[f"eval_{kind}"]) for x, row in zip(epochs, history, strict=True)], 2),
    ]
    starts = [i + 0.5 for i in range(1, len(history)) if history[i]["phase"] != history[i - 1]["phase"]]
    return draw_lines(axes, lines, f"{kind} by epoch, train and eval", marks=starts)
