"""Of which images the model decides by itself: what was shown on eval, and what came of it on test."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from components.predictor.predictions import Predictions

_MOST_POINTS = 100


def describe_decisions(training: dict[str, Any] | None, predictions: "Predictions | None") -> dict[str, Any] | None:
    """Returns what the page and the card say of it; None where nothing is known.

    Returns:
        `outcomes`: what was shown, in sentences; `eval_coverage`; `knows_all`: why no image is unknown, or None; and of
        test, where there are predictions: `unknown_share`, of the images that score above 1, and `curve`: (coverage,
        share of errors) where the surest images are decided, from few of them to all.
    """
    rule = (training or {}).get("decision")
    if rule is None and (predictions is None or predictions.decided is None):
        return None
    found: dict[str, Any] = {
        "outcomes": list((rule or {}).get("outcomes", ())),
        "eval_coverage": (rule or {}).get("coverage"),
        "knows_all": (rule or {}).get("knows_all"),
        "unknown_share": None,
        "curve": [],
    }
    if predictions is not None and len(predictions):
        if predictions.unknown_scores is not None and not found["knows_all"]:
            found["unknown_share"] = float((predictions.unknown_scores > 1.0).mean())
        found["curve"] = risk_coverage(predictions.confidence, predictions.correct)
    return found


def decision_lines(decisions: dict[str, Any] | None) -> Iterator[str]:
    """Yields what was shown on eval, and of how many test images it decides and knows, in sentences."""
    if decisions is None:
        return
    for outcome in decisions["outcomes"]:
        yield f"{outcome[0].upper()}{outcome[1:]}."
    if decisions["eval_coverage"] is not None:
        yield f"Of the images that chose this it decides of {decisions['eval_coverage']:.1%}; the rest is a person's."
    elif not decisions["outcomes"]:
        yield "No precision was asked for: it decides of every image for the likeliest class."
    if decisions["knows_all"]:
        yield f"No image counts as unknown: {decisions['knows_all']}."
    elif decisions["unknown_share"] is not None:
        yield f"Of the test images {decisions['unknown_share']:.1%} count as unknown: unlike those of train."


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> list[tuple[float, float]]:
    """Returns points (coverage, share of errors among the decided), ascending, of at most 100 thresholds.

    Args:
        confidence: float [images].
        correct: bool [images].

    Source: El-Yaniv & Wiener 2010, the risk-coverage trade-off.
    """
    order = np.argsort(-confidence, kind="stable")
    errors, images = np.cumsum(~correct[order]), len(order)
    ranks = np.unique(np.linspace(1, images, min(images, _MOST_POINTS)).round().astype(int))
    return [(float(rank / images), float(errors[rank - 1] / rank)) for rank in ranks]
