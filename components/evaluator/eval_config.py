"""TFMA's EvalConfig for a classifier whose classes are known."""

import difflib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence

import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2

from components.evaluator import metrics
from components.evaluator.metric_table import (
    CLASS_METRICS,
    DECISION_METRICS,
    MAX_SLICED_CLASSES,
    METRICS,
    OVERALL_METRICS,
)
from components.evaluator.settings import EvaluatorSettings, Gate
from components.exported_model.signatures import EXAMPLES_SIGNATURE, TRANSFORM_SIGNATURE
from components.transform.features import TRANSFORMED_LABEL_KEY
from data.errors import UserError
from data.features import LABEL_KEY


def make_eval_config(
    settings: EvaluatorSettings,
    class_names: Sequence[str],
    baseline_class_names: Sequence[str] | None = None,
    *,
    compare: bool = True,
    leaves_some: bool = False,
) -> config_pb2.EvalConfig:
    """Builds the configuration of one evaluation.

    Args:
        settings: the gates.
        class_names: the model's classes, in the order of its probabilities.
        baseline_class_names: those of the latest blessed model, or None without one.
        compare: whether gates on a change against that model apply.
        leaves_some: whether the model may leave images to a person, so that its decisions are measured.

    Raises:
        UserError: a gate on a class or a metric that this model does not have.
    """
    for gate in settings.gates:
        _check_gate(gate, class_names)
    all_gates = settings.gates if compare else tuple(map(_without_change, settings.gates))
    comparable = baseline_class_names is None or list(baseline_class_names) == list(class_names)
    sliced = len(class_names) <= MAX_SLICED_CLASSES
    overall_gates = [gate for gate in all_gates if gate.slice is None]
    if all(gate.min is None and gate.max is None for gate in all_gates):
        # TFX blesses nothing without an absolute threshold, so the first model would never become a baseline. This
        # one refuses only NaN: the metrics of a model whose probabilities are not numbers.
        overall_gates.append(Gate(metric="accuracy", min=0.0))
    # A gate may ask, whatever the model does.
    measured = set(DECISION_METRICS if leaves_some else ()) | {gate.metric for gate in overall_gates}
    metrics_specs = [
        config_pb2.MetricsSpec(
            metrics=[
                config_pb2.MetricConfig(class_name="ExampleCount"),
                *(_make_metric(name, overall_gates) for name in _overall_metrics(len(class_names), measured)),
                config_pb2.MetricConfig(class_name="MultiClassConfusionMatrixPlot"),
            ]
        ),
        config_pb2.MetricsSpec(
            # Its own sub-key: TFMA's loader keeps one plot of a sub-key.
            binarize=config_pb2.BinarizationOptions(top_k_list={"values": [1]}),
            metrics=[config_pb2.MetricConfig(class_name=metrics.CalibrationBins.__name__, module=metrics.__name__)],
        ),
    ]
    if sliced:
        metrics_specs.append(_make_class_spec(range(len(class_names)), [_make_metric(name) for name in CLASS_METRICS]))
    for name in sorted({gate.slice for gate in all_gates if gate.slice is not None}):
        gates = [gate for gate in all_gates if gate.slice == name]
        if not comparable:
            # Index i is another class for the baseline, so that a change would compare different things.
            gates = list(map(_without_change, gates))
        gated = [_make_metric(metric, gates) for metric in CLASS_METRICS if any(g.metric == metric for g in gates)]
        metrics_specs.append(_make_class_spec([list(class_names).index(name)], gated))
    if not comparable:
        for spec in metrics_specs[2:]:
            spec.model_names.append(tfma.CANDIDATE_KEY)
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(
                signature_name=EXAMPLES_SIGNATURE,
                preprocessing_function_names=[TRANSFORM_SIGNATURE],
                label_key=TRANSFORMED_LABEL_KEY,
                prediction_key="probabilities",
            )
        ],
        slicing_specs=[
            config_pb2.SlicingSpec(),
            *([config_pb2.SlicingSpec(feature_keys=[LABEL_KEY])] if sliced else []),
        ],
        metrics_specs=metrics_specs,
    )


def _without_change(gate: Gate) -> Gate:
    return gate.model_copy(update={"min_change": None, "max_change": None})


def _overall_metrics(class_count: int, measured: Collection[str]) -> list[str]:
    return [
        name
        for name, one in OVERALL_METRICS.items()
        if one.least_classes <= class_count <= one.most_classes and (name not in DECISION_METRICS or name in measured)
    ]


def _check_gate(gate: Gate, class_names: Sequence[str]) -> None:
    """Raises UserError where the gate asks for what a model with these classes does not have."""
    if gate.slice is not None and gate.slice not in class_names:
        near = difflib.get_close_matches(gate.slice, class_names, n=3, cutoff=0.0)
        raise UserError(
            f"evaluator.gates: the gate on {gate.metric} names the class {gate.slice!r}, which none of the model's "
            f"{len(class_names)} classes is; the nearest are {', '.join(near)}"
        )
    metric = METRICS[gate.metric]
    if len(class_names) < metric.least_classes:
        raise UserError(
            f"evaluator.gates: {gate.metric} says nothing with {len(class_names)} classes; use accuracy, or more than "
            f"{metric.least_classes - 1} classes"
        )
    if len(class_names) > metric.most_classes:
        raise UserError(
            f"evaluator.gates: {gate.metric} is not computed for {len(class_names)} classes, only up to "
            f"{metric.most_classes}; use {'f1' if gate.slice else 'macro_f1'}"
        )


def _make_class_spec(class_ids: Iterable[int], metric_configs: list[config_pb2.MetricConfig]) -> config_pb2.MetricsSpec:
    return config_pb2.MetricsSpec(
        binarize=config_pb2.BinarizationOptions(class_ids={"values": list(class_ids)}), metrics=metric_configs
    )


def _make_metric(name: str, gates: Iterable[Gate] = ()) -> config_pb2.MetricConfig:
    """Returns one figure with the thresholds of its gates.

    They are on the overall slice: `MetricConfig.threshold` would hold for every slice, so that one hard class
    would refuse a good model. A class has its own figures (`precision` of class 3) over all images.
    """
    thresholds = [threshold for gate in gates if gate.metric == name for threshold in _make_thresholds(gate)]
    return config_pb2.MetricConfig(
        class_name=metrics.ClassifierMetric.__name__,
        module=metrics.__name__,
        config=json.dumps({"name": name}),
        per_slice_thresholds=[
            config_pb2.PerSliceMetricThreshold(slicing_specs=[config_pb2.SlicingSpec()], threshold=threshold)
            for threshold in thresholds
        ],
    )


def _make_thresholds(gate: Gate) -> Iterator[config_pb2.MetricThreshold]:
    """Yields one threshold per bound, so that TFMA's verdict tells which of them failed."""
    if gate.min is not None:
        yield config_pb2.MetricThreshold(value_threshold={"lower_bound": {"value": gate.min}})
    if gate.max is not None:
        yield config_pb2.MetricThreshold(value_threshold={"upper_bound": {"value": gate.max}})
    lower_is_better = METRICS[gate.metric].lower_is_better
    change = gate.max_change if lower_is_better else gate.min_change
    if change is not None:
        direction = tfma.MetricDirection.LOWER_IS_BETTER if lower_is_better else tfma.MetricDirection.HIGHER_IS_BETTER
        yield config_pb2.MetricThreshold(change_threshold={"absolute": {"value": change}, "direction": direction})
