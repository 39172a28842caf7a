"""What an evaluation found, as plain typed values: read through TFMA's own loaders, wherever it was written."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from components.evaluator.baseline import Baseline, read_baseline
from components.evaluator.definitions import DEFINITIONS, UNKNOWN_CLASS, count_matrix
from components.evaluator.model_classes import read_evaluation_classes
from components.evaluator.refusals import METRICS_GATE, read_refusals


@dataclass(frozen=True)
class GateResult:
    """One bound of a gate, as TFMA judged it.

    Attributes:
        metric: e.g. `accuracy`.
        slice: the class that the gate is about, or None for all images.
        kind: whether the bound is on the value itself or on its change against the baseline.
        relation: how value and bound must compare.
        value: the value or the change; None where it is not a number, which never passes.
        bound: the limit.
        passed: TFMA's verdict.
    """

    metric: str
    slice: str | None
    kind: Literal["min", "max", "change"]
    relation: Literal[">=", "<="]
    value: float | None
    bound: float
    passed: bool


@dataclass(frozen=True)
class ClassResult:
    """One class against all others; a figure is None where it is undefined or was not computed."""

    name: str
    support: int
    precision: float | None
    recall: float | None
    f1: float | None
    auc: float | None


@dataclass(frozen=True)
class CalibrationBin:
    """Images whose most probable class had a probability in [lower, upper); the last bin includes 1.

    Attributes:
        lower: probability.
        upper: probability.
        images: how many.
        confidence: their mean probability, None in an empty bin.
        accuracy: the share of them that was right, None in an empty bin.
    """

    lower: float
    upper: float
    images: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class EvaluationResults:
    """One model on one split.

    Attributes:
        metrics: figures over all images, e.g. `accuracy`, `macro_f1`, `log_loss`; None where not a number.
        baseline_metrics: those of the latest blessed model on the same images, or None without one.
        images: how many were evaluated.
        classes: one row per class in the order of the probabilities.
        slices: slice, e.g. `label:cat`, to its figures; empty above 100 classes.
        matrix: the confusion matrix's cells above 0: (class index of the label, that of the prediction, images).
            Index -1 is a label that the model does not know.
        calibration: the reliability diagram of the most probable class; empty bins included.
        gates: every bound that applied; those on a change do not without a comparable baseline.
        passed: whether the model was blessed; None if there was no gate.
        baseline: the latest blessed model, and whether it is comparable; None without one.
        refusals: the gates that refused, `evaluator.gates` or one before the Evaluator, each with what it found.
    """

    metrics: dict[str, float | None]
    baseline_metrics: dict[str, float | None] | None
    images: int
    classes: tuple[ClassResult, ...]
    slices: dict[str, dict[str, float | None]]
    matrix: tuple[tuple[int, int, int], ...]
    calibration: tuple[CalibrationBin, ...]
    gates: tuple[GateResult, ...]
    passed: bool | None
    baseline: Baseline | None = None
    refusals: dict[str, str] = field(default_factory=dict)


NO_RESULTS = EvaluationResults({}, None, 0, (), {}, (), (), (), None)
"""Of a run that came to no evaluation."""


def read_results(evaluation_uri: str) -> EvaluationResults:
    """Reads the folder of an `evaluation` artifact.

    Args:
        evaluation_uri: local or remote folder that the Evaluator wrote.

    Raises:
        ValueError: the folder holds no evaluation of all images.
    """
    # TFMA takes seconds to import; whoever only names the types of this module does not wait for it.
    import tensorflow_model_analysis as tfma
    from tensorflow_model_analysis.writers import eval_config_writer

    config, *_ = eval_config_writer.load_eval_run(evaluation_uri)
    names = {spec.is_baseline: spec.name for spec in config.model_specs} if len(config.model_specs) > 1 else {}
    result = tfma.load_eval_result(evaluation_uri, model_name=names.get(False, ""))
    by_slice = {_slice_name(key): _flat_metrics(figures) for key, figures in result.slicing_metrics}
    if "" not in by_slice:
        raise ValueError(f"{evaluation_uri} holds no TFMA results over all images")
    figures = by_slice.pop("")
    plots: Mapping[str, Any] = next((_only_output(plots) for key, plots in result.plots if not key), {})
    matrix = tuple(_read_matrix(plots))
    class_names = read_evaluation_classes(evaluation_uri)
    if class_names is None:
        class_names = [str(i) for i in range(1 + max((max(cell[:2]) for cell in matrix), default=UNKNOWN_CLASS))]
    passed, gates = _read_gates(evaluation_uri, config, figures, class_names)
    refusals = read_refusals(evaluation_uri)
    if passed is False:
        failed = (f"{gate.metric} of {gate.slice}" if gate.slice else gate.metric for gate in gates if not gate.passed)
        refusals = {METRICS_GATE: ", ".join(failed), **refusals}
    return EvaluationResults(
        metrics=_overall(figures),
        baseline_metrics=_read_baseline_metrics(evaluation_uri, names[True]) if True in names else None,
        images=int(figures.get(("", "example_count")) or 0),
        classes=tuple(_make_classes(class_names, matrix, figures)),
        slices={name: _overall(values) for name, values in sorted(by_slice.items())},
        matrix=matrix,
        calibration=tuple(_read_calibration(plots)),
        gates=gates,
        passed=False if refusals else passed,
        baseline=read_baseline(evaluation_uri),
        refusals=refusals,
    )


_Figures = dict[tuple[str, str], float | None]
"""(sub-key, e.g. "" or `classId:3`, and metric) to value."""


def _slice_name(key: tuple[tuple[str, Any], ...]) -> str:
    return ", ".join(f"{column}:{value}" for column, value in key)


def _only_output(by_output: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Returns what belongs to the model's unnamed output, or, in an evaluation of another pipeline, to its first."""
    return (by_output or {}).get("") or next(iter((by_output or {}).values()), {})


def _flat_metrics(figures: Mapping[str, Any]) -> _Figures:
    return {
        (sub_key, name): _number(value["doubleValue"])
        for sub_key, by_name in _only_output(figures).items()
        for name, value in by_name.items()
        if "doubleValue" in value
    }


def _number(value: float | str) -> float | None:
    """Returns a finite number or None; protobuf's JSON writes NaN and infinities as strings."""
    return float(value) if math.isfinite(float(value)) else None


def _overall(figures: _Figures) -> dict[str, float | None]:
    return {
        name: value
        for (sub_key, name), value in figures.items()
        if not sub_key and name != "example_count" and not name.endswith("_diff")
    }


def _read_baseline_metrics(evaluation_uri: str, model_name: str) -> dict[str, float | None]:
    import tensorflow_model_analysis as tfma

    result = tfma.load_eval_result(evaluation_uri, model_name=model_name)
    return _overall(next(_flat_metrics(figures) for key, figures in result.slicing_metrics if not key))


def _read_matrix(plots: Mapping[str, Any]) -> Iterator[tuple[int, int, int]]:
    # JSON of a proto leaves out what is 0, here the index of the first class.
    matrices = plots.get("", {}).get("multiClassConfusionMatrixAtThresholds", {}).get("matrices", [])
    for cell in matrices[0]["entries"] if matrices else []:
        yield cell.get("actualClassId", 0), cell.get("predictedClassId", 0), int(cell["numWeightedExamples"])


def _make_classes(
    class_names: list[str], matrix: tuple[tuple[int, int, int], ...], figures: _Figures
) -> Iterator[ClassResult]:
    """Yields the rows from the matrix, by the function that also gave TFMA its figures, which end at 100 classes."""
    counts = count_matrix(matrix, len(class_names))
    shares = {name: DEFINITIONS[name].figure(counts).tolist() for name in ("precision", "recall", "f1")}
    for i, name in enumerate(class_names):
        yield ClassResult(
            name=name,
            support=int(counts[len(class_names) + i]),
            auc=figures.get((f"classId:{i}", "auc")),
            **{metric: _number(values[i]) for metric, values in shares.items()},
        )


def _read_calibration(plots: Mapping[str, Any]) -> Iterator[CalibrationBin]:
    buckets = plots.get("topK:1", {}).get("calibrationHistogramBuckets", {}).get("buckets", [])
    for bucket in buckets:
        images, hits, probabilities = (
            float(bucket.get(key, 0.0))
            for key in ("numWeightedExamples", "totalWeightedLabel", "totalWeightedRefinedPrediction")
        )
        yield CalibrationBin(
            lower=float(bucket.get("lowerThresholdInclusive", 0.0)),
            upper=float(bucket["upperThresholdExclusive"]),
            images=int(images),
            confidence=_number(probabilities / images) if images else None,
            accuracy=_number(hits / images) if images else None,
        )


def _read_gates(
    evaluation_uri: str, config: Any, figures: _Figures, class_names: list[str]
) -> tuple[bool | None, tuple[GateResult, ...]]:
    """Returns TFMA's verdict on the whole and on each bound."""
    import tensorflow_model_analysis as tfma
    from tensorflow_model_analysis.proto import config_pb2

    thresholds = tfma.metrics.metric_thresholds_from_metrics_specs(config.metrics_specs, eval_config=config)
    if not thresholds:
        return None, ()
    validation = tfma.load_validation_result(evaluation_uri)
    failed = [
        (failure.metric_key, failure.metric_threshold)
        for per_slice in validation.metric_validations_per_slice
        for failure in per_slice.failures
    ]
    gates = []
    for key, bounds in thresholds.items():
        if key.model_name == tfma.BASELINE_KEY:
            continue
        value = figures.get((str(key.sub_key or ""), f"{key.name}_diff" if key.is_diff else key.name))
        for slicing_spec, threshold in bounds:
            whole = config_pb2.MetricThreshold(**{"change_threshold" if key.is_diff else "value_threshold": threshold})
            passed = (key.to_proto(), whole) not in failed and slicing_spec not in validation.missing_slices
            for kind, relation, bound in _bounds(whole):
                name = class_names[key.sub_key.class_id] if key.sub_key else None
                gates.append(GateResult(key.name, name, kind, relation, value, bound, passed))
    return validation.validation_ok, tuple(gates)


def _bounds(threshold: Any) -> Iterator[tuple[Any, Any, float]]:
    """Yields (kind, relation, bound) of each bound that a threshold holds."""
    if threshold.value_threshold.HasField("lower_bound"):
        yield "min", ">=", threshold.value_threshold.lower_bound.value
    if threshold.value_threshold.HasField("upper_bound"):
        yield "max", "<=", threshold.value_threshold.upper_bound.value
    if threshold.change_threshold.HasField("absolute"):
        lower_is_better = threshold.change_threshold.direction == 1
        yield "change", "<=" if lower_is_better else ">=", threshold.change_threshold.absolute.value
