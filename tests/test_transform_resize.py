"""Resizing to the model's square."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.transform.resize import resize_image
from components.transform.settings import TransformSettings


def resize(image: np.ndarray, **settings: Any) -> np.ndarray:
    return resize_image(tf.constant(image), TransformSettings(image_size=32, **settings)).numpy()


@pytest.mark.parametrize("aspect", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("resize_method", ["bilinear", "bicubic", "lanczos3", "area"])
def test_an_image_of_the_right_size_is_unchanged(aspect: str, resize_method: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    np.testing.assert_array_equal(resize(image, aspect=aspect, resize_method=resize_method), image)


@pytest.mark.parametrize("resize_method", ["bilinear", "bicubic", "lanczos3", "area"])
def test_shrinking_is_anti_aliased(resize_method: str) -> None:
    # Stripes of one pixel, shrunk 11 times: without a filter every sample falls on the middle of a stripe, 0 or 255.
    stripes = np.zeros((352, 352, 3), np.uint8)
    stripes[:, ::2] = 255
    inner = resize(stripes, resize_method=resize_method)[4:-4, 4:-4]
    assert np.abs(inner.astype(int) - 127.5).max() < 15  # `area` averages 5 or 6 bright ones of 11


def test_overshoot_does_not_wrap_around() -> None:
    edge = np.zeros((16, 16, 3), np.uint8)
    edge[:, 8:] = 255
    resized = resize(edge, resize_method="bicubic")
    assert resized[:, :8].max() < 30
    assert resized[:, -8:].min() > 225


def test_stretch_keeps_every_part_of_the_image() -> None:
    resized = resize(halves(64, 128), aspect="stretch")
    assert resized.shape == (32, 32, 3)
    assert resized.dtype == np.uint8
    assert (resized[:, :15] == 10).all()
    assert (resized[:, 17:] == 200).all()


def test_crop_keeps_the_central_square() -> None:
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 32:96] = 77
    assert (resize(image, aspect="crop") == 77).all()


def test_crop_of_a_tall_image_keeps_its_middle() -> None:
    image = np.zeros((129, 64, 3), np.uint8)
    image[32:96] = 77
    assert (resize(image, aspect="crop") == 77).all()


def test_pad_keeps_the_aspect_and_adds_black() -> None:
    resized = resize(np.full((64, 128, 3), 77, np.uint8), aspect="pad")
    assert (resized[:8] == 0).all()
    assert (resized[8:24] == 77).all()
    assert (resized[24:] == 0).all()


@pytest.mark.parametrize("shape", [(64, 128), (129, 64), (7, 5), (31, 33), (96, 3), (480, 641), (1000, 32), (1, 1)])
@pytest.mark.parametrize("resize_method", ["bilinear", "bicubic", "lanczos3", "area"])
def test_pad_is_tensorflows(shape: tuple[int, int], resize_method: str) -> None:
    image = tf.constant(np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8))
    settings = TransformSettings.model_validate({"image_size": 32, "aspect": "pad", "resize_method": resize_method})
    expected = tf.image.resize_with_pad(image, 32, 32, method=resize_method, antialias=True)
    expected = tf.cast(tf.clip_by_value(tf.round(expected), 0.0, 255.0), tf.uint8)
    of_any_size = tf.function(lambda image: resize_image(image, settings)).get_concrete_function(
        tf.TensorSpec([None, None, 3], tf.uint8)
    )
    assert of_any_size.output_shapes == (32, 32, 3)
    for resized in (resize_image(image, settings), of_any_size(image)):
        np.testing.assert_array_equal(resized, expected)


@pytest.mark.parametrize("shape", [(30, 1000), (1000, 30), (1, 5000)])
def test_pad_leaves_a_row_or_column_of_a_long_image(shape: tuple[int, int]) -> None:
    resized = resize(np.full((*shape, 3), 77, np.uint8), aspect="pad")
    line = resized[15] if shape[0] < shape[1] else resized[:, 15]
    assert (line == 77).all()
    assert (resized == 77).sum() == line.size


def halves(height: int, width: int) -> np.ndarray:
    """An image whose left half is 10 and right half is 200."""
    image = np.full((height, width, 3), 10, np.uint8)
    image[:, width // 2 :] = 200
    return image
