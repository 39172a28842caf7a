"""The one decode function: checks, Transform and serving all see the pixels that it gives."""

import tensorflow as tf


def decode_image(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes one image file, in a graph or eagerly.

    Args:
        encoded: string scalar, a JPEG, PNG, GIF (its first frame, though all are unpacked) or BMP.

    Returns:
        uint8 [height, width, 3], RGB. EXIF orientation is ignored and alpha is dropped: `data.image_check` stores
        a PNG of what a person sees wherever that makes a difference.

    Raises:
        tf.errors.InvalidArgumentError: the bytes are no such image.
    """
    # TensorFlow from 2.20 on decodes WebP too, to a batch of one frame; whoever stores or sends images makes it a PNG.
    is_webp = tf.strings.regex_full_match(tf.strings.substr(encoded, 0, 12), r"RIFF\C{4}WEBP")
    with tf.control_dependencies([tf.debugging.assert_equal(is_webp, False, "a WebP")]):
        encoded = tf.identity(encoded)
    image = tf.cond(
        tf.io.is_jpeg(encoded),
        # The default DCT differs from Pillow's (and so from what clients see) by up to 5 levels; this one is equal.
        lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )
    image.set_shape([None, None, 3])
    return image
