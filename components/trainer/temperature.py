"""The temperature: one number that makes a classifier's probabilities as sure as its answers are right.

Source: Guo et al. 2017, "On calibration of modern neural networks", section 4.2. Dividing all logits by it changes no
answer, so that it can be folded into the head.
"""

import numpy as np
import scipy.optimize

from components.trainer.logistic_regression import log_losses

LOWEST, HIGHEST = 0.5, 5.0
_PRIOR_DEVIATION = 0.5
"""Of the temperature's logarithm about 0, before any image is seen: 0.6 to 1.6 is what to expect."""


def fit_temperature(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Returns the temperature of the lowest log loss, drawn towards 1 where few images speak.

    Without the prior, images that are all answered rightly would ask for a temperature of 0.

    Args:
        logits: float [n, classes], of images that trained nothing of what made them.
        labels: int64 [n].
        weights: float [n], what each image counts; None counts all alike.

    Returns:
        Within 0.5 to 5; 1 where there is no image.
    """
    counted = np.ones(len(labels)) if weights is None else weights
    if not counted.sum():
        return 1.0

    def penalised(log_temperature: float) -> float:
        losses = log_losses(logits * np.exp(-log_temperature), labels)
        return float(losses @ counted) + 0.5 * (log_temperature / _PRIOR_DEVIATION) ** 2

    found = scipy.optimize.minimize_scalar(
        penalised, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded", options={"xatol": 1e-4}
    )
    return float(np.exp(found.x))
