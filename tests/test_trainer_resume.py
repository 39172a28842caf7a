"""A training that is killed and started again ends with the bits of one that was not."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.config import disable_op_determinism

from components.trainer import checkpoints
from components.trainer.attempts import open_checkpoint_dir
from components.trainer.checkpoints import CheckpointDir, TrainingState
from components.trainer.phases import EpochResult
from components.trainer.training import train
from tests.tiny_training import make_model, make_points, make_settings

CHOSEN: dict[str, Any] = {
    "fine_tune_learning_rate": 0.03,
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "ema_momentum": 0.8,
    "warmup_steps": 6,
    "early_stopping_patience": 2,
    "checkpoint_every_steps": 3,
    "steps_per_execution": 1,
}
STEPS = 5 * 7  # 100 points in batches of 16, the last of them partial


class KilledError(Exception):
    """Stands for a SIGKILL."""


@pytest.fixture(scope="module", autouse=True)
def determinism() -> Iterator[None]:
    tf.config.experimental.enable_op_determinism()
    yield
    disable_op_determinism()


def run(
    folder: Path,
    on_step: Callable[[TrainingState], None] | None = None,
    flipped: bool = False,
    checkpoint_dir: CheckpointDir | None = None,
    **values: Any,
) -> tuple[list[np.ndarray], list[EpochResult], EpochResult]:
    """Trains as after a start of the process: a new model, a new input."""
    model = make_model(dropout=0.5, backbone=values.get("head") == "standardised")
    points = make_points(count=100, seed=3)
    eval_split = make_points(count=40, flipped=flipped)
    settings = make_settings(**{**CHOSEN, **values})
    checkpoint_dir = checkpoint_dir or CheckpointDir(str(folder / "resume"))
    history, best = train(model, points, eval_split, settings, str(folder / "run"), checkpoint_dir, on_step)
    return model.get_weights(), [replace(epoch, seconds=0) for epoch in history], replace(best, seconds=0)


def kill_at(step: int) -> Callable[[TrainingState], None]:
    def on_step(state: TrainingState) -> None:
        if state.total_steps == step:
            raise KilledError

    return on_step


def assert_same(resumed: Any, undisturbed: Any) -> None:
    for found, expected in zip(resumed[0], undisturbed[0], strict=True):
        np.testing.assert_array_equal(found, expected)
    assert resumed[1:] == undisturbed[1:]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(tmp_path_factory.mktemp("undisturbed"))


def test_a_run_killed_at_random_steps_ends_as_if_it_had_not_been(undisturbed: Any, tmp_path: Path) -> None:
    steps = sorted(random.Random(10).sample(range(4, STEPS), 2))
    for step in steps:
        with pytest.raises(KilledError):
            run(tmp_path, kill_at(step))
    seen: list[int] = []
    assert_same(run(tmp_path, lambda state: seen.append(state.total_steps)), undisturbed)
    assert seen[0] > steps[-1] - CHOSEN["checkpoint_every_steps"]
    assert seen[-1] == STEPS


@pytest.mark.slow
def test_so_does_one_whose_head_reads_standardised_features(tmp_path: Path) -> None:
    """They are measured anew, and the head is folded once: killed in the phase, at its end, and after it."""
    values = {"head": "standardised", "recipe": "balanced", "checkpoint_every_steps": 2}
    expected = run(tmp_path / "undisturbed", **values)
    for step in (5, 14, 20):
        with pytest.raises(KilledError):
            run(tmp_path / "killed", kill_at(step), **values)
    assert_same(run(tmp_path / "killed", **values), expected)


@pytest.mark.parametrize(
    "step", [14, pytest.param(15, marks=pytest.mark.slow), pytest.param(21, marks=pytest.mark.slow)]
)
def test_the_ends_of_epochs_and_phases_are_no_exception(undisturbed: Any, tmp_path: Path, step: int) -> None:
    with pytest.raises(KilledError):
        run(tmp_path, kill_at(step), checkpoint_every_steps=1)
    assert_same(run(tmp_path), undisturbed)


@pytest.mark.parametrize("steps_per_execution", [4, "auto"])
def test_steps_in_one_call_are_steps_one_by_one(undisturbed: Any, tmp_path: Path, steps_per_execution: Any) -> None:
    """7 steps an epoch are two calls of 4 and 3; with `auto` nobody knows."""
    seen: list[int] = []
    found = run(
        tmp_path, lambda state: seen.append(state.total_steps), steps_per_execution=steps_per_execution, head_epochs=2
    )
    assert_same(found, undisturbed)
    assert set(range(7, STEPS + 1, 7)) <= set(seen)
    if steps_per_execution == 4:
        assert seen == [step for epoch in range(5) for step in (7 * epoch + 4, 7 * epoch + 7)]


def test_a_run_killed_between_calls_of_several_steps_ends_the_same(undisturbed: Any, tmp_path: Path) -> None:
    for step in (11, 25):
        with pytest.raises(KilledError):
            run(tmp_path, kill_at(step), steps_per_execution=4)
    seen: list[int] = []
    assert_same(run(tmp_path, lambda state: seen.append(state.total_steps), steps_per_execution=5), undisturbed)
    assert seen[0] == 28  # saved after step 25 of 28, its epoch has 3 left


@pytest.mark.slow
def test_early_stopping_remembers(tmp_path: Path) -> None:
    expected = run(tmp_path / "undisturbed", flipped=True, head_epochs=6)
    assert len([epoch for epoch in expected[1] if epoch.phase == "head"]) == 3
    with pytest.raises(KilledError):
        run(tmp_path, kill_at(19), flipped=True, head_epochs=6)
    assert_same(run(tmp_path, flipped=True, head_epochs=6), expected)


def test_noise_and_order_depend_on_the_seed(undisturbed: Any, tmp_path: Path) -> None:
    assert any(np.any(a != b) for a, b in zip(run(tmp_path, seed=1)[0], undisturbed[0], strict=True))


def test_a_killed_save_leaves_the_one_before(undisturbed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        run(tmp_path, lambda state: monkeypatch.setattr(os, "replace", fail) if state.step == 5 else None)
    monkeypatch.undo()
    assert_same(run(tmp_path), undisturbed)


def test_sigterm_saves_first(undisturbed: Any, tmp_path: Path) -> None:
    def handler(number: int, _: Any) -> None:
        raise KilledError(number)

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(KilledError):
            run(
                tmp_path,
                lambda state: os.kill(os.getpid(), signal.SIGTERM) if state.total_steps == 9 else None,
                checkpoint_every_steps=0,
            )
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
    seen: list[int] = []
    assert_same(run(tmp_path, lambda state: seen.append(state.total_steps)), undisturbed)
    assert seen[0] == 11  # the signal is seen after the next step, which is saved


def test_a_process_that_is_killed_leaves_a_run_to_go_on_with(undisturbed: Any, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.test_trainer_resume", str(tmp_path)],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line == "step 17\n":
            process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    seen: list[int] = []
    assert_same(run(tmp_path, lambda state: seen.append(state.total_steps)), undisturbed)
    assert seen[0] > 14


@pytest.mark.parametrize("killed", ["step-3-0-0-0", "step-2-0-0-0"])
def test_what_a_kill_within_a_write_leaves_is_cleared_away(killed: str, tmp_path: Path) -> None:
    """TensorFlow writes into such a folder first."""
    (tmp_path / f"{killed}_temp").mkdir()
    (tmp_path / f"{killed}_temp" / "part-00000-of-00001.data-00000-of-00001").write_bytes(b"half")
    directory = CheckpointDir(str(tmp_path))
    for steps in (3, 4):
        directory.save(TrainingState(total_steps=steps), [tf.Variable(float(steps))])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "state.json",
        "step-4-0-0-0.data-00000-of-00001",
        "step-4-0-0-0.index",
    ]
    read = tf.Variable(0.0)
    loaded = directory.load()
    assert loaded is not None
    checkpoints.read_variables([read], loaded[1])
    assert float(read) == 4.0


def open_attempt(folder: Path, name: str) -> CheckpointDir:
    """A folder with a scheme stands for a bucket, which has no locks."""
    directory = open_checkpoint_dir(f"file://{folder}/root", {}, [], name)
    directory.save_choices({"precision": {}})
    return directory


def test_two_attempts_at_once_in_a_bucket_end_as_one_alone(undisturbed: Any, tmp_path: Path) -> None:
    first = open_attempt(tmp_path, "first")
    seen: list[int] = []

    def list_first() -> list[Path]:
        return sorted(Path(first.folder.removeprefix("file://")).iterdir())

    def run_second(state: TrainingState) -> None:
        if state.total_steps != 17:
            return
        before = list_first()
        second = open_attempt(tmp_path, "second")
        found = run(tmp_path / "second", lambda state: seen.append(state.total_steps), checkpoint_dir=second)
        second.remove()
        assert_same(found, undisturbed)
        assert list_first() == before

    assert_same(run(tmp_path, run_second, checkpoint_dir=first), undisturbed)
    assert seen[0] == 16
    first.remove()
    assert not list((tmp_path / "root").iterdir())


def test_an_attempt_in_a_bucket_goes_on_for_a_killed_one_and_needs_nothing_of_it(
    undisturbed: Any, tmp_path: Path
) -> None:
    """Killed in the second phase, whose end takes up best weights that may be of the first."""
    first = open_attempt(tmp_path, "first")
    seen: list[int] = []
    with pytest.raises(KilledError):
        run(tmp_path, kill_at(23), checkpoint_dir=first)
    second = open_attempt(tmp_path, "second")
    first.remove()
    found = run(tmp_path, lambda state: seen.append(state.total_steps), checkpoint_dir=second)
    assert_same(found, undisturbed)
    assert seen[0] == 22


if __name__ == "__main__":

    def tell(state: TrainingState) -> None:
        print(f"step {state.total_steps}", flush=True)
        time.sleep(0.05)  # so that the signal hits this step or one of the next

    tf.config.experimental.enable_op_determinism()
    run(Path(sys.argv[1]), tell)
