"""Changes to training images that keep what they show, on the host, batch by batch, each from a seed."""

import math

import tensorflow as tf

from components.trainer.batches import WHOLE, Augment, Share
from components.trainer.settings import ResolvedSettings

# Strongest changes, from TrivialAugment's wide space, cut to what leaves small images legible.
_MAX_FACTOR = 0.9  # of brightness, contrast and colour, both ways
_MAX_DEGREES = 30.0
_MAX_SHEAR = 0.3
_MAX_SHIFT = 0.25  # of the side
_GREY = 128.0
_OPERATIONS = 9


def make_augment(settings: ResolvedSettings) -> Augment | None:
    """Returns what the settings ask for, in the order crop, flip, TrivialAugment; None where they ask for nothing."""
    steps: list[Augment] = []
    if settings.random_crop_area < 1.0:
        steps.append(lambda images, seed, share: random_crop(images, seed, settings.random_crop_area, share))
    if settings.random_flip:
        steps.append(random_flip)
    if settings.trivial_augment > 0.0:
        steps.append(lambda images, seed, share: trivial_augment(images, seed, settings.trivial_augment, share))
    if not steps:
        return None

    def augment(images: tf.Tensor, seed: tf.Tensor, share: Share) -> tf.Tensor:
        for number, step in enumerate(steps):
            images = step(images, tf.random.experimental.stateless_fold_in(seed, number), share)
        return images

    return augment


def mirror(images: tf.Tensor, seed: tf.Tensor, share: Share = WHOLE) -> tf.Tensor:
    """Mirrors every image left to right; `images` is [n, height, width, 3]."""
    return images[:, :, ::-1]


def random_flip(images: tf.Tensor, seed: tf.Tensor, share: Share = WHOLE) -> tf.Tensor:
    """Mirrors each image left to right with probability 1/2; `images` is [n, height, width, 3]."""
    mirrored = share.draw([tf.shape(images)[0]], seed) < 0.5
    return tf.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def random_crop(images: tf.Tensor, seed: tf.Tensor, min_area: float, share: Share = WHOLE) -> tf.Tensor:
    """Cuts a rectangle out of each image and resizes it to the whole.

    Args:
        images: uint8 [n, height, width, 3].
        seed: int32 [2].
        share: of the batch that the images are.
        min_area: smallest share of the area; sides are in a ratio of 3/4 to 4/3, as far as both fit.

    Returns:
        uint8 of the same shape.

    Source: Szegedy et al. 2014, section 6.
    """
    count = tf.shape(images)[0]
    area, ratio, top, left = tf.unstack(share.draw([4, count], seed))
    area = min_area + area * (1.0 - min_area)
    # Of a large area few ratios fit into the image: to cut off a side would leave less. `minimum` only undoes rounding.
    ratio = tf.exp((2.0 * ratio - 1.0) * tf.minimum(-tf.math.log(area), math.log(4 / 3)))
    height, width = tf.minimum(tf.sqrt(area / ratio), 1.0), tf.minimum(tf.sqrt(area * ratio), 1.0)
    top, left = top * (1.0 - height), left * (1.0 - width)
    boxes = tf.stack([top, left, top + height, left + width], axis=1)
    size = tf.shape(images)[1:3]
    crops = tf.image.crop_and_resize(tf.cast(images, tf.float32), boxes, tf.range(count), size)
    return tf.ensure_shape(_to_uint8(crops), images.shape)


def trivial_augment(images: tf.Tensor, seed: tf.Tensor, max_strength: float = 1.0, share: Share = WHOLE) -> tf.Tensor:
    """Changes each image by one operation of random strength: none, light, contrast, colour, solarize, or geometry.

    Args:
        images: uint8 [n, size, size, 3].
        seed: int32 [2].
        max_strength: what the random strengths are multiplied by, 0..1.
        share: of the batch that the images are.

    Returns:
        uint8 of the same shape; what geometry uncovers is grey.

    Source: Mueller & Hutter 2021 (TrivialAugment).
    """
    count = tf.shape(images)[0]
    choice, strength = tf.unstack(share.draw([2, count], seed))
    operation = tf.cast(choice * _OPERATIONS, tf.int32)
    strength = max_strength * (2.0 * strength - 1.0)
    pixels = tf.cast(images, tf.float32)
    factor = (1.0 + _MAX_FACTOR * strength)[:, None, None, None]
    grey = tf.image.rgb_to_grayscale(pixels)
    mean = tf.reduce_mean(grey, axis=[1, 2], keepdims=True)
    # Brighter pixels are inverted: none at 256.
    threshold = (256.0 - 128.0 * (max_strength - strength))[:, None, None, None]
    candidates = [
        pixels,
        pixels * factor,
        mean + (pixels - mean) * factor,
        grey + (pixels - grey) * factor,
        tf.where(pixels < threshold, pixels, 255.0 - pixels),
    ]
    result = pixels
    for number, candidate in enumerate(candidates):
        result = tf.where((operation == number)[:, None, None, None], candidate, result)
    size = tf.cast(tf.shape(images)[1], tf.float32)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=result,
        transforms=_transforms(operation - len(candidates), strength, size),
        output_shape=tf.shape(images)[1:3],
        fill_value=_GREY,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return tf.ensure_shape(_to_uint8(moved), images.shape)


def _transforms(operation: tf.Tensor, strength: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns [n, 8]: about the middle, 0 rotates, 1 shears, 2 and 3 shift; else the identity."""

    def only(number: int, value: tf.Tensor, other: float = 0.0) -> tf.Tensor:
        return tf.where(operation == number, value, tf.fill(tf.shape(value), other))

    angle = only(0, strength * (_MAX_DEGREES * math.pi / 180.0))
    a, b = tf.cos(angle), -tf.sin(angle) + only(1, strength * _MAX_SHEAR)
    c, d = tf.sin(angle), tf.cos(angle)
    middle = (size - 1.0) / 2.0
    x = middle - (a + b) * middle + only(2, strength * _MAX_SHIFT) * size
    y = middle - (c + d) * middle + only(3, strength * _MAX_SHIFT) * size
    zero = tf.zeros_like(a)
    return tf.stack([a, b, x, c, d, y, zero, zero], axis=1)


def _to_uint8(pixels: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.round(tf.clip_by_value(pixels, 0.0, 255.0)), tf.uint8)
