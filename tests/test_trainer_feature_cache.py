"""Training the head on stored features is training it on images."""

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.python.framework.config import disable_op_determinism

from components.trainer import feature_cache
from components.trainer.batches import Augment, Share
from components.trainer.checkpoints import CheckpointDir, TrainingState
from components.trainer.feature_cache import FeatureCache, can_cache_features
from components.trainer.inputs import ArraySplit
from components.trainer.learner import feature_model
from components.trainer.model import ImageClassifier
from components.trainer.phases import EpochResult, make_phases
from components.trainer.training import train
from data.errors import UserError
from tests.full_disk import full_disk
from tests.tiny_training import make_model, make_points, make_settings


def run(
    folder: Path, model: ImageClassifier, split: ArraySplit, eval_split: ArraySplit, **values: Any
) -> list[EpochResult]:
    settings = make_settings(**{"fine_tune_epochs": 0, "head_epochs": 4, **values})
    return train(model, split, eval_split, settings, str(folder), CheckpointDir(str(folder / "resume")))[0]


def compute(cache: FeatureCache, split: ArraySplit, views: int = 0) -> ArraySplit:
    computed = cache.compute(split, "train", views)
    assert computed is not None
    return computed


@pytest.mark.parametrize("ema_momentum", [None, 0.9])
def test_the_cache_changes_nothing(tmp_path: Path, ema_momentum: float | None) -> None:
    splits = make_points(count=100, seed=3), make_points(count=41)
    models = make_model(dropout=0.4), make_model(dropout=0.4)
    histories = [
        run(tmp_path / cache, model, *splits, feature_cache=cache, ema_momentum=ema_momentum)
        for cache, model in zip(("auto", "off"), models, strict=True)
    ]
    # The same float32 operations; only which rows are multiplied together differs, and so how sums are ordered.
    for cached, plain in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(cached, plain, rtol=1e-5, atol=1e-6)
    assert [e.eval_loss for e in histories[0]] == pytest.approx([e.eval_loss for e in histories[1]], rel=1e-5)
    assert [e.loss for e in histories[0]] == pytest.approx([e.loss for e in histories[1]], rel=1e-5)


def make_counting_model(on_images: Callable[[int], None]) -> ImageClassifier:
    """A model whose backbone tells of how many images it sees."""

    class Counting(tf_keras.layers.Layer):
        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            return tf.ensure_shape(tf.numpy_function(self.count, [inputs], tf.float32), inputs.shape)

        def count(self, inputs: np.ndarray) -> np.ndarray:
            on_images(len(inputs))
            return inputs

    inputs = tf_keras.Input([4])
    features = Counting(name="block5_count")(inputs)
    return ImageClassifier(inputs, tf_keras.layers.Dense(2, name="head")(features))


def test_the_backbone_runs_once(tmp_path: Path) -> None:
    images: list[int] = []
    model = make_counting_model(images.append)
    run(tmp_path / "cached", model, make_points(), make_points(count=32))
    assert sum(images) == 64 + 32
    images.clear()
    run(tmp_path / "plain", model, make_points(), make_points(count=32), feature_cache="off")
    assert sum(images) == 4 * (64 + 32)


@pytest.mark.parametrize("seen", [16, 64 + 16])
def test_sigterm_ends_a_run_at_the_next_batch_of_features(tmp_path: Path, seen: int) -> None:
    images: list[int] = []

    class EndedError(Exception):
        pass

    def end(*_: object) -> None:
        raise EndedError

    def notify(count: int) -> None:
        images.append(count)
        if sum(images) == seen:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(EndedError):
            run(tmp_path, make_counting_model(notify), make_points(), make_points(count=32))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert sum(images) == seen


def test_features_too_large_for_memory_go_to_a_file_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "_MEMORY_BYTES", 20 * 8 * 4)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model, points = make_model(), make_points(count=50, seed=2)
    cache = FeatureCache(model)
    stored = compute(cache, points)
    assert isinstance(stored._inputs, np.memmap)
    assert not list(tmp_path.iterdir())
    for (features, labels, _), (inputs, expected, _) in zip(stored.epoch(1), points.epoch(1), strict=True):
        np.testing.assert_array_equal(labels, expected)
        np.testing.assert_allclose(features, feature_model(model)(inputs), rtol=1e-5, atol=1e-6)


def test_bfloat16_features_are_kept_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for memory_bytes in (2**20, 0):
        monkeypatch.setattr(feature_cache, "_MEMORY_BYTES", memory_bytes)
        inputs = tf_keras.Input([4])
        features = tf_keras.layers.Dense(8, dtype="mixed_bfloat16", name="block5_dense")(inputs)
        model = ImageClassifier(inputs, tf_keras.layers.Dense(2, name="head", dtype="float32")(features))
        ((features, _, _),) = compute(FeatureCache(model), make_points(count=8)).epoch(0)
        assert features.dtype == tf.bfloat16


@pytest.mark.parametrize("missing_bytes", [1, 64 * 8 * 4])
def test_a_full_disk_is_explained(missing_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "_MEMORY_BYTES", 0)
    message = r"^trainer\.feature_cache: /.* has no space .*\(File too large\).*TMPDIR.* to off$"
    with full_disk(64 * 8 * 4 - missing_bytes), pytest.raises(UserError, match=message):
        compute(FeatureCache(make_model()), make_points(count=64))
    message = (
        r"^trainer\.feature_cache: .*TMPDIR.*, or set trainer\.recipe to manual and trainer\.feature_cache to off$"
    )
    with full_disk(64 * 8 * 4 - missing_bytes), pytest.raises(UserError, match=message):
        compute(FeatureCache(make_model(), "quick"), make_points(count=64))


def test_only_what_stays_the_same_is_cached() -> None:
    settings = make_settings()
    head, fine_tune = make_phases(settings)
    model = make_model()
    assert can_cache_features(head, settings, make_points(), model)
    assert not can_cache_features(fine_tune, settings, make_points(), model)
    assert not can_cache_features(head, settings, make_points(augment=lambda images, *_: images), model)
    assert not can_cache_features(head, make_settings(feature_cache="off"), make_points(), model)
    once = make_settings(head_epochs=1)
    assert not can_cache_features(make_phases(once)[0], once, make_points(), model)
    views = make_settings(feature_cache_views=2, random_flip=True)
    assert can_cache_features(head, views, make_points(augment=lambda images, *_: images), model)


def shift(points: tf.Tensor, seed: tf.Tensor, share: Share) -> tf.Tensor:
    return points + share.draw([tf.shape(points)[0]], seed)[:, None]


def test_views_differ_and_epochs_take_turns() -> None:
    points = make_points(count=40, seed=2, augment=shift)
    stored = compute(FeatureCache(make_model()), points, views=3)
    assert stored._inputs.shape == (3 * 40, 8)

    def read(epoch: int) -> np.ndarray:
        """The features of an epoch, in the order of the examples."""
        order = np.random.default_rng([2, epoch]).permutation(40)
        features = np.concatenate([batch[0] for batch in stored.epoch(epoch)])
        labels = np.concatenate([batch[1] for batch in stored.epoch(epoch)])
        np.testing.assert_array_equal(labels, points.labels[order])
        return features[np.argsort(order)]

    views = [read(epoch) for epoch in range(4)]
    assert all(np.abs(views[a] - views[b]).max(1).min() > 1e-4 for a, b in ((0, 1), (0, 2), (1, 2)))
    np.testing.assert_array_equal(views[3], views[0])
    again = compute(FeatureCache(make_model()), points, views=3)
    np.testing.assert_array_equal(again._inputs, stored._inputs)
    # View 1 is the features of the images as augmented for it, without what fills up the last batch.
    images = np.concatenate([batch[0] for batch in points.in_order(view=1)])[:40]
    np.testing.assert_allclose(views[1], feature_model(make_model())(images), rtol=1e-5, atol=1e-6)


def make_image_model() -> ImageClassifier:
    """Like `make_model`, for images of 2 x 2 pixels."""
    tf_keras.utils.set_random_seed(0)
    images = tf_keras.Input([2, 2, 1])
    features = tf_keras.layers.Dense(8, name="block5_dense")(tf_keras.layers.Flatten(name="block5_flatten")(images))
    features = tf_keras.layers.Dropout(0.4, name="dropout")(features)
    return ImageClassifier(images, tf_keras.layers.Dense(2, name="head")(features))


def make_images(count: int, augment: Augment | None = None) -> ArraySplit:
    points = make_points(count=count)
    return ArraySplit(points._inputs.reshape(-1, 2, 2, 1), points.labels, 16, augment=augment)


def brighten(images: tf.Tensor, seed: tf.Tensor, share: Share) -> tf.Tensor:
    return images + share.draw([tf.shape(images)[0]], seed)[:, None, None, None]


def test_a_run_on_views_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    chosen = {"feature_cache_views": 2, "random_flip": True, "checkpoint_every_steps": 1, "steps_per_execution": 1}

    class KilledError(Exception):
        pass

    def kill(state: TrainingState) -> None:
        if state.total_steps == 9:  # in the third epoch of four steps: the first view again
            raise KilledError

    weights = []
    tf.config.experimental.enable_op_determinism()
    try:
        for folder, kills in (("undisturbed", [None]), ("killed", [kill, None])):
            for on_step in kills:
                model = make_image_model()
                settings = make_settings(fine_tune_epochs=0, head_epochs=4, **chosen)
                place = tmp_path / folder
                splits = make_images(64, brighten), make_images(20)
                with contextlib.nullcontext() if on_step is None else pytest.raises(KilledError):
                    train(model, *splits, settings, str(place), CheckpointDir(str(place / "resume")), on_step)
            weights.append(model.get_weights())
    finally:
        disable_op_determinism()
    for found, expected in zip(*weights, strict=True):
        np.testing.assert_array_equal(found, expected)
