"""From a decoded image of any size to the model's square image."""

import tensorflow as tf

from components.transform.settings import TransformSettings


def resize_image(image: tf.Tensor, settings: TransformSettings) -> tf.Tensor:
    """Resizes one image to a square, anti-aliased.

    Args:
        image: uint8 [height, width, 3], of any size.
        settings: size, aspect policy and interpolation.

    Returns:
        uint8 [image_size, image_size, 3]; an image that has this size already is returned unchanged, bit by bit.
    """
    size = settings.image_size
    if settings.aspect == "crop":
        image = _central_square(image)
    if settings.aspect == "pad":
        resized = tf.image.resize_with_pad(image, size, size, method=settings.resize_method, antialias=True)
    else:
        resized = tf.image.resize(image, [size, size], method=settings.resize_method, antialias=True)
    # Rounded, not cut: a cut darkens by half a level on average. Bicubic and Lanczos overshoot 0..255.
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)


def _central_square(image: tf.Tensor) -> tf.Tensor:
    """Cuts the largest central square out of an image [height, width, 3]."""
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    side = tf.minimum(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]
