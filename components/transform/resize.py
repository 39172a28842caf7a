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
        resized = _resize_with_pad(image, size, settings.resize_method)
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


def _resize_with_pad(image: tf.Tensor, size: int, method: str) -> tf.Tensor:
    """Does what `tf.image.resize_with_pad` does, step by step, for long images as well.

    TensorFlow rounds the short side down to 0 pixels, which its resize refuses, where the long side is over `size`
    times as long: of 1000x30 at 32.
    """
    height_and_width = tf.cast(tf.shape(image)[:2], tf.float32)
    inner = height_and_width / tf.reduce_max(height_and_width / size)
    top, left = tf.unstack(tf.maximum(0, tf.cast(tf.floor((size - inner) / 2), tf.int32)))
    inner_size = tf.maximum(1, tf.cast(tf.floor(inner), tf.int32))
    resized = tf.image.resize(image, inner_size, method=method, antialias=True)
    return tf.image.pad_to_bounding_box(resized, top, left, size, size)
