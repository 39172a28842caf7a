"""The Predictor on tiny models whose probabilities the test chose."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tfx.types import Artifact, standard_artifacts

from components.exported_model.manifest import Manifest, saved_model_path, write_manifest
from components.predictor import executor
from components.predictor.component import Predictor_Executor
from components.predictor.predictions import Predictions, PredictionsWriter, read_predictions
from tests.tiny_classifier import make_examples, make_model, softmax

CLASSES = ["cat", "dog", "äpfel"]
LABELS = ["dog", "cat", "äpfel", "dog", "bird"]
LOGITS = np.random.default_rng(0).normal(0, 3, (5, 3)).astype(np.float32)


def predict(root: Path, examples: Artifact, model: Artifact, baseline: Artifact | None = None) -> Predictions:
    output = standard_artifacts.InferenceResult()
    output.uri = str(root / "predictions")
    inputs = {"examples": [examples], "model": [model], "baseline_model": [baseline] if baseline else []}
    Predictor_Executor().Do(inputs, {"predictions": [output]}, {"code_hash": ""})
    return read_predictions(output.uri, embeddings=True)


@pytest.fixture
def examples(tmp_path: Path) -> Artifact:
    return make_examples(tmp_path / "examples", LABELS, LOGITS)


@pytest.fixture
def model(tmp_path: Path) -> Artifact:
    return make_model(tmp_path / "model", CLASSES, np.eye(3))


def test_every_test_image_gets_a_row_in_order(tmp_path: Path, examples: Artifact, model: Artifact) -> None:
    predictions = predict(tmp_path, examples, model)
    assert predictions.class_names == tuple(CLASSES)
    assert predictions.label_names == LABELS
    assert predictions.labels.tolist() == [1, 0, 2, 1, -1]
    np.testing.assert_array_equal(predictions.probabilities, softmax(LOGITS).numpy())
    assert predictions.predicted.tolist() == LOGITS.argmax(axis=1).tolist()
    assert predictions.label_probabilities[4] == 0
    assert predictions.embeddings is None
    assert predictions.baseline_probabilities is None


def test_a_baseline_with_the_same_classes_answers_too(tmp_path: Path, examples: Artifact, model: Artifact) -> None:
    baseline = make_model(tmp_path / "baseline", CLASSES, -np.eye(3), id=2)
    predictions = predict(tmp_path, examples, model, baseline)
    np.testing.assert_array_equal(predictions.baseline_probabilities, softmax(-LOGITS).numpy())


def test_a_baseline_with_other_classes_is_left_out(tmp_path: Path, examples: Artifact, model: Artifact) -> None:
    baseline = make_model(tmp_path / "baseline", ["cat", "cow", "dog"], np.eye(3), id=2)
    assert predict(tmp_path, examples, model, baseline).baseline_probabilities is None


def test_the_size_of_the_model_s_images_bounds_a_batch(
    tmp_path: Path, examples: Artifact, model: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, read = [], executor.read_records

    def note_sizes(*arguments: Any) -> Iterator[Any]:
        for records in read(*arguments):
            sizes.append(len(records))
            yield records

    monkeypatch.setattr(executor, "read_records", note_sizes)
    predict(tmp_path, examples, model)
    manifest = Manifest(backbone="vgg16", learn_statistics=False, image_size=448, classes=CLASSES, versions={})
    write_manifest(saved_model_path(model), manifest)
    predict(tmp_path, examples, model)
    assert sizes == [5, 4, 1]


def test_a_broken_writer_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), PredictionsWriter(str(tmp_path), CLASSES):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        read_predictions(str(tmp_path))
