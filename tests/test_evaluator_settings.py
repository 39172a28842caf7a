"""Gates that make no sense are refused when the configuration is read, by one clear message each."""

from typing import Any

import pytest
from pydantic import ValidationError

from components.evaluator.settings import EvaluatorSettings


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"metric": "accuracy"}, "no bound: set min, max, min_change or max_change"),
        ({"metric": "accuracy", "min": 0.9, "max": 0.1}, "min 0.9 above max 0.1"),
        ({"metric": "accuracy", "min": 90}, "has min 90: use 0 to 1, 0.9 is 90 %"),
        ({"metric": "top_5_accuracy", "max": 1.5}, "has max 1.5: use 0 to 1"),
        ({"metric": "f1", "slice": "cat", "min": 50}, "has min 50: use 0 to 1"),
        ({"metric": "macro_auc", "min": float("nan")}, "has min nan: use 0 to 1"),
        ({"metric": "accuracy", "min_change": -2}, "has min_change -2: use -1 to 1"),
        ({"metric": "ece", "max_change": 1.01}, "has max_change 1.01: use -1 to 1"),
        ({"metric": "log_loss", "max": -1}, "has max -1: use 0 to inf"),
        ({"metric": "precision", "min": 0.9}, "belongs to one class: name it as slice"),
        ({"metric": "accuracy", "min": 0.9, "slice": "cat"}, "use precision, recall, f1, auc"),
        ({"metric": "log_loss", "min_change": 0.1}, "better when lower: use max_change"),
        ({"metric": "accuracy", "max_change": 0.1}, "better when higher: use min_change"),
        ({"metric": "acuracy", "min": 0.1}, "Input should be 'accuracy'"),
        ({"metric": "accuracy", "least": 0.1}, "Extra inputs are not permitted"),
    ],
)
def test_a_senseless_gate_is_refused(gate: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EvaluatorSettings.model_validate({"gates": [gate]})


def test_no_gate_is_refused() -> None:
    with pytest.raises(ValidationError, match="TFX blesses no model without one"):
        EvaluatorSettings(gates=())


def test_a_bound_that_can_be_is_allowed() -> None:
    gates = [{"metric": "accuracy", "min": 0, "max": 1, "min_change": -1}, {"metric": "log_loss", "max": 7}]
    gates.append({"metric": "log_loss", "max_change": 2})
    assert len(EvaluatorSettings.model_validate({"gates": gates}).gates) == 3


def test_gates_survive_json() -> None:
    gates = [{"metric": "f1", "slice": "äpfel", "min": 0.5, "min_change": -0.1}, {"metric": "ece", "max": 0.2}]
    settings = EvaluatorSettings.model_validate({"gates": gates})
    assert EvaluatorSettings.model_validate_json(settings.model_dump_json()) == settings
    assert [gate.model_dump(exclude_none=True) for gate in settings.gates] == gates
