"""Which images of the test split a person should look at first."""

import numpy as np

from components.predictor.predictions import Predictions

LISTED = 200
"""Images that a list names at most; the first of them are shown."""
EXPLAINED_MISTAKES = 36
"""Mistakes that are shown with Grad-CAM."""
_LEAST_CERTAIN = 24


def worst_mistakes(predictions: Predictions) -> list[int]:
    """Returns positions of wrong answers, those first that gave the right class the least probability."""
    wrong = np.flatnonzero(~predictions.correct)
    order = np.lexsort((-predictions.confidence[wrong], predictions.label_probabilities[wrong]))
    return wrong[order][:LISTED].tolist()


def least_certain(predictions: Predictions) -> list[int]:
    """Returns positions where the two most probable classes are closest, right answers or wrong."""
    if predictions.probabilities.shape[1] < 2:
        return []
    two = np.partition(predictions.probabilities, -2, axis=1)[:, -2:]
    return np.argsort(two[:, 1] - two[:, 0], kind="stable")[:_LEAST_CERTAIN].tolist()


def confidence_histogram(predictions: Predictions, bins: int = 20) -> list[dict[str, float]]:
    """Returns images by the probability of their most probable class: `lower`, `upper`, `right`, `wrong`."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.minimum((predictions.confidence.astype(np.float64) * bins).astype(int), bins - 1)
    right = np.bincount(place[predictions.correct], minlength=bins)
    wrong = np.bincount(place[~predictions.correct], minlength=bins)
    return [
        {"lower": float(edges[i]), "upper": float(edges[i + 1]), "right": int(right[i]), "wrong": int(wrong[i])}
        for i in range(bins)
    ]


def describe_images(predictions: Predictions, positions: list[int]) -> dict[str, dict[str, object]]:
    """Returns position to what the page says about the image."""
    return {
        str(i): {
            "name": predictions.file_names[i],
            "label": predictions.label_names[i],
            "predicted": predictions.class_names[predictions.predicted[i]],
            "confidence": round(float(predictions.confidence[i]), 4),
            "label_probability": round(float(predictions.label_probabilities[i]), 4),
        }
        for i in positions
    }
