"""What each metric is: terms of every image, and what to make of their sums. Titles and ranges: `metric_table.py`.

TFMA's combiner adds the terms up, a draw of the bootstrap counts those of an image as often as it holds the image, a
slice adds up its own. AUC is apart: it is made of ranks, which no sums give.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from components.evaluator.ranks import rank_labels

UNKNOWN_CLASS = -1
"""The label of an image whose class the model does not know, and TFMA's prediction of a model that makes none."""

CALIBRATION_BINS = 10
EPSILON = float(np.finfo(np.float32).eps)
"""Probabilities are clipped to [eps, 1 - eps] before their logarithm, as scikit-learn does with float32."""


@dataclass(frozen=True)
class Answers:
    """What one model answered.

    Attributes:
        labels: int [images], class indices; others, such as -1, are classes that the model does not know.
        probabilities: float32 [images, classes]; rows that are not finite leave means NaN, and name no class.
        decided: bool [images], whether the model decides by itself; None of one that decides of every image.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    decided: np.ndarray | None = field(default=None, kw_only=True)

    @cached_property
    def known(self) -> np.ndarray:
        """Whether the model knows the label's class, bool [images]."""
        return (self.labels >= 0) & (self.labels < self.probabilities.shape[1])

    @cached_property
    def finite(self) -> np.ndarray:
        """Whether all probabilities are numbers, bool [images]."""
        return np.isfinite(self.probabilities).all(axis=1)

    @cached_property
    def predicted(self) -> np.ndarray:
        """Class index of the most probable class, int64 [images]; of no meaning where they are not finite."""
        return self.probabilities.argmax(axis=1)

    @cached_property
    def confidence(self) -> np.ndarray:
        """Probability of the most probable class, float32 [images]."""
        return self.probabilities.max(axis=1)

    @cached_property
    def label_probabilities(self) -> np.ndarray:
        """Probability of the label's class, float32 [images]; 0 where the model does not know the class."""
        rows = np.arange(len(self.labels))
        return np.where(self.known, self.probabilities[rows, np.where(self.known, self.labels, 0)], np.float32(0.0))

    @property
    def correct(self) -> np.ndarray:
        """Whether the most probable class is the label's, bool [images]."""
        return self.predicted == self.labels

    @cached_property
    def terms(self) -> list[Any]:
        """The terms of the images, by each of `TERMS`."""
        return [make_terms(self) for make_terms in TERMS]

    def sum_terms(self) -> list[np.ndarray]:
        """Returns their sums over all images, float64 [terms] each; those of several parts may be added."""
        return [np.asarray(terms.sum(axis=0)).reshape(-1) for terms in self.terms]


def _count_and(answers: Answers, values: np.ndarray) -> np.ndarray:
    """Returns terms of a mean over images, float64 [images, 2]: 1 and the value."""
    # argmax takes NaN for the greatest: a broken model would score what its first class weighs.
    return np.stack([np.ones(len(values)), np.where(answers.finite, values, np.nan)], axis=1)


def _hits(answers: Answers) -> np.ndarray:
    return _count_and(answers, answers.correct)


def _decisions(answers: Answers) -> np.ndarray:
    """Returns terms of the share of images that the model decides of, float64 [images, 2]."""
    return _count_and(answers, _decided(answers))


def _decided_hits(answers: Answers) -> np.ndarray:
    """Returns terms of the accuracy among the images that the model decides of, float64 [images, 2]."""
    return np.where(_decided(answers)[:, None], _hits(answers), 0.0)


def _decided(answers: Answers) -> np.ndarray:
    return np.ones(len(answers.labels), bool) if answers.decided is None else answers.decided


def hits_among(k: int, answers: Answers) -> np.ndarray:
    """Returns terms of the share of images whose class is among the `k` most probable, float64 [images, 2]."""
    return _count_and(answers, rank_labels(answers.labels, answers.probabilities) < k)


def _log_losses(answers: Answers) -> np.ndarray:
    """Returns the negative natural logarithms of the right class's probability, 0 for an unknown class."""
    mine = np.clip(answers.label_probabilities.astype(np.float64), EPSILON, 1.0 - EPSILON)
    return _count_and(answers, -np.log(mine))


def calibration_terms(answers: Answers) -> np.ndarray:
    """Returns float64 [images, CALIBRATION_BINS * 3]: 1, the hit and the probability in the most probable's bin."""
    images = len(answers.labels)
    confidence = np.where(answers.finite, answers.confidence, 0.0).astype(np.float64)
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    terms = np.zeros([images, CALIBRATION_BINS, 3])
    terms[np.arange(images), bins] = np.stack([np.ones(images), answers.correct, confidence], axis=1)
    terms[~answers.finite] = (0.0, np.nan, np.nan)
    return terms.reshape(images, CALIBRATION_BINS * 3)


def _class_terms(answers: Answers) -> Any:
    """Returns a sparse float64 [images, 3 * classes]: 1 for the class that was hit, the label's and the predicted."""
    import scipy.sparse  # 0.3 s, which who reads results does not wait for

    images, width = answers.probabilities.shape
    chosen = np.concatenate([answers.known & answers.finite & answers.correct, answers.known, answers.finite])
    classes = np.concatenate([answers.labels, width + answers.labels, 2 * width + answers.predicted])[chosen]
    rows = np.tile(np.arange(images), 3)[chosen]
    return scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, classes)), shape=(images, 3 * width))


def count_matrix(matrix: Iterable[tuple[int, int, float]], class_count: int) -> np.ndarray:
    """Returns the sums of the classes' terms, float64 [3 * classes], from a confusion matrix.

    Args:
        matrix: (class index of the label, class index of the prediction, images), each cell once at most.
            `UNKNOWN_CLASS` is no class: such an image counts against the precision of what it was taken for.
        class_count: of the model.
    """
    counts = np.zeros([3, class_count])
    for actual, predicted, images in matrix:
        if actual == predicted != UNKNOWN_CLASS:
            counts[0, actual] += images
        if actual != UNKNOWN_CLASS:
            counts[1, actual] += images
        if predicted != UNKNOWN_CLASS:
            counts[2, predicted] += images
    return counts.reshape(-1)


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def mean(sums: np.ndarray) -> np.ndarray:
    """Returns the mean over images, NaN over none."""
    return _divide(sums[..., 1], sums[..., 0])


def _expected_calibration_error(sums: np.ndarray) -> np.ndarray:
    """Returns how far confidence and accuracy of a bin lie apart, on average (Naeini et al. 2015)."""
    bins = sums.reshape(*sums.shape[:-1], CALIBRATION_BINS, 3)
    return _divide(np.abs(bins[..., 1] - bins[..., 2]).sum(axis=-1), bins[..., 0].sum(axis=-1))


def _class_shares(sums: np.ndarray, labelled: float, predicted: float) -> np.ndarray:
    """Returns the share of hits in so much of the labelled and the predicted images.

    As in scikit-learn with zero_division=0; NaN for a class that occurs nowhere. float64 [..., classes].
    """
    hits, by_label, by_prediction = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, sums.shape[-1] // 3), -2, 0)
    whole = labelled * by_label + predicted * by_prediction
    return np.where(by_label + by_prediction > 0, hits / np.where(whole > 0, whole, 1.0), np.nan)


_precisions = partial(_class_shares, labelled=0.0, predicted=1.0)
_recalls = partial(_class_shares, labelled=1.0, predicted=0.0)
_f1s = partial(_class_shares, labelled=0.5, predicted=0.5)


def _macro(shares_of: Callable[[np.ndarray], np.ndarray], sums: np.ndarray) -> np.ndarray:
    """Returns the unweighted mean over the classes that occur.

    NaN below two classes with images: of one class alone (the slice of a class) a mean over classes says nothing,
    and NaN passes no gate.
    """
    shares, width = shares_of(sums), sums.shape[-1] // 3
    classes = np.count_nonzero(sums[..., width : 2 * width], axis=-1)
    return _divide(np.nansum(shares, axis=-1), np.where(classes < 2, 0, np.isfinite(shares).sum(axis=-1)))


class Definition(NamedTuple):
    """Terms of images, float64 or sparse [images, terms], and the figure of sums, [..., terms] to [...].

    The figure of each class, that is [..., classes], where `CLASS_METRICS` lists the metric.
    """

    terms: Callable[[Answers], Any]
    figure: Callable[[np.ndarray], np.ndarray]


_hits_among_5 = partial(hits_among, 5)

DEFINITIONS = {
    "accuracy": Definition(_hits, mean),
    "top_5_accuracy": Definition(_hits_among_5, mean),
    "macro_precision": Definition(_class_terms, partial(_macro, _precisions)),
    "macro_recall": Definition(_class_terms, partial(_macro, _recalls)),
    "macro_f1": Definition(_class_terms, partial(_macro, _f1s)),
    "log_loss": Definition(_log_losses, mean),
    "ece": Definition(calibration_terms, _expected_calibration_error),
    "coverage": Definition(_decisions, mean),
    "selective_accuracy": Definition(_decided_hits, mean),
    "precision": Definition(_class_terms, _precisions),
    "recall": Definition(_class_terms, _recalls),
    "f1": Definition(_class_terms, _f1s),
}
"""All metrics but AUC: what several of them are made of is added up once."""

TERMS = tuple(dict.fromkeys(definition.terms for definition in DEFINITIONS.values()))


def make_figures(sums: Sequence[np.ndarray], names: Iterable[str] = tuple(DEFINITIONS)) -> dict[str, np.ndarray]:
    """Returns figures by name.

    Args:
        sums: of the terms, float64 [..., terms] by each of `TERMS`.
        names: of `DEFINITIONS`.

    Returns:
        float64 [...] over all classes, [..., classes] of each; NaN where undefined.
    """
    by_terms = dict(zip(TERMS, sums, strict=True))
    return {name: DEFINITIONS[name].figure(by_terms[DEFINITIONS[name].terms]) for name in names}
