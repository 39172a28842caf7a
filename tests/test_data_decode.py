"""The one decode function: WebP, which some versions of TensorFlow decode, is refused by all."""

import pytest
import tensorflow as tf

from data.decode import decode_image
from tests import images

WEBP = {"still": images.make_webp(), "animated": images.make_animated_webp()}
OTHERS = {
    "jpeg": images.make_jpeg(),
    "png": images.make_png(),
    "gif": images.make_gif(),
    "bmp": images.make_bmp(),
}


@pytest.mark.parametrize("kind", WEBP)
@pytest.mark.parametrize("wrap", [lambda function: function, tf.function], ids=["eager", "graph"])
def test_a_webp_is_refused(kind, wrap):
    with pytest.raises(tf.errors.InvalidArgumentError, match="WebP"):
        wrap(decode_image)(tf.constant(WEBP[kind]))


@pytest.mark.parametrize("kind", WEBP)
def test_a_webp_in_a_batch_is_refused_as_transform_and_serving_decode(kind):
    decode = tf.function(
        lambda batch: tf.map_fn(lambda x: tf.shape(decode_image(x)), batch, fn_output_signature=tf.int32)
    )
    assert decode(tf.constant([OTHERS["png"], OTHERS["jpeg"]])).shape == [2, 3]
    with pytest.raises(tf.errors.InvalidArgumentError, match="WebP"):
        decode(tf.constant([OTHERS["png"], WEBP[kind]]))


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_webp_is_decoded_as_ever(kind):
    assert decode_image(tf.constant(OTHERS[kind])).shape[2] == 3


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RIFF1234WAVE", b"RIFF\xff\xfe\n\x00WEB"])
def test_what_is_no_image_is_refused_by_the_decoder(content):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)^(?!.*a WebP).*"):
        decode_image(tf.constant(content))
