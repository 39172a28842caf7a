"""Whoever shows or compares an example's image sees what the model sees."""

import base64
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from components.report_gen.near_duplicates import LEAST_COSINE, _describe_image
from components.report_gen.thumbnails import make_data_uri
from components.serving_validator.probes import make_example, make_probes
from data.decode import decode_image
from data.image_check import check_image
from data.picture import MOST_PIXELS, UnusableImage, picture_of
from tests import images


@pytest.mark.parametrize("name", images.ODD_IMAGES)
def test_the_picture_of_what_is_stored_is_what_the_model_decodes(name):
    stored = check_image(images.ODD_IMAGES[name](), MOST_PIXELS).encoded
    np.testing.assert_array_equal(np.asarray(picture_of(stored)), decode_image(tf.constant(stored)).numpy())


@pytest.mark.parametrize("name", ["grey16.png", "grey16_transparent.png", "rgb16.png", "large_profile.png"])
def test_a_thumbnail_shows_what_the_model_decodes(name):
    stored = check_image(images.ODD_IMAGES[name](), MOST_PIXELS).encoded
    thumbnail = Image.open(io.BytesIO(base64.b64decode(make_data_uri(stored).split(",")[1]))).convert("RGB")
    decoded = decode_image(tf.constant(stored)).numpy().astype(int)
    assert np.abs(np.asarray(thumbnail).astype(int) - decoded).mean() < 8  # JPEG's error; a white one is over 100 off


def test_different_images_of_16_bits_are_no_near_duplicates():
    one, other = (images.encode(images.picture(seed=seed)[..., 0].astype(np.uint16) * 257, "PNG") for seed in (7, 8))
    vectors = [_describe_image(encoded) for encoded in (one, other)]
    assert all(np.linalg.norm(vector) == pytest.approx(1) for vector in vectors)
    assert vectors[0] @ vectors[1] < LEAST_COSINE


def test_probes_of_images_of_16_bits_are_their_pictures():
    deep = images.make_grey16_png_with_transparency()
    probes = {probe.name: probe for probe in make_probes([make_example(deep)])}
    assert probes["PNG"].images == probes["a WebP"].expected
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(probes["PNG"].images[0]))), np.asarray(picture_of(deep))
    )


def test_what_cannot_be_shown_costs_itself_only():
    good, bad = images.make_png(), images.make_truncated_png()
    with pytest.raises(UnusableImage):
        make_data_uri(bad)
    assert not _describe_image(bad).any()
    probes = {probe.name: probe for probe in make_probes([make_example(bad), make_example(good)])}
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(probes["PNG"].images[0]))), images.picture())
    with pytest.raises(ValueError, match="no image of the test split can be read"):
        make_probes([make_example(bad)])
