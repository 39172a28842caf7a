"""The head that learns on standardised features, where a solver would need too much memory."""

from pathlib import Path

import numpy as np
import pytest
import tf_keras

from components.trainer.checkpoints import CheckpointDir
from components.trainer.inputs import ArraySplit
from components.trainer.learner import Judge, feature_model
from components.trainer.model import ImageClassifier, make_model
from components.trainer.settings import ResolvedSettings
from components.trainer.solving import Features, depths_of, set_head, solve_head
from components.trainer.standardisation import Standardisation
from components.trainer.standardised_head import StandardisedHead
from components.trainer.training import train
from tests.test_trainer_solving import digits

__all__ = ["digits"]


@pytest.fixture
def model() -> ImageClassifier:
    tf_keras.utils.set_random_seed(0)
    return make_model(10, 32, 0.0, "float32", pooling="roots-2")


def measure(features: np.ndarray) -> Standardisation:
    deviation = features.std(axis=0, dtype=np.float64)
    return Standardisation(
        features.mean(axis=0, dtype=np.float64), np.where(deviation > 0, 1.0 / np.maximum(deviation, 1e-30), 0.0)
    )


@pytest.mark.parametrize("reads_features", [False, True])
def test_mean_and_deviation_are_those_of_the_images_that_count(
    digits: tuple[np.ndarray, np.ndarray], model: ImageClassifier, reads_features: bool
) -> None:
    images, labels = digits[0][:40], np.where(np.arange(40) == 7, -1, digits[1][:40])
    features = feature_model(model)(images, training=False).numpy()
    split = ArraySplit(features if reads_features else images, labels, 16)
    head = StandardisedHead(model, split, reads_features=reads_features)
    wanted = measure(np.delete(features, 7, axis=0))
    np.testing.assert_allclose(head.standardisation.mean, wanted.mean, rtol=1e-4, atol=1e-6)
    varies = wanted.scale * wanted.mean < 1e3  # of the others float32 sums tell nothing
    np.testing.assert_allclose(head.standardisation.scale[varies], wanted.scale[varies], rtol=0.02)


def test_the_folded_head_answers_as_the_one_that_learned(
    digits: tuple[np.ndarray, np.ndarray], model: ImageClassifier
) -> None:
    images = digits[0][:24]
    head = StandardisedHead(model, ArraySplit(images, digits[1][:24], 8), reads_features=False)
    wanted = head.judge_forward(images, training=False).numpy()
    head.fold()
    np.testing.assert_allclose(model(images, training=False), wanted, atol=2e-3)


def test_it_learns_where_steps_on_the_features_as_they_are_do_not(
    digits: tuple[np.ndarray, np.ndarray], model: ImageClassifier, tmp_path: Path
) -> None:
    train_split = ArraySplit(digits[0][:200], digits[1][:200], 32)
    eval_split = ArraySplit(digits[0][200:300], digits[1][200:300], 32)
    accuracies = {}
    for kind in ("stepped", "standardised"):
        settings = ResolvedSettings(
            recipe="quick", head=kind, head_epochs=15, fine_tune_epochs=0, fine_tune_blocks=0, dropout=0.0
        )
        folder = CheckpointDir(str(tmp_path / kind / "resume"))
        _, best = train(model, train_split, eval_split, settings, str(tmp_path / kind), folder)
        judged = Judge(model).evaluate(eval_split.in_order())
        assert judged is not None
        assert judged[1] == pytest.approx(best.eval_accuracy, abs=0.011)
        accuracies[kind] = judged[1]
        model.get_layer("head").set_weights([np.zeros([1024, 10]), np.zeros(10)])
    assert accuracies["standardised"] > accuracies["stepped"] + 0.2


def test_it_comes_to_what_the_solver_comes_to(
    digits: tuple[np.ndarray, np.ndarray], model: ImageClassifier, tmp_path: Path
) -> None:
    features = feature_model(model)
    halves = [range(start, start + 300, 100) for start in (0, 300)]
    found = [np.concatenate([features(digits[0][i : i + 100], training=False) for i in half]) for half in halves]
    labels = digits[1][:300], digits[1][300:]
    solved = solve_head(Features(found[0], labels[0], found[1], labels[1], depths_of(model)), 10, ("roots-2",))
    set_head(model, solved.head)
    wanted = (solved.eval.logits.argmax(1) == digits[1][300:]).mean()
    model.get_layer("head").set_weights([np.zeros([1024, 10]), np.zeros(10)])
    settings = ResolvedSettings(
        recipe="quick", head="standardised", head_epochs=30, fine_tune_epochs=0, fine_tune_blocks=0, dropout=0.0
    )
    splits = [ArraySplit(digits[0][s : s + 300], digits[1][s : s + 300], 32) for s in (0, 300)]
    _, best = train(model, *splits, settings, str(tmp_path), CheckpointDir(str(tmp_path / "resume")))
    assert best.eval_accuracy == pytest.approx(wanted, abs=0.02)  # 300 images: six of them
