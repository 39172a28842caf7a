"""Images whose label is likely wrong, or that are like none of the others, by what a frozen backbone makes of them.

Each image is judged by a logistic regression on the others: the folds divide neither copies nor groups. Confident
learning says which labels are doubted; these are left out, all are judged once more, and the least probable labels come
first.

Measured on six sets of photographs with 2, 5 and 10 % of the labels flipped (two draws each), the share of flips among
as many of the first: 0.81, 0.84 and 0.91 by the probability of the label; 0.72, 0.78 and 0.85 by its margin; without
the second round 0.80, 0.83 and 0.89. A strength that is chosen anew is no better than the Trainer's (0.006).

Sources: Northcutt, Jiang and Chuang 2021, Confident Learning, by the library cleanlab; Kuan and Mueller 2022, Back to
the Basics: Revisiting Out-of-Distribution Detection Baselines.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from components.blas import few_blas_threads
from components.trainer.logistic_regression import FOLDS, Examples, fit, make_folds, make_zero_head
from components.trainer.standardisation import standardise
from data.groups import Union

_NEIGHBOURS = 10
_FEWEST_TO_COMPARE = 50
_LEAST_SPREADS = 3.0
"""Of a normal distribution with the same median and median deviation: 1 % of six clean sets of photographs are
farther, and half of what was planted in them from other sets."""
_NORMAL_SPREAD = 1.4826
_WORKING_MEMORY_MIB = 128
_MEASURED_IMAGES = 10_000
_BLOCK = 4096


@dataclass(frozen=True)
class Doubts:
    """What was found.

    Attributes:
        probabilities: float64 [images, classes], each by a regression that did not see the image.
        judged: bool [images]; false where an image's copies and group are all that its class has.
        labels: int64 [doubted labels], which images, the most doubtful first.
        outliers: int64 [outliers], which images, the strangest first; none whose label is doubted.
        accuracy: of the regression, on images that it did not see and as they are labelled.
    """

    probabilities: np.ndarray
    judged: np.ndarray
    labels: np.ndarray
    outliers: np.ndarray
    accuracy: float


@few_blas_threads()
def find_doubts(
    features: np.ndarray,
    depths: Sequence[int],
    labels: np.ndarray,
    units: np.ndarray,
    classes: int,
    strength: float,
    *,
    as_a_whole: bool = True,
) -> Doubts:
    """Judges all images.

    Args:
        features: float [images, features], as the backbone gives them.
        depths: features of each depth, from the image to the head.
        labels: int64 [images].
        units: int64 [images], of `join_units`: images of one unit are in one fold.
        classes: number of them.
        strength: of the regression's penalty.
        as_a_whole: how a depth is standardised, see `standardise`.
    """
    outliers = _find_outliers(features[:, -depths[-1] :], units)
    features = _standardise(features, depths, as_a_whole)
    folds = _fold_units(labels, units)
    by_fold = np.zeros([classes, FOLDS], np.int64)
    np.add.at(by_fold, (labels, folds), 1)
    judged = (by_fold.sum(axis=1)[labels] - by_fold[labels, folds]) > 0
    first = _cross_fit(features, labels, folds, np.ones(len(labels)), classes, strength)
    doubted = _confident_learning(labels, first, judged)
    kept = np.ones(len(labels))
    kept[doubted] = 0.0
    # Of a class that is doubted as a whole something must remain to judge by.
    doubted_share = np.bincount(labels, 1 - kept, classes) / np.maximum(np.bincount(labels, minlength=classes), 1)
    kept[doubted_share[labels] > 0.5] = 1.0
    probabilities = _cross_fit(features, labels, folds, kept, classes, strength)
    ranked = _confident_learning(labels, probabilities, judged)
    right = probabilities.argmax(axis=1)[judged] == labels[judged]
    return Doubts(
        probabilities,
        judged,
        ranked,
        outliers[~np.isin(outliers, ranked)],
        float(right.mean()) if len(right) else float("nan"),
    )


def join_units(contents: list[str], groups: list[str]) -> np.ndarray:
    """Returns the unit of each image, int64 [images]: copies share one, images of a group do, and so do both joined.

    Args:
        contents: a hash of each image's content.
        groups: of each image; empty where it belongs to none.
    """
    union, names = Union(), [f"content {content}" for content in contents]
    for name, group in zip(names, groups, strict=True):
        if group:
            union.join(f"group {group}", name)
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(union.find(name), len(numbers)) for name in names], np.int64)


def _standardise(features: np.ndarray, depths: Sequence[int], as_a_whole: bool) -> np.ndarray:
    """Returns float32 of the same shape; block by block, since it is done in float64."""
    sample = np.random.default_rng(0).permutation(len(features))[:_MEASURED_IMAGES]
    measured = standardise(features[np.sort(sample)].astype(np.float32), depths, as_a_whole=as_a_whole)
    result = np.empty(features.shape, np.float32)
    for start in range(0, len(features), _BLOCK):
        result[start : start + _BLOCK] = measured.apply(features[start : start + _BLOCK])
    return result


def _fold_units(labels: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Returns the fold of each image; units are dealt out evenly by the class of their first image."""
    _, first, unit_of = np.unique(units, return_index=True, return_inverse=True)
    return make_folds(labels[first], 0)[unit_of]


def _cross_fit(
    features: np.ndarray, labels: np.ndarray, folds: np.ndarray, weights: np.ndarray, classes: int, strength: float
) -> np.ndarray:
    """Returns float64 [images, classes], probabilities by the regression of the other folds."""
    probabilities = np.zeros([len(labels), classes])
    head = make_zero_head(features.shape[1], classes)
    for fold in range(FOLDS):
        rows = np.flatnonzero(folds == fold)
        others = weights * (folds != fold)
        if not len(rows) or not others.any():
            continue
        head = fit(Examples(features, labels, others), strength, head)
        probabilities[rows] = softmax(head.logits(features[rows]), axis=1)
    return probabilities


def _confident_learning(labels: np.ndarray, probabilities: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """Returns which labels the probabilities speak against, more than mistakes explain; the least probable first."""
    from cleanlab.filter import find_label_issues

    rows = np.flatnonzero(judged)
    if len(np.unique(labels[rows])) < 2:
        return np.zeros(0, np.int64)
    found = find_label_issues(labels[rows], probabilities[rows], return_indices_ranked_by="self_confidence", n_jobs=1)
    return rows[found]


def _find_outliers(features: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Returns which images are far from all others, the strangest first; of a unit the first image stands for all.

    By the mean cosine distance to the nearest others of what the last block makes of them: with its features as they
    are, 2 % of images of another set were among the first as often as not; standardised, or with those of earlier
    blocks, which are about colours, hardly one was.
    """
    import sklearn
    from sklearn.neighbors import NearestNeighbors

    _, first = np.unique(units, return_index=True)
    if len(first) < _FEWEST_TO_COMPARE:
        return np.zeros(0, np.int64)
    values = features[first].astype(np.float32)
    with sklearn.config_context(working_memory=_WORKING_MEMORY_MIB):
        distances = NearestNeighbors(n_neighbors=_NEIGHBOURS, metric="cosine").fit(values).kneighbors()[0].mean(axis=1)
    # cleanlab's score is the exponential of this, so that its order is the same.
    middle = np.median(distances)
    spread = _NORMAL_SPREAD * np.median(np.abs(distances - middle))
    outlying = np.flatnonzero(distances > middle + _LEAST_SPREADS * max(spread, 1e-6))
    return first[outlying[np.argsort(-distances[outlying], kind="stable")]]
