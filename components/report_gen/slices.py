"""Figures of parts of the test split: TFMA's by class, and those that the predictions add."""

from itertools import pairwise
from typing import Any

import numpy as np

from components.evaluator.results import EvaluationResults
from components.predictor.predictions import Predictions
from components.report_gen.wilson import wilson_interval

_LEAST_IMAGES = 5
_MOST_ROWS = 12


def make_slices(results: EvaluationResults, predictions: Predictions | None) -> dict[str, Any]:
    """Returns `by_label`, TFMA's slices with their figures, and `by_property`, of the images themselves.

    A class's slice holds the images of the class alone: its accuracy is the class's recall.
    """
    return {
        "by_label": [{"slice": name, "metrics": figures} for name, figures in results.slices.items()],
        "by_property": [] if predictions is None else _by_property(predictions),
    }


def _by_property(predictions: Predictions) -> list[dict[str, Any]]:
    rows = []
    formats = np.array(predictions.formats)
    for name in sorted(set(predictions.formats) - {""}):
        rows.append(_row(f"format {name}", formats == name, predictions))
    sides = np.minimum(predictions.heights, predictions.widths)
    edges = np.unique(np.quantile(sides[sides > 0], [0, 1 / 3, 2 / 3, 1]).astype(int)) if (sides > 0).any() else []
    for i, (low, high) in enumerate(pairwise(edges)):
        last = i == len(edges) - 2
        inside = (sides >= low) & ((sides <= high) if last else (sides < high))
        rows.append(_row(f"shorter side {low} to {high if last else high - 1} px", inside, predictions))
    rows = [row for row in rows if row["images"] >= _LEAST_IMAGES][:_MOST_ROWS]
    # One row alone is the whole split.
    return [row for row in rows if row["images"] < len(predictions)]


def _row(name: str, inside: np.ndarray, predictions: Predictions) -> dict[str, Any]:
    images, hits = int(inside.sum()), int((inside & predictions.correct).sum())
    return {
        "slice": name,
        "images": images,
        "accuracy": hits / images if images else None,
        "interval": wilson_interval(hits, images),
    }
