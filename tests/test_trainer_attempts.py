"""Whose folder an attempt at a training has, what it takes over from others, and what it removes.

A path with a scheme is one of a place that other machines write to: a folder stands for a bucket.
"""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tfx.extensions.google_cloud_ai_platform.constants import VERTEX_REGION_KEY
from tfx.extensions.google_cloud_ai_platform.trainer.executor import TRAINING_ARGS_KEY

from components.trainer import checkpoints
from components.trainer.attempts import open_checkpoint_dir
from components.trainer.checkpoints import FEATURES_PREFIX, CheckpointDir, TrainingState
from components.trainer.weights import WEIGHTS_DIR_KEY

CHOICES = {"precision": {"name": "float32"}}


@pytest.fixture
def bucket(tmp_path: Path) -> str:
    return f"file://{tmp_path}/root"


def local(directory: CheckpointDir) -> Path:
    return Path(directory.folder.removeprefix("file://"))


def save(directory: CheckpointDir, steps: int, days: float = 0.0) -> None:
    """Saves as a training does, some days ago."""
    directory.write(f"best-{steps}", [tf.Variable(10.0 * steps)])
    directory.save(TrainingState(total_steps=steps, best_name=f"best-{steps}"), [tf.Variable(float(steps))])
    for path in local(directory).iterdir():
        os.utime(path, (time.time() - days * 86400,) * 2)


def begin(root: str, name: str, steps: int | None = None, days: float = 0.0, **config: Any) -> CheckpointDir:
    directory = open_checkpoint_dir(root, config, [], name)
    directory.save_choices(CHOICES)
    if steps is not None:
        save(directory, steps, days)
    return directory


def saved_steps(directory: CheckpointDir) -> int | None:
    """Returns where a training is, whose variables and best weights are what they should be; None at its start."""
    loaded = directory.load()
    if loaded is None:
        return None
    state, path = loaded
    assert state.best_name is not None
    for place, factor in ((path, 1.0), (directory.path(state.best_name), 10.0)):
        variable = tf.Variable(0.0)
        checkpoints.read_variables([variable], place)
        assert float(variable) == factor * state.total_steps
    return state.total_steps


def test_an_attempt_in_a_bucket_begins_with_what_the_newest_saved_and_leaves_it_alone(bucket: str) -> None:
    begin(bucket, "older", steps=7, days=2)
    newer = begin(bucket, "newer", steps=3, days=1)
    begin(bucket, "other images", steps=9, code_hash="1")
    attempt = open_checkpoint_dir(bucket, {}, [], "now")
    assert attempt.load_choices() == CHOICES
    assert saved_steps(attempt) == 3
    save(attempt, 4)
    assert saved_steps(newer) == 3
    newer.remove()  # it was there all the time, and has ended
    assert saved_steps(attempt) == 4


def test_an_attempt_that_is_started_again_has_its_own(bucket: str) -> None:
    first = begin(bucket, "first", steps=3, days=1)
    second = begin(bucket, "second", steps=5)
    assert first.folder != second.folder
    again = open_checkpoint_dir(bucket, {}, [], "first")
    assert again.folder == first.folder
    assert saved_steps(again) == 3


@pytest.mark.parametrize(
    ("vanished", "listing"),
    [
        *((name, None) for name in ("step-5-0-0-0.index", "best-5.data-00000-of-00001", "choices.json")),
        ("choices.json", 2),
        *((name, 3) for name in ("step-5-0-0-0.index", "best-5.data-00000-of-00001")),
    ],
)
def test_where_a_file_vanishes_the_next_newest_is_taken(
    bucket: str, monkeypatch: pytest.MonkeyPatch, vanished: str, listing: int | None
) -> None:
    """Before, or after a listing: the first finds the newest, the second what names the rest, the third the rest."""
    begin(bucket, "older", steps=3, days=1)
    newest = begin(bucket, "newest", steps=5)
    walk, listings = tf.io.gfile.walk, []

    def walk_and_remove(folder: str) -> Any:
        found = list(walk(folder))
        listings.extend([folder] * (folder == newest.folder))
        if len(listings) == listing:
            (local(newest) / vanished).unlink(missing_ok=True)
        return found

    if listing is None:
        (local(newest) / vanished).unlink()
    monkeypatch.setattr(tf.io.gfile, "walk", walk_and_remove)
    attempt = open_checkpoint_dir(bucket, {}, [], "now")
    assert not (local(newest) / vanished).exists()
    assert saved_steps(attempt) == 3
    assert not [path for path in local(attempt).iterdir() if "-5" in path.name]


def test_where_all_vanish_it_begins_anew(bucket: str) -> None:
    (local(begin(bucket, "first", steps=5)) / "best-5.index").unlink()
    attempt = open_checkpoint_dir(bucket, {}, [], "now")
    assert attempt.load() is None
    assert attempt.load_choices() == {}
    assert not local(attempt).exists()


@pytest.mark.parametrize("killed_at", ["state.json", "choices.json"])
def test_a_copy_that_was_killed_is_made_anew(bucket: str, monkeypatch: pytest.MonkeyPatch, killed_at: str) -> None:
    begin(bucket, "first", steps=5)
    put = CheckpointDir.put

    def put_or_die(directory: CheckpointDir, name: str, content: Any) -> None:
        if name == killed_at:
            raise KeyboardInterrupt
        put(directory, name, content)

    with monkeypatch.context() as patched:
        patched.setattr(CheckpointDir, "put", put_or_die)
        with pytest.raises(KeyboardInterrupt):
            open_checkpoint_dir(bucket, {}, [], "killed")
    save(begin(bucket, "first"), 6, days=-1)  # newer, where times are in whole seconds
    attempt = open_checkpoint_dir(bucket, {}, [], "killed")
    assert saved_steps(attempt) == 6
    assert not list(local(attempt).glob("*-5*"))


def test_the_end_removes_its_own_and_what_is_old_of_the_same_training(bucket: str, tmp_path: Path) -> None:
    ended = begin(bucket, "ended")
    killed, recent, other = (
        begin(bucket, name, 3, days, **config)
        for name, days, config in (("killed", 15, {}), ("recent", 13, {}), ("other", 15, {"code_hash": "1"}))
    )
    save(ended, 4)
    open_checkpoint_dir(bucket, {}, [], "ended", str(tmp_path / "scratch")).remove()  # is for the chief to do
    assert [saved_steps(directory) for directory in (ended, killed)] == [4, 3]
    ended.remove()
    assert not local(ended).exists()
    assert not local(killed).exists()
    assert [saved_steps(directory) for directory in (recent, other)] == [3, 3]


def test_other_workers_use_the_chief_s_attempt(bucket: str, tmp_path: Path) -> None:
    begin(bucket, "killed", steps=5)
    scratch = str(tmp_path / "scratch")
    worker = open_checkpoint_dir(bucket, {}, [], "now", scratch)
    assert worker.load() is None  # it copies nothing itself
    chief = open_checkpoint_dir(bucket, {}, [], "now")
    assert worker.folder == chief.folder
    assert saved_steps(worker) == 5
    save(worker, 6)
    assert saved_steps(chief) == 5


def test_a_removal_that_was_killed_leaves_nothing_to_go_on_with(tmp_path: Path) -> None:
    directory = begin(str(tmp_path / "root"), "run", steps=3)
    (local(directory) / "best-3.data-00000-of-00001").unlink()
    assert directory.load() is None


def test_on_a_disk_all_attempts_have_one_folder(tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    first = begin(root, "first", steps=3)
    again = open_checkpoint_dir(root, {}, [], "second")
    assert again.folder == first.folder
    assert saved_steps(again) == 3


def test_another_training_does_not_go_on_with_it(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"1")
    patterns = [str(tmp_path / "data*")]
    root, config = tmp_path / "root", {"trainer": {"seed": 0}, "code_hash": "1", "checkpoint_dir": "anywhere"}
    (root / f"{FEATURES_PREFIX}0").mkdir(parents=True)
    first = open_checkpoint_dir(str(root), config, patterns, "run")
    save(first, 3)
    unlearnt = {"checkpoint_dir": "elsewhere", WEIGHTS_DIR_KEY: "gs://bucket/keras"}
    same = open_checkpoint_dir(str(root), {**config, **unlearnt}, patterns, "run")
    assert same.folder == first.folder
    assert saved_steps(same) == 3
    for change in ({"code_hash": "2"}, {"trainer": {"seed": 1}}):
        other = open_checkpoint_dir(str(root), {**config, **change}, patterns, "run")
        assert other.load() is None
        assert other.folder != first.folder
    (tmp_path / "data").write_bytes(b"12")
    assert open_checkpoint_dir(str(root), config, patterns, "run").folder != first.folder
    assert saved_steps(first) == 3  # those that fail before they train take nothing away
    other.save_choices(CHOICES)
    assert sorted(root.iterdir()) == sorted([root / f"{FEATURES_PREFIX}0", local(other)])


def test_where_and_for_how_long_a_job_runs_does_not_tell_trainings_apart(tmp_path: Path) -> None:
    config = {"code_hash": "1", "checkpoint_dir": "here", TRAINING_ARGS_KEY: {"timeout": "3600s"}}
    changed = {**config, "checkpoint_dir": "there", TRAINING_ARGS_KEY: {"timeout": "7200s"}, VERTEX_REGION_KEY: "r"}
    first, second = (open_checkpoint_dir(str(tmp_path), values, [], "run").folder for values in (config, changed))
    assert first == second
    for other in ({"devices": "TPU x 4"}, {"precision": "bfloat16"}):
        assert open_checkpoint_dir(str(tmp_path), {**config, **other}, [], "run").folder != first
