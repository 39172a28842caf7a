"""What features are brought to before a head is solved, and how that goes into the head."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.trainer.logistic_regression import Head

_SMALLEST_DEVIATION = 1e-6  # of a feature's largest value: below it is rounding


@dataclass(frozen=True)
class Standardisation:
    """What features are brought to before the head is solved: (features - mean) * scale.

    Attributes:
        mean: float64 [features].
        scale: float64 [features], 0 where a feature does not vary.
    """

    mean: np.ndarray
    scale: np.ndarray

    def apply(self, features: np.ndarray) -> np.ndarray:
        """Returns float32 of the same shape."""
        return ((features - self.mean) * self.scale).astype(np.float32)

    def fold(self, head: Head) -> Head:
        """Returns the head on the features as they are, of one on standardised ones."""
        kernel = head.kernel * self.scale[:, None]
        return Head(kernel, head.bias - self.mean @ kernel)

    def unfold(self, kernel: np.ndarray) -> np.ndarray:
        """Returns the kernel on standardised features, of one on the features as they are."""
        varies = self.scale > 0
        return np.where(varies[:, None], kernel / np.where(varies, self.scale, 1.0)[:, None], 0.0)


def standardise(features: np.ndarray, depths: Sequence[int]) -> Standardisation:
    """Measures mean and deviation of features [n, features], and gives each depth the total variance 1."""
    mean = features.mean(axis=0, dtype=np.float64)
    deviation = features.std(axis=0, dtype=np.float64)
    varies = deviation > _SMALLEST_DEVIATION * np.maximum(np.abs(features).max(axis=0, initial=0.0), 1e-30)
    widths = np.repeat(np.asarray(depths), depths)
    scale = np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0) / np.sqrt(widths)
    return Standardisation(mean, scale)


def standardise_by_moments(mean: np.ndarray, mean_square: np.ndarray) -> Standardisation:
    """Returns what brings features of this mean and mean square, float64 [features], to deviation 1."""
    variance = np.maximum(mean_square - mean * mean, 0.0)
    varies = variance > _SMALLEST_DEVIATION * np.maximum(mean_square, 1e-30)
    return Standardisation(mean, np.where(varies, 1.0 / np.sqrt(np.where(varies, variance, 1.0)), 0.0))
