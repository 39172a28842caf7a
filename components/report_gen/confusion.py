"""The confusion matrix as its cells above 0, with the images of each cell."""

from typing import Any

import numpy as np

from components.evaluator.results import EvaluationResults
from components.predictor.predictions import Predictions

_IMAGES_OF_A_MISTAKE = 40
_IMAGES_OF_A_HIT = 12
_NAMED_IMAGES = 6000
"""Names of files that a page may hold: 0.5 MB."""


def make_matrix(results: EvaluationResults, predictions: Predictions | None) -> dict[str, Any]:
    """Returns class names, cells and which images are in them.

    Returns:
        `names`, by class index; `cells`: [label index, predicted index, images], as TFMA counted them; `images`:
        "label,predicted" to positions in the test split, the surest mistakes and the least sure hits first, and not
        all where there are many.
    """
    return {
        "names": [row.name for row in results.classes],
        "cells": [list(cell) for cell in results.matrix],
        "images": {} if predictions is None else _images_by_cell(predictions),
    }


def _images_by_cell(predictions: Predictions) -> dict[str, list[int]]:
    labels, predicted, confidence = predictions.labels, predictions.predicted, predictions.confidence
    mistakes = np.flatnonzero(labels != predicted)
    hits = np.flatnonzero(labels == predicted)
    found: dict[str, list[int]] = {}
    named = 0
    ranked = ((mistakes, -confidence, _IMAGES_OF_A_MISTAKE), (hits, confidence, _IMAGES_OF_A_HIT))
    for positions, order, most in ranked:
        for position in positions[np.argsort(order[positions], kind="stable")]:
            cell = found.setdefault(f"{labels[position]},{predicted[position]}", [])
            if len(cell) < most and named < _NAMED_IMAGES:
                cell.append(int(position))
                named += 1
    return {cell: positions for cell, positions in found.items() if positions}


def shown_in_cells(matrix: dict[str, Any]) -> list[int]:
    """Returns the positions of all images of the cells, mistakes first, one of each cell before the second of any."""
    mistakes = [images for cell, images in matrix["images"].items() if len(set(cell.split(","))) > 1]
    hits = [images for cell, images in matrix["images"].items() if len(set(cell.split(","))) == 1]
    return [
        images[rank]
        for cells in (mistakes, hits)
        for rank in range(max(map(len, cells), default=0))
        for images in cells
        if rank < len(images)
    ]
