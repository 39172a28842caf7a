"""95 % intervals by the bootstrap, of figures that are no shares of images, and of changes against another model.

Images are drawn with replacement, as often as there are, and the figure is computed from each draw. A change is paired:
both models are judged on the same drawn images.

Sources: Efron 1979, percentile interval; Koehn 2004 for the paired bootstrap of two systems.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from components.evaluator.definitions import DEFINITIONS, Answers, make_figures
from components.evaluator.metric_table import DECISION_METRICS, OVERALL_METRICS
from components.report_gen.wilson import Range

BOOTSTRAP, PAIRED_BOOTSTRAP = "bootstrap", "paired bootstrap"
DRAWS = 1000
_CHUNK_VALUES = 4_000_000
_AUC_VALUES = 400_000_000
_SEED = 20_130_601


def draw_figures(answers: Answers, weights: np.ndarray, with_auc: bool) -> dict[str, np.ndarray]:
    """Computes the Evaluator's overall figures of draws.

    Args:
        answers: of one model.
        weights: float32 [draws, images], how often each image was drawn.
        with_auc: whether to compute `macro_auc`, which costs as much as all others times the classes.

    Returns:
        Name to float64 [draws].
    """
    exact = weights.astype(np.float64)
    found = make_figures(
        [exact @ terms for terms in answers.terms],
        [
            name
            for name in OVERALL_METRICS
            if name in DEFINITIONS and (name not in DECISION_METRICS or answers.decided is not None)
        ],
    )
    if with_auc:
        labels, probabilities = answers.labels, answers.probabilities
        aucs = [_weighted_auc(weights, labels == i, probabilities[:, i]) for i in np.unique(labels[answers.known])]
        if defined := [auc for auc in aucs if auc is not None]:
            # A draw that misses a class has no curve of it; the mean is over the others, as the Evaluator's is.
            curves = np.stack(defined)
            there = np.isfinite(curves)  # none, in a draw of one class alone
            found["macro_auc"] = np.divide(
                np.nansum(curves, axis=0),
                there.sum(axis=0),
                out=np.full(curves.shape[1], np.nan),
                where=there.any(axis=0),
            )
    return found


@dataclass(frozen=True)
class Intervals:
    """The 95 % intervals that the images give, by the name of the figure.

    Attributes:
        values: of the candidate.
        changes: of candidate minus baseline, empty without a baseline.
        wins: images that the candidate alone answers rightly, or None without a baseline.
        losses: images that the baseline alone answers rightly.
    """

    values: dict[str, Range]
    changes: dict[str, Range]
    wins: int | None = None
    losses: int | None = None


def bootstrap_intervals(
    labels: np.ndarray, probabilities: np.ndarray, baseline: np.ndarray | None, decided: np.ndarray | None = None
) -> Intervals:
    """Returns percentile intervals from `DRAWS` draws, the same in every call.

    Args:
        labels: int [images], -1 for unknown classes.
        probabilities: float32 [images, classes], finite.
        baseline: those of the baseline for the same images, or None.
        decided: bool [images], of which the candidate decides; None of all.
    """
    if len(labels) < 2:
        return Intervals({}, {})
    candidate = Answers(labels, probabilities, decided=decided)
    other = None if baseline is None else Answers(labels, baseline)
    values: dict[str, list[np.ndarray]] = {}
    changes: dict[str, list[np.ndarray]] = {}
    with_auc = probabilities.size * DRAWS <= _AUC_VALUES
    for weights in _draws(len(labels)):
        figures = draw_figures(candidate, weights, with_auc)
        for name, drawn in figures.items():
            values.setdefault(name, []).append(drawn)
        if other is not None:
            for name, drawn in draw_figures(other, weights, with_auc).items():
                if name in figures:
                    changes.setdefault(name, []).append(figures[name] - drawn)
    wins = losses = None
    if baseline is not None:
        right, baseline_right = probabilities.argmax(axis=1) == labels, baseline.argmax(axis=1) == labels
        wins, losses = int((right & ~baseline_right).sum()), int((~right & baseline_right).sum())
    return Intervals(_percentiles(values), _percentiles(changes), wins, losses)


def _draws(images: int) -> Iterator[np.ndarray]:
    """Yields float32 [draws, images] of how often each image was drawn, in parts that stay small in memory."""
    random = np.random.default_rng(_SEED)
    part = max(1, min(DRAWS, _CHUNK_VALUES // images))
    for start in range(0, DRAWS, part):
        drawn = [
            np.bincount(random.integers(0, images, images), minlength=images) for _ in range(min(part, DRAWS - start))
        ]
        yield np.stack(drawn).astype(np.float32)


def _percentiles(drawn: dict[str, list[np.ndarray]]) -> dict[str, Range]:
    found = {}
    for name, parts in drawn.items():
        values = np.concatenate([np.atleast_1d(part) for part in parts])
        values = values[np.isfinite(values)]
        if len(values):
            low, high = np.percentile(values, [2.5, 97.5])
            found[name] = (float(low), float(high))
    return found


def _weighted_auc(weights: np.ndarray, positive: np.ndarray, scores: np.ndarray) -> np.ndarray | None:
    """Returns the area under the ROC curve of each draw, ties counting half; NaN for a draw of one kind only."""
    if positive.all() or not positive.any():
        return None
    order = np.argsort(scores, kind="stable")
    ranked, sorted_scores = weights[:, order], scores[order]
    negatives = np.where(positive[order], 0.0, ranked)
    below = np.concatenate([np.zeros([len(weights), 1]), np.cumsum(negatives, axis=1)], axis=1)
    mine = sorted_scores[positive[order]]
    first, last = np.searchsorted(sorted_scores, mine, "left"), np.searchsorted(sorted_scores, mine, "right")
    pairs = (ranked[:, positive[order]] * (below[:, first] + below[:, last]) / 2).sum(axis=1)
    whole = ranked[:, positive[order]].sum(axis=1) * below[:, -1]
    return np.divide(pairs, whole, out=np.full(len(weights), np.nan), where=whole > 0)
