"""The classifier's figures as TFMA metrics, computed together and in NumPy.

TFMA's own precision, recall and F1 are binary: they cut each class's probability at 0.5, where a classifier answers
with the most probable class, and their macro averages follow suit. Its AUC counts in 10,000 equal bins of probability,
in which most scores of a sure model tie. Its accuracy and log loss are tf_keras metrics, whose AutoGraph conversion
alone takes 5 s, and its calibration histogram raises an error on NaN. Here everything comes from two small combiners.
"""

from typing import Any

import numpy as np
from tensorflow_model_analysis.metrics import metric_types, metric_util
from tensorflow_model_analysis.proto import metrics_for_slice_pb2

from components.evaluator.combiners import CALIBRATION, ClassAucs, RowSums
from components.evaluator.definitions import DEFINITIONS

_SUMS, _AUCS = "_row_sums", "_class_aucs"
"""TFMA drops metrics with a leading underscore when nothing is derived from them any more."""


class ClassifierMetric(metric_types.Metric):
    """One figure of a classifier with integer labels and a row of probabilities for each image.

    Any of `OVERALL_METRICS`, or of `CLASS_METRICS` for the classes that a MetricsSpec binarizes by; NaN where
    undefined. A label of -1, a class that the model does not know, is a mistake whatever the model answers. `auc` and
    `macro_auc` keep all probabilities: 4 bytes * classes an image.
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
    private_name, combiner = (_SUMS, RowSums) if name in DEFINITIONS else (_AUCS, ClassAucs)
    private_key = metric_types.MetricKey(name=private_name, **place)
    return [
        metric_types.MetricComputation([private_key], None, combiner(private_key, eval_config)),
        _derive(key, lambda metrics: _select(metrics[private_key][name], sub_key)),
    ]


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
    return [sums, _derive(key, lambda metrics: _make_buckets(metrics[sums_key][CALIBRATION]))]


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


def _select(figure: np.ndarray, sub_key: metric_types.SubKey | None) -> float:
    if sub_key is None:
        return float(figure)
    # A baseline that knows fewer classes has no column for the last ones.
    return float(figure[sub_key.class_id]) if sub_key.class_id < len(figure) else np.nan
