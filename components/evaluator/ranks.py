"""Where a model ranks the right class, in NumPy."""

import numpy as np


def rank_labels(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns how many classes come before the label's, in the order of `tf.math.top_k`, which serving uses.

    Of equal probabilities the lower index comes first: a model that answers the same to everything names its first
    classes, and not each label.

    Args:
        labels: int [...], class indices; others, such as -1, are classes that the model does not know.
        probabilities: float [..., classes], finite.

    Returns:
        int [...], 0 for the most probable class, the number of classes for an unknown one.
    """
    class_count = probabilities.shape[-1]
    known = (labels >= 0) & (labels < class_count)
    indices = np.where(known, labels, 0)[..., None]
    mine = np.take_along_axis(probabilities, indices, axis=-1)
    before = (probabilities > mine) | ((probabilities == mine) & (np.arange(class_count) < indices))
    return np.where(known, before.sum(axis=-1), class_count)
