"""How TFMA adds up what the classifier's figures are made of, in NumPy."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import numpy as np
from scipy.stats import rankdata
from tensorflow_model_analysis.metrics import metric_types, metric_util

from components.evaluator.definitions import CALIBRATION_BINS, TERMS, Answers, calibration_terms, make_figures
from components.exported_model.decision import UNDECIDED
from components.exported_model.signatures import DECISION

CALIBRATION_PLOT = "calibration_plot"
_BATCH = 256
"""Rows whose terms are made at once: one by one, NumPy's calls cost more than its sums."""


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

    def _is_decided(self, element: metric_types.StandardMetricInputs) -> bool:
        """Tells whether the model decides of the image; one without that output always does."""
        outputs: Any = element.prediction
        if isinstance(outputs, dict) and self._key.model_name in outputs:
            outputs = outputs[self._key.model_name]
        if not isinstance(outputs, dict) or DECISION not in outputs:
            return True
        value = np.asarray(outputs[DECISION]).reshape(-1)[0]
        return value not in (UNDECIDED, UNDECIDED.encode())


@dataclass
class Parts:
    """What was added up so far.

    Attributes:
        rows: labels, float32 [classes] and whether it was decided, of the images that are not in the sums yet.
        sums: float64 [terms] by each of `TERMS`; empty before the first.
    """

    rows: list[tuple[int, np.ndarray, bool]] = field(default_factory=list)
    sums: list[np.ndarray] = field(default_factory=list)

    def add_rows(self) -> None:
        """Puts the rows into the sums."""
        if self.rows:
            labels, probabilities, decided = zip(*self.rows, strict=True)
            more = Answers(np.array(labels), np.stack(probabilities), decided=np.array(decided)).sum_terms()
            self.sums = [np.add(*pair) for pair in zip(self.sums, more, strict=True)] if self.sums else more
            self.rows = []


class RowSums(RowCombiner):
    """Adds up the terms of all metrics."""

    def create_accumulator(self) -> Parts:
        """Returns sums of nothing."""
        return Parts()

    def add_input(self, accumulator: Parts, element: metric_types.StandardMetricInputs) -> Parts:
        """Adds one image in place."""
        accumulator.rows.append((*self._read_row(element), self._is_decided(element)))
        if len(accumulator.rows) == _BATCH:
            accumulator.add_rows()
        return accumulator

    def compact(self, accumulator: Parts) -> Parts:
        """Drops the rows before the accumulator is sent."""
        accumulator.add_rows()
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Parts]) -> Parts:
        """Adds up sums."""
        every = [self.compact(part).sums for part in accumulators]
        return Parts(sums=[np.sum(sums, axis=0) for sums in zip(*filter(None, every), strict=True)])

    def extract_output(self, accumulator: Parts) -> dict[metric_types.MetricKey, dict[str, np.ndarray]]:
        """Returns each metric by name and the bins of `CALIBRATION_PLOT` under the private key."""
        sums = self.compact(accumulator).sums or Answers(np.zeros(0, int), np.zeros([0, 1])).sum_terms()
        bins = sums[TERMS.index(calibration_terms)].reshape(CALIBRATION_BINS, 3)
        return {self._key: {**make_figures(sums), CALIBRATION_PLOT: bins}}


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

    def extract_output(self, accumulator: list) -> dict[metric_types.MetricKey, dict[str, np.ndarray]]:
        """Returns `auc`, float64 [classes], and its mean `macro_auc` under the private key.

        NaN for a class without images or without others, which the mean leaves out.
        """
        if not accumulator:
            return {self._key: {"auc": np.empty(0), "macro_auc": np.array(np.nan)}}
        labels = np.array([label for label, _ in accumulator])
        scores = np.stack([probabilities for _, probabilities in accumulator])
        aucs = np.array([_auc(labels == i, scores[:, i]) for i in range(scores.shape[1])])
        defined = aucs[~np.isnan(aucs)]
        return {self._key: {"auc": aucs, "macro_auc": np.array(defined.mean() if len(defined) else np.nan)}}


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
