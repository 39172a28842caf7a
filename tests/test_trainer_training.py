"""The phases of training and which weights they leave, on a small model whose layers are named like VGG16's."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from components.progress import LOGGER
from components.trainer.callbacks import BestWeights, EpochResult, Phase
from components.trainer.model import ImageClassifier
from components.trainer.settings import TrainerSettings
from components.trainer.training import make_phases, train
from data.errors import UserError


@pytest.fixture
def model() -> ImageClassifier:
    tf_keras.utils.set_random_seed(0)
    inputs = tf_keras.Input([4])
    features = tf_keras.layers.Dense(8, activation="tanh", name="block5_dense")(inputs)
    return ImageClassifier(inputs, tf_keras.layers.Dense(2, name="head")(features))


@pytest.fixture
def data() -> tf.data.Dataset:
    """64 points of two classes that a plane parts."""
    points = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices((points, (points[:, 0] > 0).astype(np.int64))).batch(16)


def settings(**values: Any) -> TrainerSettings:
    return TrainerSettings(**{"head_epochs": 2, "fine_tune_epochs": 3, "head_learning_rate": 0.05, **values})


def flip(points: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return points, 1 - labels


def evaluate(model: ImageClassifier, data: tf.data.Dataset) -> float:
    return model.evaluate(data, verbose=0)[0]


def test_every_epoch_is_recorded(model: ImageClassifier, data: tf.data.Dataset, tmp_path: Path) -> None:
    history, best = train(model, data, data, settings(), str(tmp_path))
    assert [(epoch.phase, epoch.epoch) for epoch in history] == [
        ("head", 1),
        ("head", 2),
        ("fine-tune", 1),
        ("fine-tune", 2),
        ("fine-tune", 3),
    ]
    assert history[-1].eval_loss < history[0].eval_loss
    assert best in history
    assert list((tmp_path / "tensorboard" / "fine-tune").rglob("events.out.*"))


def test_the_weights_of_the_lowest_eval_loss_are_left(
    model: ImageClassifier, data: tf.data.Dataset, tmp_path: Path
) -> None:
    # What is learnt from train is wrong on eval: each epoch is worse there than the one before.
    history, best = train(model, data, data.map(flip), settings(), str(tmp_path))
    assert best == min(history, key=lambda epoch: epoch.eval_loss)
    assert (best.phase, best.epoch) == ("head", 1)
    assert history[-1].eval_loss > best.eval_loss
    assert evaluate(model, data.map(flip)) == pytest.approx(best.eval_loss, rel=1e-6)


def test_the_best_weights_may_come_from_the_second_phase(
    model: ImageClassifier, data: tf.data.Dataset, tmp_path: Path
) -> None:
    _, best = train(model, data, data, settings(fine_tune_learning_rate=0.05), str(tmp_path))
    assert best.phase == "fine-tune"
    assert evaluate(model, data) == pytest.approx(best.eval_loss, rel=1e-6)


def test_the_head_phase_leaves_the_backbone_alone(
    model: ImageClassifier, data: tf.data.Dataset, tmp_path: Path
) -> None:
    backbone, head = (model.get_layer(name).kernel.numpy() for name in ("block5_dense", "head"))
    train(model, data, data, settings(fine_tune_epochs=0), str(tmp_path))
    np.testing.assert_array_equal(model.get_layer("block5_dense").kernel, backbone)
    assert not np.array_equal(model.get_layer("head").kernel, head)


def test_a_phase_stops_early_when_eval_gets_worse(
    model: ImageClassifier, data: tf.data.Dataset, tmp_path: Path
) -> None:
    chosen = settings(head_epochs=20, fine_tune_epochs=0, early_stopping_patience=2)
    history, _ = train(model, data, data.map(flip), chosen, str(tmp_path))
    assert [epoch.epoch for epoch in history] == [1, 2, 3]


def test_a_training_that_diverges_is_explained(model: ImageClassifier, data: tf.data.Dataset, tmp_path: Path) -> None:
    def spoil(points: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return points * float("nan"), labels

    with pytest.raises(UserError, match=r"never finite; lower trainer\.head_learning_rate"):
        train(model, data.map(spoil), data, settings(), str(tmp_path))


def test_a_worse_or_nan_epoch_is_not_kept(model: ImageClassifier, tmp_path: Path) -> None:
    best = BestWeights(model, str(tmp_path))
    results = [EpochResult("head", epoch, 0, 0, loss, 0, 0, 0) for epoch, loss in enumerate((0.5, 0.6, float("nan")))]
    for result in results:
        model.get_layer("head").bias.assign(tf.fill([2], float(result.epoch)))
        best.offer(result)
    assert best.restore() == results[0]
    np.testing.assert_array_equal(model.get_layer("head").bias, [0.0, 0.0])


def test_the_rate_falls_along_half_a_cosine(model: ImageClassifier, data: tf.data.Dataset, tmp_path: Path) -> None:
    phase = Phase("fine-tune", epochs=4, learning_rate=0.2, blocks=5)
    rates = [phase.learning_rate_at(epoch) for epoch in range(4)]
    assert rates == pytest.approx([0.2, 0.1 + 0.1 * 0.5**0.5, 0.1, 0.1 - 0.1 * 0.5**0.5])
    history, _ = train(model, data, data, settings(head_epochs=4, fine_tune_epochs=0), str(tmp_path))
    assert [epoch.learning_rate / history[0].learning_rate for epoch in history] == pytest.approx(
        [rate / 0.2 for rate in rates]
    )
    assert float(model.optimizer.learning_rate) == pytest.approx(history[-1].learning_rate)


def test_phases_without_epochs_are_left_out() -> None:
    assert [phase.name for phase in make_phases(settings(head_epochs=0))] == ["fine-tune"]
    assert [phase.blocks for phase in make_phases(settings(fine_tune_blocks=4))] == [0, 4]


def test_progress_is_reported(
    model: ImageClassifier, data: tf.data.Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger=LOGGER.name):
        train(model, data, data, settings(head_epochs=2, fine_tune_epochs=0), str(tmp_path))
    reports = [record.progress for record in caplog.records if hasattr(record, "progress")]
    lasting = [report.message for report in reports if report.lasting]
    assert [message.split(" loss")[0] for message in lasting] == ["head 1/2", "head 2/2"]
    assert "eval_accuracy" in lasting[0]
    steps = [(report.completed, report.total) for report in reports if not report.lasting]
    assert steps == [(step, None) for step in range(1, 5)] + [(step, 4) for step in range(1, 5)]
