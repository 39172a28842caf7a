"""The conditions that TFX writes: what they mean, and what is refused."""

from typing import Any

import pytest

from pipeline.rehearsal.conditions import ConditionError, evaluate_condition, parse_condition

INPUTS: dict[str, Any] = {
    "artifacts": {"model": {"artifacts": [{"uri": "/m/1", "name": "n", "metadata": {"blessed": 1, "kind": "vgg"}}]}},
    "parameter_values": {"n": 3, "on": True},
}
MODEL = "inputs.artifacts['model'].artifacts[0]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"({MODEL}.metadata['blessed'] == 1.0)", True),
        (f"!(({MODEL}.metadata['blessed'] == 1.0))", False),
        (f"({MODEL}.metadata['kind'] == 'vgg') && ({MODEL}.metadata['blessed'] < 0.5)", False),
        (f"({MODEL}.metadata['kind'] == \"vgg\") || ({MODEL}.metadata['nothing'] < 0.5)", True),
        (f"({MODEL}.uri == ('/m' + '/1'))", True),
        ("inputs.parameter_values['n'] >= 3 && inputs.parameter_values['on']", True),
        ("inputs.parameter_values['n'] + 1 > -4", True),
        ("int(inputs.parameter_values['n']) != 3", False),
        # && binds more than ||, as in CEL.
        ("true || false && false", True),
    ],
)
def test_conditions_of_tfx_and_kfp(text: str, expected: bool) -> None:
    assert evaluate_condition(text, INPUTS) is expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 ==",
        "(1 == 1",
        "1 == 1)",
        "open('x')",
        "inputs.",
        "inputs['a'",
        "a.b",
        "1 @ 2",
        "inputs.__class__()",
        "'a",
    ],
)
def test_what_is_not_of_the_language_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_condition(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{MODEL}.metadata['nothing'] == 1.0", "there is no 'nothing'"),
        ("inputs.artifacts['model'].artifacts[1].uri == ''", "there is no 1"),
        (f"{MODEL}.metadata['kind'] == 1.0", "different kinds"),
        (f"{MODEL}.uri && true", "neither true nor false"),
        (f"{MODEL}.uri", "not true or false"),
        ("true + true == 2", "cannot be added"),
        ("int('x') == 1", "is no number"),
    ],
)
def test_what_cannot_be_evaluated_is_told(text: str, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        evaluate_condition(text, INPUTS)
