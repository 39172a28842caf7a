"""What an example of each class weighs in training, beside its own weight."""

import numpy as np

from components.trainer.extras import LabelledSplit, known_extras
from components.trainer.settings import ResolvedSettings


def make_class_weights(settings: ResolvedSettings, split: LabelledSplit, class_count: int) -> np.ndarray | None:
    """Returns what an example of each class weighs, beside its own weight; None where the settings weigh all alike.

    Args:
        settings: `class_weights`.
        split: train.
        class_count: number of classes.
    """
    if settings.class_weights != "balanced":
        return None
    labels = split.labels[split.labels >= 0]
    return balance_classes(np.bincount(labels, known_extras(split).weights, class_count))


def balance_classes(counts: np.ndarray) -> np.ndarray:
    """Returns float32 [classes]: weights with which all classes weigh the same, 1 on average over the examples.

    Args:
        counts: [classes], of examples, or the sums of their own weights.
    """
    return (counts.sum() / (np.count_nonzero(counts) * np.where(counts > 0, counts, 1))).astype(np.float32)
