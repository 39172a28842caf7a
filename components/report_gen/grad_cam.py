"""Where in the images of the page the evidence for an answer lies: what the exported model explains, for any class."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from components.trainer.evidence import Evidence
from components.trainer.model import ImageClassifier

_BATCH_PIXELS = 8 * 224 * 224


def make_heat_maps(
    model: ImageClassifier, images: np.ndarray, class_ids: Sequence[int]
) -> tuple[list[np.ndarray], str]:
    """Computes the evidence for one class of each image.

    Args:
        model: from `load_classifier`.
        images: uint8 [n, image_size, image_size, 3].
        class_ids: [n], whose logit's evidence is looked for.

    Returns:
        float32 [rows, columns] in 0..1 for each image, all 0 where nothing speaks for the class; and the layer's name.
    """
    evidence = Evidence(model)
    compute = tf.function(evidence, autograph=False)
    heat: list[np.ndarray] = []
    size = max(1, _BATCH_PIXELS // (images.shape[1] * images.shape[2]))
    for start in range(0, len(images), size):
        chosen = tf.constant(class_ids[start : start + size], tf.int32)
        heat.extend(compute(tf.constant(images[start : start + size]), chosen)[1].numpy())
    return heat, evidence.source
