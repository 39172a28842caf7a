"""Precision, recall and F1 from a confusion matrix, as scikit-learn defines them (zero_division=0)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

UNKNOWN_CLASS = -1
"""The label of an image whose class the model does not know, and the prediction of a model that makes none."""


@dataclass(frozen=True)
class ClassCounts:
    """Images by class.

    Attributes:
        hits: class index to images of the class that were recognised.
        labelled: class index to images of the class (its support).
        predicted: class index to images that were taken for the class.
    """

    hits: dict[int, float]
    labelled: dict[int, float]
    predicted: dict[int, float]

    def precision(self, class_id: int) -> float:
        """Returns the share of right ones among the images taken for the class; NaN if the class occurs nowhere."""
        return self._share(class_id, self.predicted.get(class_id, 0.0))

    def recall(self, class_id: int) -> float:
        """Returns the share of recognised ones among the images of the class; NaN if the class occurs nowhere."""
        return self._share(class_id, self.labelled.get(class_id, 0.0))

    def f1(self, class_id: int) -> float:
        """Returns the harmonic mean of precision and recall; NaN if the class occurs nowhere."""
        return self._share(class_id, (self.labelled.get(class_id, 0.0) + self.predicted.get(class_id, 0.0)) / 2.0)

    def macro(self, name: str) -> float:
        """Returns the unweighted mean of `precision`, `recall` or `f1` over the classes that occur.

        NaN below two classes with images: of one class alone (the slice of a class) a mean over classes says nothing,
        and NaN passes no gate.
        """
        if len(self.labelled) < 2:
            return math.nan
        class_ids = sorted({*self.labelled, *self.predicted})
        return float(np.mean([getattr(self, name)(class_id) for class_id in class_ids]))

    def _share(self, class_id: int, whole: float) -> float:
        if class_id not in self.labelled and class_id not in self.predicted:
            return math.nan
        return self.hits.get(class_id, 0.0) / whole if whole else 0.0


def count_classes(matrix: Iterable[tuple[int, int, float]]) -> ClassCounts:
    """Sums up a confusion matrix.

    Args:
        matrix: (class index of the label, class index of the prediction, images), each cell once at most.
            `UNKNOWN_CLASS` is no class: such an image counts against the precision of what it was taken for.
    """
    counts = ClassCounts({}, {}, {})
    for actual, predicted, images in matrix:
        if actual != UNKNOWN_CLASS:
            counts.labelled[actual] = counts.labelled.get(actual, 0.0) + images
        if predicted != UNKNOWN_CLASS:
            counts.predicted[predicted] = counts.predicted.get(predicted, 0.0) + images
        if actual == predicted != UNKNOWN_CLASS:
            counts.hits[actual] = counts.hits.get(actual, 0.0) + images
    return counts
