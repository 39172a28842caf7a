"""The least confidence from which on answers are as often right as they must be, shown and not merely observed.

Learn then Test (Angelopoulos et al. 2021): of some ranks of the images by confidence, each is a hypothesis that answers
from there on are wrong too often; its p-value is the binomial tail, as in Geifman & El-Yaniv 2017. They are tested from
the surest images on by the fallback procedure (Wiens 2003), one of their sequential graphical tests: each rank has an
equal share of the allowed error, and hands it on to the next when it is rejected. So the choice may search, and yet the
precision is below the target at most in the stated share of all draws of images, if it falls with the confidence.
"""

from dataclasses import dataclass

import numpy as np
import scipy.stats

RANKS = 10
"""How many thresholds are tried. More divide the allowed error among more, fewer leave larger steps between them."""

_MOST_TIMES = 1000.0


@dataclass(frozen=True)
class Shown:
    """What the images show.

    Attributes:
        threshold: the least confidence of an answer; None where nothing could be shown.
        images: how many there were.
        answered: of these, those with at least that confidence.
        errors: of those, the wrong ones.
        needed: about how many images it would take where nothing could be shown; None if more images would not help.
    """

    threshold: float | None
    images: int
    answered: int = 0
    errors: int = 0
    needed: int | None = None


def choose_threshold(confidences: np.ndarray, correct: np.ndarray, target: float, confidence: float) -> Shown:
    """Returns the least threshold, that is, the one that answers most, of which the target is shown.

    Args:
        confidences: float [images], probabilities of the answers, on images that chose nothing else.
        correct: bool [images], whether the answer is right.
        target: the precision that is to be shown, below 1.
        confidence: in which share of all draws the choice must be right, below 1.
    """
    order = np.argsort(-confidences, kind="stable")
    values, wrong = confidences[order], np.cumsum(~correct[order])
    images, share = len(values), (1.0 - confidence) / RANKS
    least = int(np.ceil(np.log(share) / np.log(target)))  # of fewer not even faultless ones show anything
    if images < least:
        return Shown(None, images, needed=_count_needed(wrong, target, share))
    best, level = None, 0.0
    for rank in np.unique(np.linspace(least, images, RANKS).round().astype(int)):
        # All that are as sure as the last one are answered with it.
        answered = int(np.searchsorted(-values, -values[rank - 1], side="right"))
        level += share
        if scipy.stats.binom.cdf(wrong[answered - 1], answered, 1.0 - target) <= level:
            best = Shown(float(values[answered - 1]), images, answered, int(wrong[answered - 1]))
        else:
            level = 0.0
    return best or Shown(None, images, needed=_count_needed(wrong, target, share))


def _count_needed(wrong: np.ndarray, target: float, share: float) -> int | None:
    """Returns how many images like these it would take, where some of them are right often enough."""
    images, found = len(wrong), []
    for rank in np.unique(np.linspace(1, images, min(images, 2 * RANKS)).round().astype(int)):
        rate = float(wrong[rank - 1]) / rank
        if rate >= 1.0 - target:
            continue
        times = np.geomspace(1.0, _MOST_TIMES, 120)
        answered = np.ceil(times * rank)
        shown = scipy.stats.binom.cdf(np.floor(answered * rate), answered, 1.0 - target) <= share
        if shown.any():
            found.append(int(np.ceil(times[np.argmax(shown)] * images)))
    return min(found, default=None)
