"""Images whose label is likely wrong, by confident learning.

Source: Northcutt, Jiang and Chuang 2021, Confident Learning; the library cleanlab.
"""

from typing import Any

import numpy as np

from components.predictor.predictions import Predictions
from components.report_gen.mistakes import LISTED


def find_label_issues(predictions: Predictions) -> dict[str, Any]:
    """Looks for labels that the probabilities speak against, more than the model's mistakes on these classes explain.

    The probabilities must come from a model that did not learn these images: the test split's do.

    Returns:
        `count`, `positions` of the most doubtful ones, most doubtful first, and `skipped`, a reason or None.
    """
    from cleanlab.filter import find_label_issues as find

    known = np.flatnonzero(predictions.labels >= 0)
    labels, probabilities = predictions.labels[known].astype(int), predictions.probabilities[known]
    if len(np.unique(labels)) < 2:
        return _skipped("fewer than two classes have labelled images")
    if not np.isfinite(probabilities).all():
        return _skipped("some probabilities are no numbers")
    # In float64 and exactly summing to 1, which float32 probabilities miss by 1e-7.
    probabilities = probabilities.astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    ranked = find(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    return {"count": len(ranked), "positions": known[ranked][:LISTED].tolist(), "skipped": None}


def _skipped(reason: str) -> dict[str, Any]:
    return {"count": 0, "positions": [], "skipped": reason}
