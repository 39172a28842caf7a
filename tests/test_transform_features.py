"""The packed image."""

import numpy as np
import pytest
import tensorflow as tf

from components.transform.features import pack_image, transformed_name, unpack_images


def test_unpacking_gives_the_packed_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    packed = tf.stack([pack_image(tf.constant(image)) for image in images])
    unpacked = unpack_images(packed, 32)
    assert unpacked.dtype == tf.uint8
    np.testing.assert_array_equal(unpacked, images)


def test_unpacking_agrees_with_parse_tensor() -> None:
    packed = pack_image(tf.constant(np.arange(32 * 32 * 3, dtype=np.uint16).astype(np.uint8).reshape(32, 32, 3)))
    np.testing.assert_array_equal(unpack_images(packed[tf.newaxis], 32)[0], tf.io.parse_tensor(packed, tf.uint8))


def test_an_image_of_another_size_is_refused() -> None:
    packed = pack_image(tf.zeros([32, 32, 3], tf.uint8))
    with pytest.raises(tf.errors.InvalidArgumentError):
        unpack_images(packed[tf.newaxis], 64)


def test_transformed_names_differ_from_raw_ones() -> None:
    assert transformed_name("image") == "image_xf"
