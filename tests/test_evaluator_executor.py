"""TFX's Evaluator really runs on tiny models whose probabilities the test chose; scikit-learn is the referee."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_types
from tfx.types import Artifact, standard_artifacts

from components.evaluator.baseline import check_baseline
from components.evaluator.combiners import RowSums
from components.evaluator.executor import Executor
from components.evaluator.ranks import rank_labels
from components.evaluator.results import EvaluationResults, read_results
from components.evaluator.settings import EvaluatorSettings
from data.errors import UserError
from data.image_hashes import TRAINING_IMAGES_FILE, split_hashes_file, write_image_hashes
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS
from tests.tiny_classifier import make_examples, make_model

CLASS_NAMES = ["07", "10", "7", "cat", "dog, big", "nan", "äpfel"]
"""In byte order; numbers and NaN, which TFMA's slices convert, a comma and a letter beyond ASCII."""

GATES = [
    {"metric": "accuracy", "min": 0.3, "max": 0.99, "min_change": -0.01},
    {"metric": "log_loss", "max": 0.001},
    {"metric": "recall", "slice": "7", "min": 0.2},
    {"metric": "precision", "slice": "äpfel", "min": 0.99},
]


@dataclass(frozen=True)
class Evaluated:
    results: EvaluationResults
    uri: str
    blessing: Artifact


def evaluate(
    root: Path, inputs: dict[str, Artifact], gates: Sequence[dict[str, Any]], splits: Sequence[str] = ("test",)
) -> Evaluated:
    evaluation, blessing = standard_artifacts.ModelEvaluation(), standard_artifacts.ModelBlessing()
    for artifact, name in ((evaluation, "evaluation"), (blessing, "blessing")):
        artifact.uri = str(root / name)
        Path(artifact.uri).mkdir(parents=True)
    executor = Executor(
        Executor.Context(beam_pipeline_args=list(IN_PROCESS_BEAM_ARGS), tmp_dir=str(root / "tmp"), unique_id="1")
    )
    executor.Do(
        {key: [artifact] for key, artifact in inputs.items()},
        {"evaluation": [evaluation], "blessing": [blessing]},
        {
            "settings": EvaluatorSettings.model_validate({"gates": gates}).model_dump_json(),
            "example_splits": json.dumps(splits),
        },
    )
    return Evaluated(read_results(evaluation.uri), evaluation.uri, blessing)


def blessed(evaluated: Evaluated) -> bool:
    return evaluated.blessing.get_int_custom_property("blessed") == 1


def softmax(logits: np.ndarray) -> np.ndarray:
    from tests.tiny_classifier import softmax as compute

    return compute(logits.astype(np.float32)).numpy()


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, len(CLASS_NAMES), 240)


@pytest.fixture(scope="module")
def logits(labels: np.ndarray) -> np.ndarray:
    """Right more often than not, and so sure that float32 probabilities reach 1 and fall below 1e-20."""
    random = np.random.default_rng(2)
    return random.normal(0, 12, (len(labels), len(CLASS_NAMES))) + 30 * np.eye(len(CLASS_NAMES))[labels]


@pytest.fixture(scope="module")
def examples(labels: np.ndarray, logits: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_examples(tmp_path_factory.mktemp("examples"), [CLASS_NAMES[i] for i in labels], logits)


@pytest.fixture(scope="module")
def good_model(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_model(tmp_path_factory.mktemp("good"), CLASS_NAMES, np.eye(len(CLASS_NAMES)))


@pytest.fixture(scope="module")
def evaluated(examples: Artifact, good_model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    return evaluate(tmp_path_factory.mktemp("run"), {"examples": examples, "model": good_model}, GATES)


def test_figures_over_all_images_equal_scikit_learns(
    evaluated: Evaluated, labels: np.ndarray, logits: np.ndarray
) -> None:
    probabilities = softmax(logits)
    predicted = probabilities.argmax(axis=1)
    metrics = evaluated.results.metrics
    assert evaluated.results.images == len(labels)
    assert metrics["accuracy"] == sklearn.metrics.accuracy_score(labels, predicted)
    assert metrics["top_5_accuracy"] == sklearn.metrics.top_k_accuracy_score(labels, probabilities, k=5)
    assert metrics["macro_precision"] == sklearn.metrics.precision_score(labels, predicted, average="macro")
    assert metrics["macro_recall"] == sklearn.metrics.recall_score(labels, predicted, average="macro")
    assert metrics["macro_f1"] == sklearn.metrics.f1_score(labels, predicted, average="macro")
    # Ranks here, trapezoids there.
    auc = sklearn.metrics.roc_auc_score(labels, probabilities.astype(float), multi_class="ovr")
    assert metrics["macro_auc"] == pytest.approx(auc, abs=1e-12)
    # Rows of float32 probabilities sum to 1 within 1e-7, which scikit-learn warns about and divides by.
    assert metrics["log_loss"] == pytest.approx(sklearn.metrics.log_loss(labels, probabilities), abs=1e-6)


def test_rows_of_classes_equal_scikit_learns(evaluated: Evaluated, labels: np.ndarray, logits: np.ndarray) -> None:
    probabilities = softmax(logits)
    precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1)
    )
    rows = evaluated.results.classes
    assert [row.name for row in rows] == CLASS_NAMES
    assert [row.support for row in rows] == support.tolist()
    assert [row.precision for row in rows] == precision.tolist()
    assert [row.recall for row in rows] == recall.tolist()
    assert [row.f1 for row in rows] == f1.tolist()
    aucs = [sklearn.metrics.roc_auc_score(labels == i, probabilities[:, i]) for i in range(len(CLASS_NAMES))]
    assert [row.auc for row in rows] == pytest.approx(aucs, abs=1e-12)


def test_rows_of_classes_are_what_tfma_wrote(evaluated: Evaluated) -> None:
    result = tfma.load_eval_result(evaluated.uri)
    for i, row in enumerate(evaluated.results.classes):
        written = result.get_metrics_for_slice(class_id=i)
        assert {name: value["doubleValue"] for name, value in written.items()} == {
            name: getattr(row, name) for name in ("precision", "recall", "f1", "auc")
        }


def test_confusion_matrix_counts_every_image_once(evaluated: Evaluated, labels: np.ndarray, logits: np.ndarray) -> None:
    matrix = np.zeros((len(CLASS_NAMES), len(CLASS_NAMES)), int)
    for actual, predicted, images in evaluated.results.matrix:
        matrix[actual, predicted] = images
    assert (matrix == sklearn.metrics.confusion_matrix(labels, logits.argmax(axis=1))).all()


def test_calibration_is_that_of_the_most_probable_class(
    evaluated: Evaluated, labels: np.ndarray, logits: np.ndarray
) -> None:
    probabilities = softmax(logits)
    confidence, right = probabilities.max(axis=1).astype(float), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * 10).astype(int), 9)
    assert [b.images for b in evaluated.results.calibration] == np.bincount(bins, minlength=10).tolist()
    gaps = [abs(right[bins == i].sum() - confidence[bins == i].sum()) for i in range(10)]
    assert evaluated.results.metrics["ece"] == pytest.approx(sum(gaps) / len(labels), abs=1e-9)
    last = evaluated.results.calibration[-1]
    assert (last.lower, last.upper) == (0.9, 1.0)
    assert last.accuracy == pytest.approx(right[bins == 9].mean())
    assert last.confidence == pytest.approx(confidence[bins == 9].mean())


def test_slices_are_the_classes_and_have_no_macro_averages(evaluated: Evaluated) -> None:
    slices = evaluated.results.slices
    assert sorted(slices) == sorted(f"label:{name}" for name in CLASS_NAMES)
    for row in evaluated.results.classes:
        assert slices[f"label:{row.name}"]["accuracy"] == row.recall
        assert slices[f"label:{row.name}"]["macro_precision"] is None


def test_each_bound_has_its_verdict_and_change_gates_wait_for_a_baseline(evaluated: Evaluated) -> None:
    metrics, rows = evaluated.results.metrics, {row.name: row for row in evaluated.results.classes}
    gates = {(gate.metric, gate.slice, gate.kind): gate for gate in evaluated.results.gates}
    assert {key: (gate.value, gate.bound, gate.passed) for key, gate in gates.items()} == {
        ("accuracy", None, "min"): (metrics["accuracy"], 0.3, True),
        ("accuracy", None, "max"): (metrics["accuracy"], 0.99, True),
        ("log_loss", None, "max"): (metrics["log_loss"], 0.001, False),
        ("recall", "7", "min"): (rows["7"].recall, 0.2, True),
        ("precision", "äpfel", "min"): (rows["äpfel"].precision, 0.99, False),
    }
    assert gates["log_loss", None, "max"].relation == "<="
    assert evaluated.results.baseline_metrics is None
    assert evaluated.results.passed is False
    assert not blessed(evaluated)


def test_a_worse_model_than_the_baseline_is_refused_and_a_better_one_passes(
    examples: Artifact, good_model: Artifact, evaluated: Evaluated, tmp_path: Path
) -> None:
    # One class is never recognised.
    worse_model = make_model(tmp_path / "worse", CLASS_NAMES, np.diag([1, 1, 1, 1, 1, 1, -1]), id=2)
    gates = [
        {"metric": "accuracy", "min": 0.1, "min_change": -0.01},
        {"metric": "log_loss", "max_change": 0.1},
        {"metric": "recall", "slice": "äpfel", "min_change": 0.0},
    ]
    inputs = {"examples": examples, "model": worse_model, "baseline_model": good_model}
    worse = evaluate(tmp_path / "1", inputs, gates)
    assert not blessed(worse)
    assert worse.results.baseline_metrics == evaluated.results.metrics
    # Nothing says what trained it: gates apply, and the doubt is told.
    assert worse.results.baseline is not None
    assert worse.results.baseline.comparable
    assert "no record of its training images" in str(worse.results.baseline.describe())
    found = {(gate.metric, gate.kind): gate for gate in worse.results.gates}
    change = worse.results.metrics["accuracy"] - evaluated.results.metrics["accuracy"]
    assert found["accuracy", "change"].value == pytest.approx(change, abs=1e-15)
    assert {key: gate.passed for key, gate in found.items()} == {
        ("accuracy", "min"): True,
        ("accuracy", "change"): False,
        ("log_loss", "change"): False,
        ("recall", "change"): False,
    }
    assert worse.blessing.get_int_custom_property("baseline_model_id") == good_model.id
    better = evaluate(tmp_path / "2", inputs | {"model": good_model, "baseline_model": worse_model}, gates)
    assert blessed(better)
    assert all(gate.passed for gate in better.results.gates)
    assert better.results.metrics == evaluated.results.metrics


def test_a_baseline_with_other_classes_is_compared_over_all_images_only(
    examples: Artifact, good_model: Artifact, labels: np.ndarray, logits: np.ndarray, tmp_path: Path
) -> None:
    known = [0, 1, 2, 3, 5]
    names = [CLASS_NAMES[i] for i in known]
    baseline = make_model(tmp_path / "baseline", names, np.eye(len(CLASS_NAMES))[:, known], id=2)
    gates = [
        {"metric": "accuracy", "min_change": 0.0},
        {"metric": "recall", "slice": "nan", "min": 0.1, "min_change": 0.0},
    ]
    inputs = {"examples": examples, "model": good_model, "baseline_model": baseline}
    results = evaluate(tmp_path / "1", inputs, gates).results
    predicted = np.array(known)[logits[:, known].argmax(axis=1)]
    assert results.baseline_metrics is not None
    assert results.baseline_metrics["accuracy"] == (predicted == labels).mean()
    kinds = [(gate.metric, gate.kind, gate.passed) for gate in results.gates]
    assert sorted(kinds) == [("accuracy", "change", True), ("recall", "min", True)]


def record_images(splits_of: Artifact, train: Sequence[int], test: Sequence[int], trained: Artifact | None) -> None:
    for split, hashes in (("train", train), ("eval", []), ("test", test)):
        write_image_hashes(np.array(hashes, np.uint64), f"{splits_of.uri}/{split_hashes_file(split)}")
    if trained is not None:
        write_image_hashes(np.array([1, 2, 3], np.uint64), f"{trained.uri}/{TRAINING_IMAGES_FILE}")


@pytest.fixture
def few_examples(labels: np.ndarray, logits: np.ndarray, tmp_path: Path) -> Artifact:
    return make_examples(tmp_path / "few", [CLASS_NAMES[i] for i in labels[:20]], logits[:20])


def test_with_a_baseline_that_has_learned_test_images_only_bounds_apply(
    few_examples: Artifact, good_model: Artifact, tmp_path: Path
) -> None:
    baseline = make_model(tmp_path / "leaked", CLASS_NAMES, np.eye(len(CLASS_NAMES)), id=2)
    record_images(few_examples, train=[1, 2], test=[3, 4, 5], trained=baseline)
    gates = [
        {"metric": "accuracy", "min": 0.1, "min_change": 1.0},
        {"metric": "log_loss", "max_change": -100.0},
        {"metric": "recall", "slice": "äpfel", "min": 0.0, "min_change": 1.0},
    ]
    inputs = {"examples": few_examples, "model": good_model, "baseline_model": baseline}
    leaked = evaluate(tmp_path / "1", inputs, gates)
    assert leaked.results.baseline is not None
    assert not leaked.results.baseline.comparable
    assert leaked.results.baseline.describe() == (
        "baseline not comparable: 1 of 3 test images trained it; gates on a change do not apply"
    )
    assert leaked.results.baseline.uri == baseline.uri
    assert leaked.results.baseline_metrics is not None
    found = [(gate.metric, gate.kind, gate.passed) for gate in leaked.results.gates]
    assert sorted(found) == [("accuracy", "min", True), ("recall", "min", True)]
    assert blessed(leaked)

    record_images(few_examples, train=[1, 2], test=[4, 5], trained=None)
    fair = check_baseline(baseline.uri, few_examples.uri)
    assert fair.comparable
    assert fair.describe() is None


def test_gates_on_a_change_alone_let_a_model_pass_beside_a_baseline_that_is_not_comparable(
    few_examples: Artifact, good_model: Artifact, tmp_path: Path
) -> None:
    baseline = make_model(tmp_path / "leaked", CLASS_NAMES, np.eye(len(CLASS_NAMES)), id=2)
    record_images(few_examples, train=[1, 2], test=[3], trained=baseline)
    inputs = {"examples": few_examples, "model": good_model, "baseline_model": baseline}
    assert blessed(evaluate(tmp_path, inputs, [{"metric": "accuracy", "min_change": 1.0}]))


def test_a_model_without_numbers_passes_no_gate(examples: Artifact, tmp_path: Path) -> None:
    model = make_model(tmp_path / "nan", CLASS_NAMES, np.full((len(CLASS_NAMES), len(CLASS_NAMES)), np.nan))
    evaluated = evaluate(tmp_path, {"examples": examples, "model": model}, [{"metric": "accuracy", "min_change": -1.0}])
    assert not blessed(evaluated)
    assert [(gate.value, gate.passed) for gate in evaluated.results.gates] == [(None, False)]
    assert evaluated.results.metrics["log_loss"] is None


def test_gates_may_ask_how_much_is_decided_and_how_rightly(
    examples: Artifact, good_model: Artifact, labels: np.ndarray, logits: np.ndarray, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "unsure", CLASS_NAMES, 0.05 * np.eye(len(CLASS_NAMES)), id=2, least=0.4)
    inputs = {"examples": examples, "model": model, "baseline_model": good_model}
    gates = [{"metric": "coverage", "min": 0.99}, {"metric": "selective_accuracy", "min": 0.5}]
    evaluated = evaluate(tmp_path, inputs, gates)
    probabilities = softmax(0.05 * logits)
    decided, right = probabilities.max(axis=1) >= 0.4, probabilities.argmax(axis=1) == labels
    assert 0.1 < decided.mean() < 0.9
    found = evaluated.results
    # A probability within rounding of the bound may fall on either side.
    assert found.metrics["coverage"] == pytest.approx(decided.mean(), abs=1.5 / len(labels))
    assert found.metrics["selective_accuracy"] == pytest.approx(right[decided].mean(), abs=2 / decided.sum())
    assert found.baseline_metrics["coverage"] == 1.0
    assert [(gate.metric, gate.passed) for gate in found.gates] == [("coverage", False), ("selective_accuracy", True)]
    assert not blessed(evaluated)


def test_unknown_labels_are_mistakes_and_the_first_model_needs_no_absolute_gate(
    good_model: Artifact, tmp_path: Path
) -> None:
    # So sure that the other probabilities are exactly 0: an unknown label's would not rank behind them.
    logits = 200 * np.eye(len(CLASS_NAMES))[[0, 1, 6, 6]]
    examples = make_examples(tmp_path / "examples", ["07", "10", "äpfel", "unheard of"], logits)
    inputs = {"examples": examples, "model": good_model}
    evaluated = evaluate(tmp_path, inputs, [{"metric": "accuracy", "min_change": 0.0}])
    assert blessed(evaluated)
    results = evaluated.results
    assert results.metrics["accuracy"] == 0.75
    assert results.metrics["top_5_accuracy"] == 0.75
    assert results.metrics["log_loss"] == pytest.approx(-np.log(np.finfo(np.float32).eps) / 4, abs=0.01)
    assert results.metrics["macro_recall"] == 1.0
    assert results.classes[6].precision == 0.5
    assert results.classes[6].support == 1
    assert (-1, 6, 1) in results.matrix


@pytest.mark.parametrize("probabilities", [np.eye(10)[0], np.full(10, 0.1)], ids=["one class", "all alike"])
def test_a_collapsed_model_has_its_first_five_classes_right(probabilities: np.ndarray) -> None:
    combiner = RowSums(metric_types.MetricKey("sums"), None)
    sums = combiner.create_accumulator()
    for label in range(10):
        combiner.add_input(
            sums,
            metric_types.StandardMetricInputs(
                label=np.array([label]), prediction=probabilities.astype(np.float32), example_weight=np.array([1.0])
            ),
        )
    (figures,) = combiner.extract_output(sums).values()
    assert (figures["accuracy"], figures["top_5_accuracy"]) == (0.1, 0.5)


def test_labels_rank_as_tensorflow_ranks_classes() -> None:
    probabilities = np.random.default_rng(0).integers(0, 4, (50, 7)).astype(np.float32)
    order = tf.math.top_k(probabilities, k=7).indices.numpy()
    for label in range(7):
        assert (rank_labels(np.full(50, label), probabilities) == (order == label).argmax(axis=1)).all()
    assert (rank_labels(np.array([-1, 7]), probabilities[:2]) == 7).all()


def test_above_100_classes_the_rows_come_from_the_matrix(tmp_path: Path) -> None:
    names = [f"n{i:03}" for i in range(101)]
    model = make_model(tmp_path / "model", names, np.eye(101))
    random = np.random.default_rng(3)
    labels = np.concatenate([np.arange(101), random.integers(0, 101, 99)])
    logits = random.normal(0, 2, (200, 101)) + 6 * np.eye(101)[labels]
    examples = make_examples(tmp_path / "examples", [names[i] for i in labels], logits)
    gates = [{"metric": "macro_f1", "min": 0.5}, {"metric": "recall", "slice": "n100", "min": 0.1}]
    evaluated = evaluate(tmp_path, {"examples": examples, "model": model}, gates)
    results = evaluated.results
    precision, recall, _, support = sklearn.metrics.precision_recall_fscore_support(
        labels, logits.argmax(axis=1), zero_division=0
    )
    assert [row.support for row in results.classes] == support.tolist()
    assert [row.precision for row in results.classes] == precision.tolist()
    assert [row.recall for row in results.classes] == recall.tolist()
    assert {row.auc for row in results.classes} == {None}
    assert results.slices == {}
    assert "macro_auc" not in results.metrics
    assert {(gate.metric, gate.slice, gate.value) for gate in results.gates} == {
        ("macro_f1", None, results.metrics["macro_f1"]),
        ("recall", "n100", results.classes[100].recall),
    }
    assert blessed(evaluated)


def test_a_gate_on_a_class_that_is_not_there_names_the_nearest(
    good_model: Artifact, examples: Artifact, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"names the class 'cats', which none of the model's 7 classes is.* cat"):
        evaluate(
            tmp_path,
            {"examples": examples, "model": good_model},
            [{"metric": "recall", "slice": "cats", "min": 0.1}],
        )
