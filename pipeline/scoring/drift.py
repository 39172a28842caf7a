"""Whether scored images, and what the model says of them, differ from what it met on test by more than chance.

Three questions, each with an equal share of the family-wise rate of false alarms: how the images look, how often each
class is predicted, how sure the model is. Within each, Holm's step-down correction (Holm 1979, A simple sequentially
rejective multiple test procedure) over its tests; none needs these to be independent. All tests are two-sample tests:
the test split is a sample, too. They take images to be independent of each other: bursts and near duplicates are not.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from components.exported_model.reference import CONFIDENCE, PROFILE_SCALES, Profile
from components.exported_model.signatures import UNKNOWN_SCORE
from data.image_statistics import SCALES
from pipeline.scoring import FALSE_ALARMS

_QUESTIONS: dict[str, tuple[str, ...]] = {
    "images": tuple(SCALES),
    "classes": (),
    "confidence": (CONFIDENCE, UNKNOWN_SCORE),
}


@dataclass(frozen=True)
class DriftTest:
    """One comparison.

    Attributes:
        question: `images`, `classes` or `confidence`.
        what: the figure, or the class.
        distance: largest difference of the cumulative shares, 0..1; of a class, of its share, with its sign.
        before: mean of the figure on test, in its unit, to half a bin; of a class, its share.
        now: the same of the scored images.
        p_value: probability of such a distance or a larger one without drift, not corrected.
        adjusted: the same after all corrections, at most 1: there is drift if it is at most the rate of false alarms.
        drifted: whether it is.
    """

    question: str
    what: str
    distance: float
    before: float
    now: float
    p_value: float
    adjusted: float
    drifted: bool

    def describe(self) -> str:
        """Returns one line for people."""
        if self.question == "classes":
            return f"class {self.what!r}: {self.before:.1%} of test, {self.now:.1%} now (p {self.adjusted:.1g})"
        return (
            f"{self.what} ({PROFILE_SCALES[self.what].meaning}): mean {self.before:.3g} on test, {self.now:.3g} now;"
            f" the shares differ by up to {self.distance:.2f} (p {self.adjusted:.1g})"
        )

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return asdict(self)


def find_drift(reference: Profile, scored: Profile, false_alarms: float = FALSE_ALARMS) -> list[DriftTest]:
    """Makes all tests, the smallest probability first.

    Args:
        reference: what the model carries.
        scored: what came in.
        false_alarms: how likely any alarm at all may be where nothing has changed.
    """
    found = []
    for question, figures in _QUESTIONS.items():
        if question == "classes":
            tests = [_compare_class(name, reference, scored) for name in _classes(reference, scored)]
        else:
            tests = [_compare_figure(name, reference, scored) for name in figures if _is_known(name, reference, scored)]
        # Each question has a third of the rate, whether or not the others can be asked.
        adjusted = np.minimum(holm([p_value for *_, p_value in tests]) * len(_QUESTIONS), 1.0)
        found += [
            DriftTest(question, *test, float(value), bool(value <= false_alarms))
            for test, value in zip(tests, adjusted, strict=True)
        ]
    return sorted(found, key=lambda test: test.adjusted)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Returns probabilities that hold for all tests together: Holm 1979.

    Args:
        p_values: of each test, [tests].

    Returns:
        float64 [tests]: rejecting those of at most a rate rejects a true hypothesis at that rate or less.
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values)
    steps = values[order] * (len(values) - np.arange(len(values)))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(values) else steps
    return adjusted


def _classes(reference: Profile, scored: Profile) -> list[str]:
    return sorted({*reference.classes, *scored.classes})


def _is_known(name: str, reference: Profile, scored: Profile) -> bool:
    return bool(sum(reference.histograms[name]) and sum(scored.histograms[name]))


def _compare_class(name: str, reference: Profile, scored: Profile) -> tuple[str, float, float, float, float]:
    """Compares how often a class is predicted: Fisher's exact test (Fisher 1922) of two shares, two-sided."""
    before, now = reference.classes[name], scored.classes[name]
    table = [[before, reference.images - before], [now, scored.images - now]]
    share_before, share_now = before / reference.images, now / scored.images
    return name, share_now - share_before, share_before, share_now, float(stats.fisher_exact(table)[1])


def _compare_figure(name: str, reference: Profile, scored: Profile) -> tuple[str, float, float, float, float]:
    """Compares histograms: the two-sample test of Kolmogorov and Smirnov, on the edges of the bins.

    There the distance is at most that of the values themselves: false alarms become fewer, never more. The probability
    is Smirnov's (1939) as Stephens (1970) has it, for the effective number of images n m / (n + m).
    """
    scale = PROFILE_SCALES[name]
    before, now = (np.asarray(of.histograms[name], np.float64) for of in (reference, scored))
    distance = float(np.abs(np.cumsum(before) / before.sum() - np.cumsum(now) / now.sum()).max())
    effective = math.sqrt(before.sum() * now.sum() / (before.sum() + now.sum()))
    p_value = float(stats.kstwobign.sf((effective + 0.12 + 0.11 / effective) * distance))
    middles = scale.low + (np.arange(scale.bins) + 0.5) * (scale.high - scale.low) / scale.bins
    mean_before, mean_now = (float(counts @ middles / counts.sum()) for counts in (before, now))
    return name, distance, mean_before, mean_now, p_value
