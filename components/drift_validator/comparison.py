"""Distances between the images of two runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.image_statistics import SCALES, SplitStatistics

LABELS = "labels"


@dataclass(frozen=True)
class StatisticDrift:
    """One statistic in both runs.

    Attributes:
        name: `labels` or a key of `SCALES`.
        distance: Jensen-Shannon divergence of the two histograms, 0..1, less what chance explains.
        threshold: the largest distance that is no drift.
        drifted: whether it is larger.
        bins: what the counts are of: class names, or where each bin begins.
        counts: images of this run in each bin.
        baseline_counts: the same of the blessed model's run.
        mean: of this run's images; None for labels.
        baseline_mean: the same of the blessed model's run.
    """

    name: str
    distance: float
    threshold: float
    drifted: bool
    bins: tuple[str | float, ...]
    counts: tuple[int, ...]
    baseline_counts: tuple[int, ...]
    mean: float | None = None
    baseline_mean: float | None = None


def compare_statistics(
    current: SplitStatistics, baseline: SplitStatistics, thresholds: dict[str, float]
) -> list[StatisticDrift]:
    """Compares one split of two runs.

    Args:
        current: of this run.
        baseline: of the blessed model's run.
        thresholds: `labels` and each key of `SCALES` -> its largest distance.
    """
    names = sorted(set(current.labels) | set(baseline.labels))
    found = [
        _compare(
            LABELS,
            thresholds,
            names,
            [current.labels[name] for name in names],
            [baseline.labels[name] for name in names],
        )
    ]
    for name, scale in SCALES.items():
        edges = np.linspace(scale.low, scale.high, scale.bins + 1)[:-1].round(4).tolist()
        means = current.mean(name), baseline.mean(name)
        counts = current.histograms[name], baseline.histograms[name]
        found.append(_compare(name, thresholds, edges, *counts, *means))
    return found


def _compare(
    name: str,
    thresholds: dict[str, float],
    bins: Sequence[str | float],
    counts: Sequence[int],
    baseline_counts: Sequence[int],
    mean: float | None = None,
    baseline_mean: float | None = None,
) -> StatisticDrift:
    distance = measure_distance(counts, baseline_counts)
    return StatisticDrift(
        name,
        distance,
        thresholds[name],
        distance > thresholds[name],
        tuple(bins),
        tuple(counts),
        tuple(baseline_counts),
        mean,
        baseline_mean,
    )


def measure_distance(first: Sequence[int], second: Sequence[int]) -> float:
    """Returns how far two histograms are apart, beyond what chance explains.

    The Jensen-Shannon divergence is bounded and needs no bin to be filled, unlike the population stability index. Of
    two draws from one distribution it is about chi-square (1/n + 1/m) / (8 ln 2), with as many degrees of freedom as
    bins less one: mean and three standard deviations of that are subtracted. Otherwise 50 images would drift from 50
    others of the same folder.

    Args:
        first: images in each bin.
        second: the same of other images, in the same bins.

    Returns:
        0 (no further apart than by chance) to 1 (nothing in common).

    Source: Lin 1991, Divergence measures based on the Shannon entropy, equation 3.9.
    """
    counts = np.array([first, second], np.float64)
    totals = counts.sum(axis=1)
    if not totals.all():
        return 0.0 if not totals.any() else 1.0
    shares = counts / totals[:, None]
    filled = shares[:, shares.any(axis=0)]
    middle = filled.mean(axis=0)
    terms = filled * np.log2(filled / middle, out=np.zeros_like(filled), where=filled > 0)
    divergence = terms.sum(axis=1).mean()
    freedom = filled.shape[1] - 1
    chance = (freedom + 3 * np.sqrt(2 * freedom)) * (1 / totals).sum() / (8 * np.log(2))
    return float(np.clip(divergence - chance, 0.0, 1.0))
