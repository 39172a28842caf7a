"""Distances between the images of two runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.image_statistics import SCALES, SplitStatistics

LABELS = "labels"

_PAIRED = frozenset({"size", "aspect"})
"""Scales with common values, squares and sides of 2^n, at which stored bins begin: 255x256 would have nothing in common
with 256x256. The bins on both sides of such a value are compared as one; models of all versions store the same."""


@dataclass(frozen=True)
class StatisticDrift:
    """One statistic in both runs.

    Attributes:
        statistic: `labels` or a key of `SCALES`.
        before: the mean of the blessed model's images, in the unit of the scale; None for labels.
        now: that of this run's images.
        distance: Jensen-Shannon divergence of the two histograms, 0..1, less what chance explains.
        bound: the largest distance that is no drift.
        passed: whether it is not larger.
        bins: what the counts are of: class names, or where each bin begins.
        counts_before: images of the blessed model in each bin.
        counts_now: the same of this run.
    """

    statistic: str
    before: float | None
    now: float | None
    distance: float
    bound: float
    passed: bool
    bins: tuple[str | float, ...]
    counts_before: tuple[int, ...]
    counts_now: tuple[int, ...]


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
    before, now = ([of.labels[name] for name in names] for of in (baseline, current))
    found = [_compare(LABELS, thresholds[LABELS], names, before, now)]
    for name, scale in SCALES.items():
        edges = np.linspace(scale.low, scale.high, scale.bins + 1)[:-1].round(4).tolist()
        before, now = baseline.histograms[name], current.histograms[name]
        if name in _PAIRED:
            starts = [0, *range(1, scale.bins, 2)]
            edges = [edges[start] for start in starts]
            before, now = (np.add.reduceat(counts, starts).tolist() for counts in (before, now))
        found.append(_compare(name, thresholds[name], edges, before, now, baseline.mean(name), current.mean(name)))
    return found


def _compare(
    statistic: str,
    bound: float,
    bins: Sequence[str | float],
    counts_before: Sequence[int],
    counts_now: Sequence[int],
    before: float | None = None,
    now: float | None = None,
) -> StatisticDrift:
    distance = measure_distance(counts_before, counts_now)
    return StatisticDrift(
        statistic,
        before,
        now,
        distance,
        bound,
        distance <= bound,
        tuple(bins),
        tuple(counts_before),
        tuple(counts_now),
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
