"""Whoever shows or compares an example's image sees what the model sees."""

import base64
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from components.report_gen.thumbnails import make_data_uri
from components.serving_validator.probes import make_example, make_probes
from data.bit_depth import BIT_DEPTHS, least_bit_depth
from data.decode import decode_image
from data.image_check import check_image
from data.near_duplicates import LEAST_COSINE, describe_image
from data.picture import MOST_PIXELS, UnusableImage, picture_of, read_picture
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
    vectors = [describe_image(encoded) for encoded in (one, other)]
    assert all(np.linalg.norm(vector) == pytest.approx(1) for vector in vectors)
    assert vectors[0] @ vectors[1] < LEAST_COSINE


def test_probes_of_images_of_16_bits_are_their_pictures():
    deep = images.make_grey16_png_with_transparency()
    probes = {probe.name: probe for probe in make_probes([make_example(deep)])}
    assert probes["PNG"].images == probes["a WebP"].expected
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(probes["PNG"].images[0]))), np.asarray(picture_of(deep))
    )


@pytest.mark.parametrize(
    ("peak", "bit_depth"), [(0, 8), (255, 8), (256, 10), (1023, 10), (4095, 12), (4096, 14), (16384, 16), (65535, 16)]
)
def test_the_bit_depth_is_the_smallest_that_holds_the_largest_value(peak, bit_depth):
    assert least_bit_depth(peak) == bit_depth


@pytest.mark.parametrize("bit_depth", BIT_DEPTHS)
def test_the_highest_8_bits_of_a_bit_depth_are_shown(bit_depth):
    values = np.linspace(0, 2**bit_depth - 1, 24 * 40).astype(np.uint16).reshape(24, 40)
    for file_format in ("PNG", "TIFF"):
        picture = read_picture(images.encode(values, file_format), MOST_PIXELS)
        assert picture.peak == 2**bit_depth - 1
        np.testing.assert_array_equal(np.asarray(picture.at(bit_depth))[..., 1], values >> (bit_depth - 8))
    checked = check_image(images.encode(values, "PNG"), MOST_PIXELS, bit_depth)
    assert checked.reencoded == (bit_depth < 16)  # TensorFlow decodes the upper 8 of 16
    np.testing.assert_array_equal(decode_image(tf.constant(checked.encoded))[..., 0], values >> (bit_depth - 8))


def test_colours_of_16_bits_have_a_bit_depth_and_what_exceeds_it_is_white():
    picture = read_picture(images.make_rgb16_png(), MOST_PIXELS)
    assert picture.peak == int(images.picture().max()) << 8 | 0x7F
    wide = images.picture().astype(int) << 8 | 0x7F
    np.testing.assert_array_equal(np.asarray(picture.at(14)), np.minimum(wide >> 6, 255))
    assert read_picture(images.make_png(), MOST_PIXELS).peak is None


def test_a_client_converts_images_of_12_bits_as_the_model_says():
    example = make_example(images.make_png())
    probe = next(probe for probe in make_probes([example], bit_depth=12) if probe.name == "a 16-bit PNG")
    seen = [decode_image(tf.constant(encoded)).numpy() for encoded in (*probe.images, *probe.expected)]
    np.testing.assert_array_equal(seen[0], seen[1])
    assert len(np.unique(seen[0])) > 50


def test_what_cannot_be_shown_costs_itself_only():
    good, bad = images.make_png(), images.make_truncated_png()
    with pytest.raises(UnusableImage):
        make_data_uri(bad)
    assert not describe_image(bad).any()
    probes = {probe.name: probe for probe in make_probes([make_example(bad), make_example(good)])}
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(probes["PNG"].images[0]))), images.picture())
    with pytest.raises(ValueError, match="no image of the test split can be read"):
        make_probes([make_example(bad)])
