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


def test_gates_survive_json() -> None:
    gates = [{"metric": "f1", "slice": "äpfel", "min": 0.5, "min_change": -0.1}, {"metric": "ece", "max": 0.2}]
    settings = EvaluatorSettings.model_validate({"gates": gates})
    assert EvaluatorSettings.model_validate_json(settings.model_dump_json()) == settings
    assert [gate.model_dump(exclude_none=True) for gate in settings.gates] == gates
