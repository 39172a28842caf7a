"""The EvalConfig holds what the issue of evaluation asks for, and refuses gates that a model cannot have."""

import json

import pytest
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2
from tfx.types import Channel, standard_artifacts

from components.evaluator.component import make_evaluator
from components.evaluator.eval_config import make_eval_config
from components.evaluator.settings import EvaluatorSettings
from data.errors import UserError


def names(count: int) -> list[str]:
    return [f"class {i:04}" for i in range(count)]


def metric_names(config: config_pb2.EvalConfig) -> set[str]:
    return {
        json.loads(metric.config)["name"]
        for spec in config.metrics_specs
        for metric in spec.metrics
        if metric.class_name == "ClassifierMetric"
    }


def test_top_5_needs_more_than_5_classes() -> None:
    assert "top_5_accuracy" in metric_names(make_eval_config(EvaluatorSettings(), names(6)))
    assert "top_5_accuracy" not in metric_names(make_eval_config(EvaluatorSettings(), names(5)))


def test_above_100_classes_there_is_nothing_by_class() -> None:
    small, large = (make_eval_config(EvaluatorSettings(), names(count)) for count in (100, 101))
    assert len(small.slicing_specs) == 2
    assert list(large.slicing_specs) == [config_pb2.SlicingSpec()]
    assert metric_names(small) - metric_names(large) == {"precision", "recall", "f1", "auc", "macro_auc"}


def test_thresholds_are_on_the_overall_slice_alone() -> None:
    gates = [{"metric": "accuracy", "min": 0.5}, {"metric": "f1", "slice": "class 0001", "min": 0.1}]
    config = make_eval_config(EvaluatorSettings.model_validate({"gates": gates}), names(3))
    thresholds = tfma.metrics.metric_thresholds_from_metrics_specs(config.metrics_specs, eval_config=config)
    assert {(key.name, str(key.sub_key or "")) for key in thresholds} == {("accuracy", ""), ("f1", "classId:1")}
    assert [spec for bounds in thresholds.values() for spec, _ in bounds] == [config_pb2.SlicingSpec()] * 2


@pytest.mark.parametrize(
    ("gate", "count", "message"),
    [
        ({"metric": "top_5_accuracy", "min": 0.1}, 5, "top_5_accuracy says nothing with 5 classes"),
        ({"metric": "macro_auc", "min": 0.1}, 101, "only up to 100; use macro_f1"),
        ({"metric": "auc", "slice": "class 0001", "min": 0.1}, 101, "only up to 100; use f1"),
        ({"metric": "recall", "slice": "class 1", "min": 0.1}, 3, "the nearest are class 0001"),
    ],
)
def test_a_gate_that_the_model_cannot_have_is_refused(gate: dict, count: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_eval_config(EvaluatorSettings.model_validate({"gates": [gate]}), names(count))


def test_the_node_knows_no_class_and_evaluates_test_alone() -> None:
    node = make_evaluator(
        EvaluatorSettings(),
        examples=Channel(type=standard_artifacts.Examples),
        model=Channel(type=standard_artifacts.Model),
    )
    properties = node.exec_properties
    assert json.loads(properties["example_splits"]) == ["test"]
    assert EvaluatorSettings.model_validate_json(properties["settings"]) == EvaluatorSettings()
    assert len(properties["code_hash"]) == 64
    assert node.id == "Evaluator"
    assert set(node.outputs) == {"evaluation", "blessing"}
