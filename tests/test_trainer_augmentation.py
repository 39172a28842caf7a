"""Augmentation on the host and mixing in the step do what they say, and follow from their seed."""

import numpy as np
import pytest
import tensorflow as tf

from components.trainer.augmentation import make_augment, random_crop, random_flip, trivial_augment
from components.trainer.batches import WHOLE
from components.trainer.mixing import UNMIXED, draw_mix, mix
from tests.tiny_training import make_settings

SEED = tf.constant([3, 4])


@pytest.fixture(scope="module")
def images() -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), np.uint8))


def same_as(changed: tf.Tensor, images: tf.Tensor) -> np.ndarray:
    return np.all(changed.numpy() == images.numpy(), axis=(1, 2, 3))


def test_flip_mirrors_about_half(images: tf.Tensor) -> None:
    changed = random_flip(images, SEED)
    kept, mirrored = same_as(changed, images), same_as(changed, images[:, :, ::-1])
    assert np.all(kept ^ mirrored)
    assert 20 <= mirrored.sum() <= 44


@pytest.mark.parametrize("min_area", [0.95, 0.5, 0.08])
def test_crops_are_parts_of_the_allowed_size(min_area: float) -> None:
    # Ramps tell where a crop comes from: their slopes are the crop's shares of both sides.
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None] * 4, (64, 64))
    ramps = np.stack([ramp, ramp.T, np.full_like(ramp, 255)], axis=-1)
    crops = random_crop(tf.constant(np.stack([ramps] * 1000)), SEED, min_area).numpy().astype(float)
    assert crops[..., 2].min() == 255  # nothing from outside of the image
    heights = (crops[:, -1, 0, 0] - crops[:, 0, 0, 0]) / (63 * 4)
    widths = (crops[:, 0, -1, 1] - crops[:, 0, 0, 1]) / (63 * 4)
    # Pixels are rounded, so that a side is known to 1/252.
    assert np.all(heights * widths >= min_area - (heights + widths) / 252)
    assert np.all(widths - heights * 4 / 3 <= 3 / 252)
    assert np.all(heights - widths * 4 / 3 <= 3 / 252)
    assert heights.max() <= 1.0
    assert widths.max() <= 1.0
    assert (heights * widths).std() > 0.25 * (1.0 - min_area)
    assert 0.4 < np.mean(heights < widths) < 0.6


def test_a_crop_of_the_whole_area_is_the_image(images: tf.Tensor) -> None:
    np.testing.assert_array_equal(random_crop(images, SEED, 1.0), images)


def test_trivial_augment_changes_most_images_and_stays_in_range(images: tf.Tensor) -> None:
    changed = trivial_augment(images, SEED)
    assert changed.dtype == tf.uint8
    kept = same_as(changed, images)
    assert 1 <= kept.sum() <= 20  # one operation of nine leaves the image alone
    flat = trivial_augment(tf.fill([200, 8, 8, 3], tf.constant(128, tf.uint8)), SEED).numpy()
    flat_kept = np.all(flat == 128, axis=(1, 2, 3))
    # On even grey only light and solarize change anything, so that geometry fills with what is there.
    assert 0.6 < flat_kept.mean() < 0.95


def test_trivial_augment_gets_weaker_with_its_strength(images: tf.Tensor) -> None:
    strongest, half, weakest = (
        np.abs(trivial_augment(images, SEED, strength).numpy().astype(int) - images.numpy()).mean()
        for strength in (1.0, 0.5, 0.01)
    )
    assert strongest > 1.3 * half > 10 * weakest
    np.testing.assert_array_equal(trivial_augment(images, SEED, 1.0), trivial_augment(images, SEED))


def test_all_follow_from_the_seed(images: tf.Tensor) -> None:
    augment = make_augment(make_settings(random_flip=True, random_crop_area=0.4, trivial_augment=0.5))
    assert augment is not None
    first = augment(images, SEED, WHOLE)
    np.testing.assert_array_equal(augment(images, SEED, WHOLE), first)
    assert np.any(augment(images, SEED + 1, WHOLE) != first)
    assert make_augment(make_settings()) is None


def test_nothing_is_mixed_unless_asked_for() -> None:
    np.testing.assert_array_equal(draw_mix(make_settings(), 5), UNMIXED)


def test_a_mix_follows_from_seed_and_step() -> None:
    settings = make_settings(mixup_alpha=0.4, cutmix_alpha=1.0)
    drawn = np.stack([draw_mix(settings, step) for step in range(200)])
    np.testing.assert_array_equal(drawn[7], draw_mix(settings, 7))
    assert 70 < (drawn[:, 0] == 1).sum() < 130
    assert set(drawn[:, 0]) == {1, 2}
    assert len(set(drawn[:, 1])) == 200


def test_mixup_blends_images_and_labels(images: tf.Tensor) -> None:
    targets = tf.one_hot(tf.range(64) % 3, 3)
    mixed, shares = mix(images, targets, np.array([1, 0.75, 0, 0], np.float32))
    expected = np.round(0.75 * images.numpy() + 0.25 * images.numpy()[::-1].astype(float))
    assert np.abs(mixed.numpy().astype(float) - expected).max() <= 1  # halves may round either way
    np.testing.assert_allclose(shares, 0.75 * targets + 0.25 * targets[::-1], rtol=1e-6)


def test_cutmix_takes_labels_by_area(images: tf.Tensor) -> None:
    targets = tf.one_hot(tf.range(64) % 3, 3)
    mixed, shares = mix(images, targets, np.array([2, 0.75, 0.5, 0.5], np.float32))
    expected = images.numpy().copy()
    expected[:, 4:12, 4:12] = images.numpy()[::-1, 4:12, 4:12]
    np.testing.assert_array_equal(mixed, expected)
    np.testing.assert_allclose(shares, 0.75 * targets + 0.25 * targets[::-1], rtol=1e-6)
    # At the edge the rectangle is cut off, and the labels with it.
    _, shares = mix(images, targets, np.array([2, 0.75, 0.0, 0.0], np.float32))
    np.testing.assert_allclose(shares, 0.9375 * targets + 0.0625 * targets[::-1], rtol=1e-6)


@pytest.mark.parametrize("kind", [1, 2])
def test_mixing_has_ops_that_xla_compiles(images: tf.Tensor, kind: int) -> None:
    drawn = np.array([kind, 0.6, 0.3, 0.9], np.float32)
    targets = tf.one_hot(tf.range(64) % 3, 3)
    compiled = tf.function(mix, jit_compile=True, autograph=False)(images, targets, drawn)
    np.testing.assert_array_equal(compiled[0], mix(images, targets, drawn)[0])
