"""The classifier's figures as TFMA metrics, computed together and in NumPy.

TFMA's own precision, recall and F1 are binary: they cut each class's probability at 0.5, where a classifier answers
with the most probable class, and their macro averages follow suit. Its AUC counts in 10,000 equal bins of probability,
in which a sure model's scores all tie (errors above 0.01 on 180 images). Its accuracy and log loss are tf_keras
metrics, whose AutoGraph conversion alone takes 5 s. Here all of them come from one confusion matrix, one
calibration histogram (both TFMA's own) and two small combiners.
"""

from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import numpy as np
from scipy.stats import rankdata
from tensorflow_model_analysis.metrics import calibration_histogram, metric_types, metric_util
from tensorflow_model_analysis.metrics.multi_class_confusion_matrix_metrics import multi_class_confusion_matrices

from components.evaluator.class_counts import ClassCounts, count_classes

CALIBRATION_BINS = 10
TOP_K = 5

_SUMS, _AUCS, _COUNTS = "_probability_sums", "_class_aucs", "_class_counts"
_EPSILON = float(np.finfo(np.float32).eps)
"""Probabilities are clipped to [eps, 1 - eps] before their logarithm, as scikit-learn does with float32."""


class ClassifierMetric(metric_types.Metric):
    """One figure of a classifier with integer labels and a row of probabilities for each image.

    Over all classes: `accuracy`, `top_5_accuracy`, `log_loss` (natural logarithm), `macro_precision`, `macro_recall`,
    `macro_f1`, `macro_auc`, `ece` (expected calibration error of the most probable class, 10 equal bins, Naeini et
    al. 2015). Of the classes that a MetricsSpec binarizes by: `precision`, `recall`, `f1`, `auc` (one against the
    rest). All in 0..1 but for the log loss; NaN where undefined. A label of -1, a class that the model does not know,
    is a mistake whatever the model answers. `auc` and `macro_auc` keep all probabilities: 4 bytes * classes an image.
    """

    def __init__(self, name: str) -> None:
        super().__init__(metric_util.merge_per_key_computations(_make_computations), name=name)


def _make_computations(
    name: str,
    eval_config: Any = None,
    model_name: str = "",
    output_name: str = "",
    sub_key: metric_types.SubKey | None = None,
    example_weighted: bool = False,
) -> metric_types.MetricComputations:
    """Returns what one figure is computed from; TFMA drops the duplicates between figures."""
    place = {"model_name": model_name, "output_name": output_name, "example_weighted": example_weighted}
    key = metric_types.MetricKey(name=name, sub_key=sub_key, **place)

    def combine(private_name: str, combiner: type["_RowCombiner"]) -> metric_types.MetricComputation:
        private_key = metric_types.MetricKey(name=private_name, **place)
        return metric_types.MetricComputation([private_key], None, combiner(private_key, eval_config))

    if name in ("accuracy", "top_5_accuracy", "log_loss"):
        sums = combine(_SUMS, _ProbabilitySums)
        return [sums, _derive(key, lambda metrics: metrics[sums.keys[0]][name])]
    if name in ("auc", "macro_auc"):
        aucs = combine(_AUCS, _ClassAucs)
        return [aucs, _derive(key, lambda metrics: _select_auc(metrics[aucs.keys[0]], sub_key))]
    if name == "ece":
        histograms = calibration_histogram.calibration_histogram(
            eval_config=eval_config,
            sub_key=metric_types.SubKey(top_k=1),
            aggregation_type=metric_types.AggregationType(micro_average=True),
            left=0.0,
            right=1.0,
            **place,
        )
        return [*histograms, _derive(key, lambda metrics: _calibration_error(metrics[histograms[-1].keys[-1]]))]
    matrices = multi_class_confusion_matrices(eval_config=eval_config, **place)
    counts_key = metric_types.MetricKey(name=_COUNTS, **place)
    counts = _derive(counts_key, lambda metrics: _count_matrix(metrics[matrices[-1].keys[-1]]))
    return [*matrices, counts, _derive(key, lambda metrics: _select_count_figure(metrics[counts_key], name, sub_key))]


def _derive(key: metric_types.MetricKey, compute: Any) -> metric_types.DerivedMetricComputation:
    return metric_types.DerivedMetricComputation(keys=[key], result=lambda metrics: {key: compute(metrics)})


def _count_matrix(matrices: Any) -> ClassCounts:
    ((_, matrix),) = matrices.items() or [(0.0, {})]
    return count_classes((cell.actual_class_id, cell.predicted_class_id, n) for cell, n in matrix.items())


def _select_count_figure(counts: ClassCounts, name: str, sub_key: metric_types.SubKey | None) -> float:
    return counts.macro(name.removeprefix("macro_")) if sub_key is None else getattr(counts, name)(sub_key.class_id)


def _select_auc(aucs: np.ndarray, sub_key: metric_types.SubKey | None) -> float:
    if sub_key is not None:
        # A baseline that knows fewer classes has no column for the last ones.
        return float(aucs[sub_key.class_id]) if sub_key.class_id < len(aucs) else np.nan
    defined = aucs[~np.isnan(aucs)]
    return float(defined.mean()) if len(defined) else np.nan


def _calibration_error(histogram: calibration_histogram.Histogram) -> float:
    edges = [i / CALIBRATION_BINS for i in range(CALIBRATION_BINS)]
    bins = calibration_histogram.rebin(edges, histogram)
    images = sum(b.weighted_examples for b in bins)
    return sum(abs(b.weighted_labels - b.weighted_predictions) for b in bins) / images if images else np.nan


class _RowCombiner(beam.CombineFn):
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


class _ProbabilitySums(_RowCombiner):
    """Sums of images, hits, hits among the five most probable and log losses."""

    def create_accumulator(self) -> np.ndarray:
        return np.zeros(4)

    def add_input(self, accumulator: np.ndarray, element: metric_types.StandardMetricInputs) -> np.ndarray:
        label, probabilities = self._read_row(element)
        known = 0 <= label < len(probabilities)
        probability = probabilities[label] if known else 0.0
        accumulator += (
            1.0,
            known and np.argmax(probabilities) == label,
            known and np.count_nonzero(probabilities > probability) < TOP_K,
            -np.log(np.clip(np.float64(probability), _EPSILON, 1.0 - _EPSILON)),
        )
        if not np.isfinite(probabilities).all():
            # argmax takes NaN for the greatest: a broken model would score what its first class weighs.
            accumulator[1:] = np.nan
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[np.ndarray]) -> np.ndarray:
        return np.sum(list(accumulators), axis=0)

    def extract_output(self, accumulator: np.ndarray) -> dict[metric_types.MetricKey, dict[str, float]]:
        images, *sums = accumulator.tolist()
        values = [total / images if images else np.nan for total in sums]
        return {self._key: dict(zip(("accuracy", "top_5_accuracy", "log_loss"), values, strict=True))}


class _ClassAucs(_RowCombiner):
    """The exact area under each class's ROC curve, from ranks (Mann-Whitney), ties counting half."""

    def create_accumulator(self) -> list[tuple[int, np.ndarray]]:
        return []

    def add_input(self, accumulator: list, element: metric_types.StandardMetricInputs) -> list:
        accumulator.append(self._read_row(element))
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[list]) -> list:
        return [row for accumulator in accumulators for row in accumulator]

    def extract_output(self, accumulator: list) -> dict[metric_types.MetricKey, np.ndarray]:
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
