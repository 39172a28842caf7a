"""Which images of train tell the ranges of numbers that full integers must hold."""

import bisect
import hashlib

import tensorflow as tf
from tfx.types import Artifact

from components.predictor.executor import read_records
from data.features import IMAGE_KEY, LABEL_KEY

CALIBRATION_IMAGES = 256
"""At most; a class's share of it, at least one, are those whose bytes have the smallest SHA-256."""

_TRAIN_SPLIT = "train"
_BATCH = 64
_SPEC = {key: tf.io.FixedLenFeature([], tf.string) for key in (IMAGE_KEY, LABEL_KEY)}


def choose_calibration_images(examples: Artifact, classes: int) -> list[bytes]:
    """Returns encoded images, the same whatever the order of the examples; memory holds no more than are returned.

    Args:
        examples: raw Examples with a `train` split.
        classes: how many there are.
    """
    share = -(-CALIBRATION_IMAGES // classes)
    chosen: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for records in read_records([examples], _TRAIN_SPLIT, _BATCH):
        parsed = tf.io.parse_example(records, _SPEC)
        for label, image in zip(parsed[LABEL_KEY].numpy(), parsed[IMAGE_KEY].numpy(), strict=True):
            mine = chosen.setdefault(label, [])
            bisect.insort(mine, (hashlib.sha256(image).digest(), image))
            del mine[share:]
    ranked = sorted(one for mine in chosen.values() for one in mine)
    return [image for _, image in ranked[:CALIBRATION_IMAGES]]
