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

from components.evaluator.combiners import CALIBRATION_PLOT, ClassAucs, RowSums

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

    def __init__(self, name: str = CALIBRATION_PLOT) -> None:
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
    private_name, combiner = (_AUCS, ClassAucs) if name in ("auc", "macro_auc") else (_SUMS, RowSums)
    private_key = metric_types.MetricKey(name=private_name, **place)
    plot = name == CALIBRATION_PLOT
    key = (metric_types.PlotKey if plot else metric_types.MetricKey)(name=name, sub_key=sub_key, **place)

    def derive(metrics: dict[metric_types.MetricKey, Any]) -> dict[metric_types.MetricKey, Any]:
        found = metrics[private_key][name]
        return {key: _make_buckets(found) if plot else _select(found, sub_key)}

    return [
        metric_types.MetricComputation([private_key], None, combiner(private_key, eval_config)),
        metric_types.DerivedMetricComputation([key], derive),
    ]


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


def _select(figure: np.ndarray, sub_key: metric_types.SubKey | None) -> float:
    if sub_key is None:
        return float(figure)
    # A baseline that knows fewer classes has no column for the last ones.
    return float(figure[sub_key.class_id]) if sub_key.class_id < len(figure) else np.nan
