"""The classifier's figures as TFMA metrics, computed together and in NumPy.

TFMA's own precision, recall and F1 are binary: they cut each class's probability at 0.5, where a classifier answers
with the most probable class, and their macro averages follow suit. Its AUC counts in 10,000 equal bins of probability,
in which most scores of a sure model tie. Its accuracy and log loss are tf_keras metrics, whose AutoGraph conversion
alone takes 5 s, and its calibration histogram raises an error on NaN. Here everything comes from TFMA's confusion
matrix and two small combiners.
"""

from typing import Any

import numpy as np
from tensorflow_model_analysis.metrics import metric_types, metric_util
from tensorflow_model_analysis.metrics.multi_class_confusion_matrix_metrics import multi_class_confusion_matrices
from tensorflow_model_analysis.proto import metrics_for_slice_pb2

from components.evaluator.class_counts import ClassCounts, count_classes
from components.evaluator.combiners import ClassAucs, RowCombiner, RowSums

_SUMS, _AUCS, _COUNTS = "_row_sums", "_class_aucs", "_class_counts"
"""TFMA drops metrics with a leading underscore when nothing is derived from them any more."""


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


class CalibrationBins(metric_types.Metric):
    """A reliability diagram of the most probable class, as TFMA's plot of calibration: 10 equal bins, 1 in the last."""

    def __init__(self, name: str = "calibration_plot") -> None:
        super().__init__(metric_util.merge_per_key_computations(_make_calibration_bins), name=name)


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

    def combine(private_name: str, combiner: type[RowCombiner]) -> metric_types.MetricComputation:
        private_key = metric_types.MetricKey(name=private_name, **place)
        return metric_types.MetricComputation([private_key], None, combiner(private_key, eval_config))

    if name in ("accuracy", "top_5_accuracy", "log_loss", "ece"):
        sums = combine(_SUMS, RowSums)
        return [sums, _derive(key, lambda metrics: getattr(metrics[sums.keys[0]], name))]
    if name in ("auc", "macro_auc"):
        aucs = combine(_AUCS, ClassAucs)
        return [aucs, _derive(key, lambda metrics: _select_auc(metrics[aucs.keys[0]], sub_key))]
    matrices = multi_class_confusion_matrices(eval_config=eval_config, **place)
    counts_key = metric_types.MetricKey(name=_COUNTS, **place)
    counts = _derive(counts_key, lambda metrics: _count_matrix(metrics[matrices[-1].keys[-1]]))
    return [*matrices, counts, _derive(key, lambda metrics: _select_count_figure(metrics[counts_key], name, sub_key))]


def _make_calibration_bins(
    name: str,
    eval_config: Any = None,
    model_name: str = "",
    output_name: str = "",
    sub_key: metric_types.SubKey | None = None,
    example_weighted: bool = False,
) -> metric_types.MetricComputations:
    place = {"model_name": model_name, "output_name": output_name, "example_weighted": example_weighted}
    sums_key = metric_types.MetricKey(name=_SUMS, **place)
    sums = metric_types.MetricComputation([sums_key], None, RowSums(sums_key, eval_config))
    key = metric_types.PlotKey(name=name, sub_key=sub_key, **place)
    return [sums, _derive(key, lambda metrics: _make_buckets(metrics[sums_key].bins))]


def _make_buckets(bins: np.ndarray) -> metrics_for_slice_pb2.CalibrationHistogramBuckets:
    buckets = metrics_for_slice_pb2.CalibrationHistogramBuckets()
    for i, (images, hits, probabilities) in enumerate(bins.tolist()):
        buckets.buckets.add(
            lower_threshold_inclusive=i / len(bins),
            upper_threshold_exclusive=(i + 1) / len(bins),
            num_weighted_examples={"value": images},
            total_weighted_label={"value": hits},
            total_weighted_refined_prediction={"value": probabilities},
        )
    return buckets


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
