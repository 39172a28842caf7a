"""What makes an answer unlike, and how far one is from what was expected."""

import numpy as np
import pytest

from components.serving_validator.checks import check_signatures, check_vocabulary
from components.serving_validator.comparison import UnlikeAnswer, first_line, read_answer
from components.serving_validator.fresh_process import Answer

CLASSES = ["ant", "bee", "ünï"]
EXPECTED = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
LABELS = np.array([["ant", "bee"], ["ünï", "bee"]])


def default(probabilities: object = ((0.7, 0.2), (0.6, 0.3)), labels: np.ndarray = LABELS) -> Answer:
    return Answer({"labels": np.char.encode(labels, "utf-8"), "probabilities": np.array(probabilities)})


def test_an_equal_answer_is_at_no_distance() -> None:
    for served in (default(), Answer({"probabilities": EXPECTED})):
        read = read_answer(served, CLASSES, 2)
        assert read.distance(EXPECTED) == pytest.approx(0)
        assert read.log_distance(EXPECTED) == pytest.approx(0)
        assert read.wrong_labels(EXPECTED, 1e-4) == 0


def test_a_label_is_compared_by_its_name() -> None:
    read = read_answer(default(labels=LABELS[:, ::-1]), CLASSES, 2)
    assert read.distance(EXPECTED) == pytest.approx(0.5)
    assert read.wrong_labels(EXPECTED, 1e-4) == 2
    # Two classes that are closer than the tolerance allows are both right.
    assert read.wrong_labels(EXPECTED, 0.26) == 0


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Answer(error="InvalidArgumentError", message="a\nbad\n\t [[{{node x}}]]"), "was refused: bad"),
        (Answer({"scores": EXPECTED}), "has no output 'probabilities', only scores"),
        (Answer({"probabilities": EXPECTED[:1]}), r"has the shape \[1, 3\]; \[2, 3\] was expected"),
        (Answer({"probabilities": EXPECTED * [1, np.nan, 1]}), "has 2 probabilities that are no finite numbers"),
        (Answer({"probabilities": EXPECTED / 2}), "sum to 0.5000, not to 1"),
        (default(labels=np.array([["ant", "fox"], ["ünï", "bee"]])), "has the label 'fox', which Transform does not"),
        (default(((0.2, 0.7), (0.6, 0.3))), "does not have the likeliest class first"),
    ],
)
def test_what_is_no_answer_is_told_in_one_line(answer: Answer, problem: str) -> None:
    with pytest.raises(UnlikeAnswer, match=problem):
        read_answer(answer, CLASSES, 2)


def test_an_error_is_told_without_the_graph_around_it() -> None:
    message = (
        "Graph execution error:\n\nDetected at node map/while/DecodeImage defined at (most recent call last):\n"
        "<stack traces unavailable>\nUnknown image file format. One of JPEG, PNG, GIF, BMP required.\n"
        "\t [[{{node map/while/DecodeImage}}]] [Op:__inference_signature_wrapper_1]"
    )
    assert first_line(message) == "Unknown image file format. One of JPEG, PNG, GIF, BMP required."
    assert first_line("") == "no message"


VERDICT = {"decision": ("string", [None]), "unknown_score": ("float32", [None])}


def signatures() -> dict:
    likeliest = {"labels": ("string", [None, 3]), "probabilities": ("float32", [None, 3])}
    return {
        "serving_default": {"inputs": {"image_bytes": ("string", [None])}, "outputs": {**likeliest, **VERDICT}},
        "serving_picture": {
            "inputs": {"picture": ("uint8", [None, None, 3])},
            "outputs": {name: (dtype, [1, *shape[1:]]) for name, (dtype, shape) in (likeliest | VERDICT).items()},
        },
        "resize_picture": {
            "inputs": {"picture": ("uint8", [None, None, 3])},
            "outputs": {"pixels": ("uint8", [32, 32, 3])},
        },
        "serving_pixels": {"inputs": {"pixels": ("uint8", [None, 32, 32, 3])}, "outputs": {**likeliest, **VERDICT}},
        "explain": {
            "inputs": {"pixels": ("uint8", [None, 32, 32, 3])},
            "outputs": {**likeliest, "evidence": ("float32", [None, 7, 7])},
        },
        "serving_examples": {
            "inputs": {"examples": ("string", [None])},
            "outputs": {"probabilities": ("float32", None), **VERDICT},
        },
        "embed_examples": {
            "inputs": {"examples": ("string", [None])},
            "outputs": {"probabilities": ("float32", [None, 3]), "embeddings": ("float32", [None, 512]), **VERDICT},
        },
        "transform_features": {
            "inputs": {"examples": ("string", [None])},
            "outputs": {"image_xf": ("string", [None]), "label_xf": ("int64", [None])},
        },
    }


@pytest.mark.parametrize(
    ("signature", "kind", "specs", "problem"),
    [
        ("serving_default", "inputs", {"images": ("string", [None])}, "has the inputs images (string); image_bytes"),
        ("serving_examples", "outputs", {"probabilities": ("float64", [None, 3])}, "probabilities (float64)"),
        ("serving_examples", "outputs", {"probabilities": ("float32", [1, 3])}, "takes batches of 1 only"),
        ("serving_examples", "outputs", {"probabilities": ("float32", [None, 2])}, "answers 2 values in probabilities"),
        ("embed_examples", "outputs", {"probabilities": ("float32", [None, 3])}, "embeddings (float32), probab"),
    ],
)
def test_signatures_are_checked_by_name_type_and_shape(signature: str, kind: str, specs: dict, problem: str) -> None:
    assert check_signatures(signatures(), 3).passed
    found = signatures()
    found[signature][kind] = {**(VERDICT if kind == "outputs" else {}), **specs}
    finding = check_signatures(found, 3)
    assert not finding.passed
    assert problem in finding.message


@pytest.mark.parametrize(
    ("asset", "problem"),
    [
        (["bee", "ant", "ünï"], "the order differs: class 0 is 'bee' and not 'ant'"),
        (["ant", "bee"], "2 classes, and not the 3 of Transform; such as ['ünï']"),
        ([], "0 classes"),
    ],
)
def test_the_vocabulary_and_its_order_are_compared(asset: list[str], problem: str) -> None:
    assert check_vocabulary(CLASSES, CLASSES).passed
    assert problem in check_vocabulary(asset, CLASSES).message
