"""MixUp and CutMix: images and labels of two examples in one, in the step, with ops that every device has."""

import numpy as np
import tensorflow as tf

from components.trainer.settings import ResolvedSettings

_NONE, _MIXUP, _CUTMIX = 0.0, 1.0, 2.0
UNMIXED = np.array([_NONE, 1.0, 0.0, 0.0], np.float32)


def draw_mix(settings: ResolvedSettings, step: int) -> np.ndarray:
    """Draws how a step mixes, from the seed and the step alone.

    Returns:
        float32 [4]: 1 for MixUp or 2 for CutMix (each in half of the steps where both are wanted), the share of the
        first example, and the middle of the cut, 0..1, from the top and the left.
    """
    kinds = [kind for kind, alpha in ((_MIXUP, settings.mixup_alpha), (_CUTMIX, settings.cutmix_alpha)) if alpha]
    if not kinds:
        return UNMIXED
    random = np.random.default_rng([settings.seed, step, 2])
    kind = kinds[random.integers(len(kinds))]
    alpha = settings.mixup_alpha if kind == _MIXUP else settings.cutmix_alpha
    return np.array([kind, random.beta(alpha, alpha), *random.random(2)], np.float32)


def mix(images: tf.Tensor, targets: tf.Tensor, drawn: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixes each example with the one as far from the end of the replica's batch as it is from the start.

    Args:
        images: uint8 [n, height, width, 3].
        targets: float32 [n, classes].
        drawn: from `draw_mix`.

    Returns:
        Images of the same type, rounded, and targets in proportion.

    Source: Zhang et al. 2017 (mixup); Yun et al. 2019 (CutMix).
    """
    kind, share, top, left = tf.unstack(drawn)
    height, width = images.shape[1:3]
    half = 0.5 * tf.sqrt(1.0 - share)
    rows = (tf.range(height, dtype=tf.float32) + 0.5) / height
    columns = (tf.range(width, dtype=tf.float32) + 0.5) / width
    cut = tf.cast((tf.abs(rows - top) < half)[:, None] & (tf.abs(columns - left) < half)[None, :], tf.float32)
    # The share of the other example, pixel by pixel.
    other = tf.where(kind == _CUTMIX, cut, tf.fill([height, width], 1.0 - share))[None, :, :, None]
    pixels = tf.cast(images, tf.float32)
    mixed = pixels + (pixels[::-1] - pixels) * other
    weight = tf.reduce_mean(other)
    return tf.cast(tf.round(mixed), images.dtype), targets * (1.0 - weight) + targets[::-1] * weight
