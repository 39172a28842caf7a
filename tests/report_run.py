"""Accounts of made-up runs for tests of the page: the answers are chosen, all figures follow from them."""

from typing import Any

import numpy as np

from components.evaluator.definitions import DEFINITIONS, count_matrix
from components.evaluator.results import ClassResult, EvaluationResults, GateResult
from components.predictor.predictions import Predictions
from components.report_gen.account import Account
from components.report_gen.facts import Sources, collect_account
from components.report_gen.settings import ReportSettings


def make_predictions(
    class_count: int = 4, images: int = 200, seed: int = 0, baseline: bool = True, skill: float = 4.0
) -> Predictions:
    """Returns answers that are right more often than not; `skill` is the head start of the right class's logit."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, class_count, images).astype(np.int32)
    names = [f"class {i}" for i in range(class_count)]

    def answer(skill: float) -> np.ndarray:
        logits = random.normal(0, 2, (images, class_count))
        logits[np.arange(images), labels] += skill
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)

    return Predictions(
        class_names=tuple(names),
        file_names=[f"{names[label]}/{i:05}.jpg" for i, label in enumerate(labels)],
        hashes=[""] * images,
        label_names=[names[label] for label in labels],
        labels=labels,
        heights=random.integers(20, 60, images).astype(np.int32),
        widths=random.integers(20, 60, images).astype(np.int32),
        formats=["jpeg" if i % 3 else "png" for i in range(images)],
        probabilities=answer(skill),
        embeddings=None,
        baseline_probabilities=answer(skill - 1.0) if baseline else None,
    )


def make_results(predictions: Predictions) -> EvaluationResults:
    """Returns an evaluation of the answers, with a gate that passes and one that does not."""
    cells: dict[tuple[int, int], int] = {}
    for label, predicted in zip(predictions.labels.tolist(), predictions.predicted.tolist(), strict=True):
        cells[label, predicted] = cells.get((label, predicted), 0) + 1
    matrix = tuple((label, predicted, count) for (label, predicted), count in cells.items())
    counts = count_matrix(matrix, len(predictions.class_names))
    shares = [DEFINITIONS[name].figure(counts).tolist() for name in ("precision", "recall", "f1")]
    accuracy = float(predictions.correct.mean())
    baseline = predictions.baseline_probabilities
    return EvaluationResults(
        metrics={"accuracy": accuracy, "macro_f1": float(DEFINITIONS["macro_f1"].figure(counts)), "log_loss": 0.5},
        baseline_metrics=(
            None
            if baseline is None
            else {"accuracy": float((baseline.argmax(axis=1) == predictions.labels).mean()), "macro_f1": 0.5}
        ),
        images=len(predictions),
        classes=tuple(
            ClassResult(name, int((predictions.labels == i).sum()), *(values[i] for values in shares), None)
            for i, name in enumerate(predictions.class_names)
        ),
        slices={},
        matrix=matrix,
        calibration=(),
        gates=(
            GateResult("accuracy", None, "min", ">=", accuracy, 0.1, True),
            GateResult("recall", predictions.class_names[0], "min", ">=", 0.5, 0.99, False),
        ),
        passed=False,
    )


def make_test_account(class_count: int = 4, images: int = 200, **options: Any) -> Account:
    """Returns the account of a run whose artifacts hold nothing else."""
    predictions = make_predictions(class_count, images, **options)
    sources = Sources("test <run> & more", config={"name": "test", "trainer": {"seed": 1}})
    return collect_account(make_results(predictions), predictions, sources, ReportSettings())
