"""The phases of training and which weights they leave, on a small model whose layers are named like VGG16's."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.progress import LOGGER
from components.trainer.checkpoints import CheckpointDir
from components.trainer.inputs import ArraySplit
from components.trainer.learner import Judge, Learner
from components.trainer.model import ImageClassifier
from components.trainer.phases import EpochResult, Phase, make_phases
from components.trainer.settings import ResolvedSettings
from components.trainer.training import train
from data.errors import UserError
from tests.tiny_training import make_model, make_points, make_settings


@pytest.fixture
def model() -> ImageClassifier:
    return make_model()


@pytest.fixture
def data() -> ArraySplit:
    return make_points()


def run(
    model: ImageClassifier, train_split: ArraySplit, eval_split: ArraySplit, settings: ResolvedSettings, folder: Path
) -> tuple[list[EpochResult], EpochResult]:
    return train(model, train_split, eval_split, settings, str(folder), CheckpointDir(str(folder / "resume")))


def evaluate(model: ImageClassifier, data: ArraySplit) -> float:
    judged = Judge(model).evaluate(data.in_order())
    assert judged is not None
    return judged[0]


def test_every_epoch_is_recorded(model: ImageClassifier, data: ArraySplit, tmp_path: Path) -> None:
    history, best = run(model, data, data, make_settings(), tmp_path)
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


def test_the_weights_of_the_lowest_eval_loss_are_left(model: ImageClassifier, data: ArraySplit, tmp_path: Path) -> None:
    # What is learnt from train is wrong on eval: each epoch is worse there than the one before.
    flipped = make_points(flipped=True)
    history, best = run(model, data, flipped, make_settings(), tmp_path)
    assert best == min(history, key=lambda epoch: epoch.eval_loss)
    assert (best.phase, best.epoch) == ("head", 1)
    assert history[-1].eval_loss > best.eval_loss
    assert evaluate(model, flipped) == pytest.approx(best.eval_loss, rel=1e-6)


def test_the_best_weights_may_come_from_the_second_phase(
    model: ImageClassifier, data: ArraySplit, tmp_path: Path
) -> None:
    _, best = run(model, data, data, make_settings(fine_tune_learning_rate=0.05), tmp_path)
    assert best.phase == "fine-tune"
    assert evaluate(model, data) == pytest.approx(best.eval_loss, rel=1e-6)


def test_the_head_phase_leaves_the_backbone_alone(model: ImageClassifier, data: ArraySplit, tmp_path: Path) -> None:
    backbone, head = (model.get_layer(name).kernel.numpy() for name in ("block5_dense", "head"))
    run(model, data, data, make_settings(fine_tune_epochs=0), tmp_path)
    np.testing.assert_array_equal(model.get_layer("block5_dense").kernel, backbone)
    assert not np.array_equal(model.get_layer("head").kernel, head)


def test_a_phase_stops_early_when_eval_gets_worse(model: ImageClassifier, data: ArraySplit, tmp_path: Path) -> None:
    chosen = make_settings(head_epochs=20, fine_tune_epochs=0, early_stopping_patience=2)
    history, _ = run(model, data, make_points(flipped=True), chosen, tmp_path)
    assert [epoch.epoch for epoch in history] == [1, 2, 3]


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_a_training_that_diverges_is_explained(
    model: ImageClassifier, data: ArraySplit, tmp_path: Path, steps_per_execution: int
) -> None:
    spoilt = make_points()
    spoilt._inputs[np.random.default_rng([0, 0]).permutation(64)[35]] = np.nan  # in the third step of epoch 0
    with pytest.raises(UserError, match=r"nan at step 3 of epoch 1 of the phase head; lower trainer\.head_learning"):
        run(model, spoilt, data, make_settings(steps_per_execution=steps_per_execution), tmp_path)
    assert not (tmp_path / "resume").exists()


def test_a_loss_on_eval_that_is_nan_is_explained(model: ImageClassifier, data: ArraySplit, tmp_path: Path) -> None:
    spoilt = make_points()
    spoilt._inputs[5] = np.nan
    with pytest.raises(UserError, match="loss on eval was nan after epoch 1 of the phase head; lower"):
        run(model, data, spoilt, make_settings(), tmp_path)


def test_less_than_a_batch_is_refused(model: ImageClassifier, data: ArraySplit, tmp_path: Path) -> None:
    few = ArraySplit(np.zeros([5, 4], np.float32), np.zeros(5), 16, drop_remainder=True)
    with pytest.raises(UserError, match=r"trainer\.batch_size is 16, more than train has images; lower it"):
        run(model, few, data, make_settings(), tmp_path)


def test_the_rate_falls_along_half_a_cosine(model: ImageClassifier, data: ArraySplit, tmp_path: Path) -> None:
    phase = Phase("fine-tune", epochs=4, learning_rate=0.2, blocks=5)
    rates = [phase.learning_rate_at(epoch, step=0) for epoch in range(4)]
    assert rates == pytest.approx([0.2, 0.1 + 0.1 * 0.5**0.5, 0.1, 0.1 - 0.1 * 0.5**0.5])
    history, _ = run(model, data, data, make_settings(head_epochs=4, fine_tune_epochs=0), tmp_path)
    assert [epoch.learning_rate / history[0].learning_rate for epoch in history] == pytest.approx(
        [rate / 0.2 for rate in rates]
    )


def test_the_rate_warms_up_by_step() -> None:
    phase = Phase("head", epochs=2, learning_rate=0.2, blocks=0, warmup_steps=4)
    assert [phase.learning_rate_at(0, step) for step in range(5)] == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2])
    assert phase.learning_rate_at(1, 5) == pytest.approx(0.1)


def test_phases_without_epochs_are_left_out() -> None:
    assert [phase.name for phase in make_phases(make_settings(head_epochs=0))] == ["fine-tune"]
    assert [phase.blocks for phase in make_phases(make_settings(fine_tune_blocks=4))] == [0, 4]


def test_progress_is_reported(
    model: ImageClassifier, data: ArraySplit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = make_settings(head_epochs=2, fine_tune_epochs=0, steps_per_execution=3)
    with caplog.at_level(logging.INFO, logger=LOGGER.name):
        run(model, data, data, chosen, tmp_path)
    reports: list[Any] = [record.progress for record in caplog.records if hasattr(record, "progress")]
    lasting = [report.message for report in reports if report.lasting]
    assert [message.split(" loss")[0] for message in lasting] == ["head 1/2", "head 2/2"]
    assert "eval_accuracy" in lasting[0]
    steps = [
        (report.completed, report.total) for report in reports if " loss " in report.message and not report.lasting
    ]
    assert steps == [(3, 4), (4, 4)] * 2


def test_a_phase_is_traced_once(
    model: ImageClassifier, data: ArraySplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced: list[str] = []
    train_step = Learner.train_step

    def counted(self: Learner, *arguments: Any) -> Any:
        traced.append(self._phase.name)
        return train_step(self, *arguments)

    monkeypatch.setattr(Learner, "train_step", counted)
    run(model, data, data, make_settings(steps_per_execution=3), tmp_path)
    assert traced == ["head", "fine-tune"]


@pytest.mark.parametrize(("optimizer", "factor"), [("adam", 2.0), ("sgd", 4.0)])
def test_the_optimizer_learns_at_the_rate_of_the_batch(
    model: ImageClassifier, data: ArraySplit, tmp_path: Path, optimizer: str, factor: float
) -> None:
    rates: list[float] = []
    learners: list[Learner] = []
    with pytest.MonkeyPatch.context() as patch:
        make_train_function = Learner.make_train_function
        patch.setattr(
            Learner,
            "make_train_function",
            lambda self, batches: learners.append(self) or make_train_function(self, batches),
        )
        train(
            model,
            data,
            data,
            make_settings(
                optimizer=optimizer,
                batch_size=16,
                learning_rate_batch_size=4,
                head_epochs=1,
                fine_tune_epochs=1,
                warmup_steps=2,
                steps_per_execution=1,
            ),
            str(tmp_path),
            CheckpointDir(str(tmp_path / "resume")),
            lambda _: rates.append(float(learners[-1].optimizer.learning_rate)),
        )
    assert rates == pytest.approx([factor * rate for rate in [0.025, 0.05, 0.05, 0.05, 5e-5, 1e-4, 1e-4, 1e-4]])
