"""What is added up image by image for the classifier's figures, in NumPy."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
from scipy.stats import rankdata
from tensorflow_model_analysis.metrics import metric_types, metric_util

from components.evaluator.ranks import rank_labels
from components.exported_model.signatures import TOP_K

CALIBRATION_BINS = 10
_EPSILON = float(np.finfo(np.float32).eps)
"""Probabilities are clipped to [eps, 1 - eps] before their logarithm, as scikit-learn does with float32."""


class RowCombiner(beam.CombineFn):
    """Base of the combiners: finds the label and the probabilities of one model's one output."""

    def __init__(self, key: metric_types.MetricKey, eval_config: Any) -> None:
        self._key = key
        self._eval_config = eval_config

    def _read_row(self, element: metric_types.StandardMetricInputs) -> tuple[int, np.ndarray]:
        """Returns the class index of the label and float32 [classes]."""
        label, probabilities, _ = next(
            metric_util.to_label_prediction_example_weight(
                element,
                eval_config=self._eval_config,
                model_name=self._key.model_name,
                output_name=self._key.output_name,
                flatten=False,
            )
        )
        return label.item(), probabilities


@dataclass(frozen=True)
class Sums:
    """Sums over images.

    Attributes:
        totals: float64 [4], images, hits, hits among the five most probable classes, log losses.
        bins: float64 [CALIBRATION_BINS, 3], images, hits and probabilities of the most probable class, by the latter.
    """

    totals: np.ndarray
    bins: np.ndarray

    @property
    def accuracy(self) -> float:
        """Returns the share of images whose most probable class is right."""
        return self._mean(self.totals[1])

    @property
    def top_5_accuracy(self) -> float:
        """Returns the share of images whose class is among the five most probable."""
        return self._mean(self.totals[2])

    @property
    def log_loss(self) -> float:
        """Returns the mean negative natural logarithm of the right class's probability."""
        return self._mean(self.totals[3])

    @property
    def ece(self) -> float:
        """Returns the expected calibration error: how far confidence and accuracy of a bin lie apart, on average."""
        return self._mean(np.abs(self.bins[:, 1] - self.bins[:, 2]).sum())

    def _mean(self, total: float) -> float:
        return float(total / self.totals[0]) if self.totals[0] else float(np.nan)


class RowSums(RowCombiner):
    """Adds up `Sums`."""

    def create_accumulator(self) -> Sums:
        """Returns sums of nothing."""
        return Sums(np.zeros(4), np.zeros((CALIBRATION_BINS, 3)))

    def add_input(self, accumulator: Sums, element: metric_types.StandardMetricInputs) -> Sums:
        """Adds one image in place."""
        label, probabilities = self._read_row(element)
        known = 0 <= label < len(probabilities)
        probability = float(probabilities[label]) if known else 0.0
        predicted = np.argmax(probabilities)
        confidence = float(probabilities[predicted])
        if not np.isfinite(probabilities).all():
            # argmax takes NaN for the greatest: a broken model would score what its first class weighs.
            accumulator.totals[:] += (1.0, np.nan, np.nan, np.nan)
            accumulator.bins[:, 1:] = np.nan
            return accumulator
        accumulator.totals[:] += (
            1.0,
            predicted == label,
            rank_labels(np.asarray(label), probabilities) < TOP_K,
            -np.log(np.clip(probability, _EPSILON, 1.0 - _EPSILON)),
        )
        row = min(int(confidence * CALIBRATION_BINS), CALIBRATION_BINS - 1)
        accumulator.bins[row] += (1.0, predicted == label, confidence)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Sums]) -> Sums:
        """Adds up sums."""
        parts = list(accumulators)
        return Sums(np.sum([part.totals for part in parts], axis=0), np.sum([part.bins for part in parts], axis=0))

    def extract_output(self, accumulator: Sums) -> dict[metric_types.MetricKey, Sums]:
        """Returns the sums under the private key."""
        return {self._key: accumulator}


class ClassAucs(RowCombiner):
    """The exact area under each class's ROC curve, from ranks (Mann-Whitney), ties counting half."""

    def create_accumulator(self) -> list[tuple[int, np.ndarray]]:
        """Returns no rows."""
        return []

    def add_input(self, accumulator: list, element: metric_types.StandardMetricInputs) -> list:
        """Adds the row of one image in place."""
        accumulator.append(self._read_row(element))
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[list]) -> list:
        """Puts rows together."""
        return [row for accumulator in accumulators for row in accumulator]

    def extract_output(self, accumulator: list) -> dict[metric_types.MetricKey, np.ndarray]:
        """Returns float64 [classes] under the private key, NaN for a class without images or without others."""
        if not accumulator:
            return {self._key: np.empty(0)}
        labels = np.array([label for label, _ in accumulator])
        scores = np.stack([probabilities for _, probabilities in accumulator])
        return {self._key: np.array([_auc(labels == i, scores[:, i]) for i in range(scores.shape[1])])}


def _auc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Returns the share of (positive, negative) pairs in the right order; NaN without both kinds, or with NaN scores.

    Args:
        positive: bool [images].
        scores: float [images].
    """
    positives = np.count_nonzero(positive)
    pairs = positives * (len(positive) - positives)
    if not pairs or np.isnan(scores).any():
        return float(np.nan)
    return float((rankdata(scores)[positive].sum() - positives * (positives + 1) / 2) / pairs)
