"""Kept features: no row too many; and a full disk: one line, nothing half written, on from the last whole chunk."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.trainer.checkpoints import FEATURES_PREFIX
from components.trainer.feature_store import FeatureStore
from data.errors import UserError
from tests.full_disk import full_disk, small_disk
from tests.tiny_training import make_model, make_points

MESSAGE = r"^/.*/{}[0-9a-f]*/train-{:05d}\.npz: .* cannot be written \({}\); free some space .*run again: .*kept$"


@pytest.mark.parametrize("free_bytes", [0, 1000])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path: Path, free_bytes: int) -> None:
    store, message = FeatureStore(str(tmp_path), {}), MESSAGE.format(FEATURES_PREFIX, 0, "File too large")
    with full_disk(free_bytes), pytest.raises(UserError, match=message):
        store.compute(make_model(), make_points(count=64), "train")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_with_space_again_it_goes_on_after_the_last_whole_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.trainer.feature_store._CHUNK_SECONDS", 0.0)
    model, points = make_model(), make_points(count=160)
    with small_disk(tmp_path, 4 * 4096):
        with pytest.raises(UserError, match=MESSAGE.format(FEATURES_PREFIX, 4, "No space left on device")):
            FeatureStore(str(tmp_path), {}).compute(model, points, "train")
        found = sorted(path.name for path in tmp_path.glob("*/*"))
        assert found == [f"train-{number:05d}.npz" for number in range(4)]
        subprocess.run(["mount", "-o", "remount,size=1M", str(tmp_path)], check=True)
        resumed = FeatureStore(str(tmp_path), {}).compute(model, points, "train")
        assert len(list(tmp_path.glob("*/*"))) == 10
    whole = FeatureStore(None, {}).compute(model, points, "train")
    assert whole is not None
    assert resumed is not None
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one, other)


def test_two_at_once_in_a_bucket_leave_what_others_can_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their chunks are of other lengths, and each writes its own: three of one batch, and one of four."""
    chunk_seconds = "components.trainer.feature_store._CHUNK_SECONDS"
    model, points, bucket = make_model(), make_points(count=160), f"file://{tmp_path}"
    stops, other_stops = iter([False, False, False, True]), iter([False, False, True])

    def run_other() -> bool:
        if not list(tmp_path.iterdir()):
            monkeypatch.setattr(chunk_seconds, 0.0)
            assert FeatureStore(bucket, {}).compute(model, points, "train", until=lambda: next(other_stops)) is None
            monkeypatch.setattr(chunk_seconds, 1e9)
        return next(stops)

    monkeypatch.setattr(chunk_seconds, 1e9)
    assert FeatureStore(bucket, {}).compute(model, points, "train", until=run_other) is None
    assert len(list(tmp_path.glob("*/*"))) == 3
    whole = FeatureStore(None, {}).compute(model, points, "train")
    assert whole is not None
    for _ in range(2):
        found = FeatureStore(bucket, {}).compute(model, points, "train")
        assert found is not None
        for one, other in zip(found, whole, strict=True):
            np.testing.assert_array_equal(one, other)
        monkeypatch.setattr(FeatureStore, "_write", None)  # the first has written the rest


def test_what_only_fills_the_last_batch_is_not_computed() -> None:
    points = make_points(count=40)

    def count_rows(inputs: tf.Tensor) -> tf.Tensor:
        return tf.fill([tf.shape(inputs)[0], 1], tf.shape(inputs)[0])

    found = FeatureStore(None, {}).compute(make_model(), points, "train", forward=count_rows)
    assert found is not None
    rest = points.count % points.batch_size
    assert rest > 0
    np.testing.assert_array_equal(found[0][:, 0], [points.batch_size] * (points.count - rest) + [rest] * rest)
