"""The head that learns on standardised features, where a solver would need too much memory."""

from pathlib import Path

import numpy as np
import pytest
import tf_keras

from components.trainer import standardised_head
from components.trainer.checkpoints import CheckpointDir
from components.trainer.inputs import ArraySplit
from components.trainer.learner import Judge, feature_model
from components.trainer.logistic_regression import Examples, Head, choose_strength, fit, log_losses, make_zero_head
from components.trainer.model import ImageClassifier, make_model
from components.trainer.recipes import HEAD_RATE
from components.trainer.settings import ResolvedSettings
from components.trainer.solving import depths_of, read_head, set_head
from components.trainer.standardisation import Standardisation, standardise
from components.trainer.standardised_head import StandardisedHead, penalty_strength
from components.trainer.training import train
from tests.test_trainer_solving import digits

__all__ = ["digits"]


@pytest.fixture
def model() -> ImageClassifier:
    tf_keras.utils.set_random_seed(0)
    return make_model(10, 32, 0.0, "float32", pooling="roots-2")


def measure(features: np.ndarray) -> Standardisation:
    """Of two depths of 512, each to the total variance 1."""
    deviation = features.std(axis=0, dtype=np.float64) * 512**0.5
    return Standardisation(
        features.mean(axis=0, dtype=np.float64), np.where(deviation > 0, 1.0 / np.maximum(deviation, 1e-30), 0.0)
    )


def make_settings(epochs: int, kind: str = "standardised") -> ResolvedSettings:
    """What the recipe sets for the head alone; at its own rate either learns as far as it can."""
    return ResolvedSettings(
        recipe="quick",
        head=kind,
        head_epochs=epochs,
        head_learning_rate=HEAD_RATE if kind == "standardised" else 1e-3,
        early_stopping_patience=epochs,
        fine_tune_epochs=0,
        fine_tune_blocks=0,
        dropout=0.0,
    )


def make_model_of_rows(width: int, classes: int) -> ImageClassifier:
    """A model whose images are features, with a head that knows nothing."""
    rows, images = tf_keras.Input([width]), tf_keras.Input([width])
    network = tf_keras.Model(rows, tf_keras.layers.Activation("linear")(rows), name="backbone")
    features = tf_keras.layers.Dropout(0.0, name="dropout")(network(images))
    return ImageClassifier(
        images, tf_keras.layers.Dense(classes, "linear", kernel_initializer="zeros", name="head")(features)
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


@pytest.mark.slow
def test_it_learns_where_steps_on_the_features_as_they_are_do_not(
    digits: tuple[np.ndarray, np.ndarray], model: ImageClassifier, tmp_path: Path
) -> None:
    train_split = ArraySplit(digits[0][:200], digits[1][:200], 32)
    eval_split = ArraySplit(digits[0][200:300], digits[1][200:300], 32)
    accuracies = {}
    for kind in ("stepped", "standardised"):
        settings = make_settings(15, kind)
        folder = CheckpointDir(str(tmp_path / kind / "resume"))
        _, best = train(model, train_split, eval_split, settings, str(tmp_path / kind), folder)
        judged = Judge(model).evaluate(eval_split.in_order())
        assert judged is not None
        assert judged[1] == pytest.approx(best.eval_accuracy, abs=0.011)
        accuracies[kind] = judged[1]
        model.get_layer("head").set_weights([np.zeros([1024, 10]), np.zeros(10)])
    assert accuracies["standardised"] > accuracies["stepped"] + 0.2


@pytest.mark.slow
def test_it_comes_to_what_the_solver_comes_to(
    digits: tuple[np.ndarray, np.ndarray], model: ImageClassifier, tmp_path: Path
) -> None:
    features = feature_model(model)
    halves = [range(start, start + 300, 100) for start in (0, 300)]
    found = [np.concatenate([features(digits[0][i : i + 100], training=False) for i in half]) for half in halves]
    labels = digits[1][:300], digits[1][300:]
    # On the same features: `solve_head` scales a depth of roots as a whole.
    measured = standardise(found[0], depths_of(model))
    examples = Examples(measured.apply(found[0]), labels[0], np.ones(300))
    choice = choose_strength(examples, 10, None)
    solved = fit(examples, choice.strength, choice.start)
    wanted = (solved.logits(measured.apply(found[1])).argmax(1) == labels[1]).mean()
    model.get_layer("head").set_weights([np.zeros([1024, 10]), np.zeros(10)])
    splits = [ArraySplit(digits[0][s : s + 300], digits[1][s : s + 300], 32) for s in (0, 300)]
    _, best = train(model, *splits, make_settings(30), str(tmp_path), CheckpointDir(str(tmp_path / "resume")))
    assert best.eval_accuracy == pytest.approx(wanted, abs=0.02)  # 300 images: six of them


def make_rows(count: int = 600, width: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Numbers far from 0, of very different spread, and labels that a head of 3 classes knows in part."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(count, width))
    labels = (rows @ random.normal(size=(width, 3)) * 0.5 + random.gumbel(size=(count, 3))).argmax(axis=1)
    return (rows * random.uniform(0.1, 10.0, width) + 30.0).astype(np.float32), labels


@pytest.mark.parametrize(("batch_size", "epochs"), [(32, 10), (100, 25)])
def test_it_minimises_what_the_solver_minimises(
    batch_size: int, epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standardised_head, "penalty_strength", lambda images: 6.0 / images)
    rows, labels = make_rows()
    model, split = make_model_of_rows(20, 3), ArraySplit(rows, labels, batch_size)
    measured, strength = standardise(rows, (20,)), 0.01
    optimum = fit(Examples(measured.apply(rows), labels, np.ones(600)), strength, make_zero_head(20, 3))
    folder = str(tmp_path / "run")
    train(model, split, split, make_settings(epochs), folder, CheckpointDir(str(tmp_path / "resume")))
    folded = read_head(model)
    learned = Head(measured.unfold(folded.kernel), folded.bias + measured.mean @ folded.kernel)

    def objective(head: Head) -> float:
        loss = log_losses(head.logits(measured.apply(rows)), labels).mean()
        return float(loss + 0.5 * strength * np.sum(head.kernel**2))

    # Without the penalty the optimum is 0.48 above.
    assert 0.0 <= objective(learned) - objective(optimum) < 1e-3


def test_it_starts_from_the_head_that_is_there_and_is_drawn_to_it() -> None:
    rows, labels = make_rows()
    model, random = make_model_of_rows(20, 3), np.random.default_rng(1)
    set_head(model, Head(random.normal(size=(20, 3)), random.normal(size=3)))
    before = model(rows[:50], training=False).numpy()
    head = StandardisedHead(model, ArraySplit(rows, labels, 50), reads_features=True)
    np.testing.assert_allclose(head.forward(rows[:50], training=False), before, atol=1e-3)
    assert head.penalty().numpy() == 0.0
    kernel = model.get_layer("head").kernel
    kernel.assign_add(np.full([20, 3], 0.1))
    assert head.penalty().numpy() == pytest.approx(0.5 * penalty_strength(600) * 60 * 0.01, rel=1e-4)


def test_what_is_set_for_blocks_does_not_lead_it_astray(tmp_path: Path) -> None:
    rows, labels = make_rows()
    split, kernels = ArraySplit(rows, labels, 32), []
    others = {"optimizer": "sgd", "weight_decay": 0.1, "gradient_clip_norm": 1e-3, "warmup_steps": 1000}
    for number, values in enumerate(({}, others)):
        model, folder = make_model_of_rows(20, 3), str(tmp_path / str(number))
        settings = make_settings(3).model_copy(update=values)
        train(model, split, split, settings, folder, CheckpointDir(f"{folder}/resume"))
        kernels.append(read_head(model).kernel)
    np.testing.assert_array_equal(*kernels)
