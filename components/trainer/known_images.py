"""How unlike the images of train an image is, from the embedding that the head reads.

A class is a Gaussian cloud of the embedding, all clouds have one shrunk covariance, and an image is as far away as the
Mahalanobis distance of the nearest class (Lee et al. 2018), less that of the cloud of all images together (Ren et al.
2021): what is odd about an image that has nothing to do with the classes counts in both, and cancels.

The covariance of all images is that within the classes and that of their means. By Woodbury's identity the difference
of the two distances is then a function of the class count's projections alone, those of the linear discriminant: as
many numbers as the head has, whatever the images, and no approximation of a covariance of thousands of features.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from components.trainer.competition import FEWEST_TO_CALIBRATE
from components.trainer.discriminant import fit_discriminants
from components.trainer.logistic_regression import FOLDS, Examples, make_folds
from components.trainer.standardisation import standardise

SHRINKAGE = 1e-3
"""Added to the eigenvalues of the covariance within classes, whose features' total variance is 1 for each depth."""

_ABSENT = 1e30


@dataclass(frozen=True)
class KnownImages:
    """The fit; all float32, and of one size whatever the number of images.

    Attributes:
        kernel: [features, classes], what projects an embedding; of a class without images 0.
        bias: [classes], of the projections, which are then 0 for the mean of all images.
        offsets: [classes], the squared distance of each class's mean from the mean of all; huge for an absent class.
        together: [classes, classes], of the cloud of all images.
        limits: [2], the differences of distances that score 0, half of eval's, and 1, all but a small share of eval's.
    """

    kernel: np.ndarray
    bias: np.ndarray
    offsets: np.ndarray
    together: np.ndarray
    limits: np.ndarray

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns how unlike train's images are, float64 [images], not negative; above 1 they are unknown.

        Args:
            embeddings: float [images, features].
        """
        return self.scale(relative_distances(self, embeddings.astype(np.float64)))

    def scale(self, distances: np.ndarray) -> np.ndarray:
        """Maps distances of `relative_distances` to scores."""
        low, high = self.limits.astype(np.float64)
        return np.maximum(0.0, (distances - low) / (high - low))

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the parts by name, as an exported model keeps them."""
        return {name: getattr(self, name) for name in KNOWN_PARTS}


KNOWN_PARTS = tuple(KnownImages.__dataclass_fields__)
"""Names of the parts, in the exported model, too."""


def relative_distances(known: KnownImages, embeddings: np.ndarray) -> np.ndarray:
    """Returns the distance of the nearest class less that of all images together, float64 [images]."""
    projected = embeddings @ known.kernel + known.bias
    nearest = np.min(known.offsets - 2.0 * projected, axis=1)
    return nearest + np.sum((projected @ known.together) * projected, axis=1)


def score_in_graph(parts: dict[str, tf.Variable], embeddings: tf.Tensor) -> tf.Tensor:
    """Returns `KnownImages.score` of float32 embeddings [batch, features] in TensorFlow, float32 [batch]."""
    projected = embeddings @ parts["kernel"] + parts["bias"]
    nearest = tf.reduce_min(parts["offsets"] - 2.0 * projected, axis=-1)
    distances = nearest + tf.reduce_sum((projected @ parts["together"]) * projected, axis=-1)
    low, high = parts["limits"][0], parts["limits"][1]
    return tf.maximum(0.0, (distances - low) / (high - low))


@dataclass(frozen=True)
class KnownFit:
    """The clouds, and the distances of images that they were not made from.

    Attributes:
        clouds: without a scale.
        train: float64 [images of train], each by the clouds of other folds; None where eval alone is enough.
        eval: float64 [images of eval].
    """

    clouds: KnownImages
    train: np.ndarray | None
    eval: np.ndarray

    def scaled(self, share: float) -> KnownImages:
        """Returns the clouds with a scale on which this share of such images scores above 1."""
        distances = self.eval if self.train is None else np.concatenate([self.train, self.eval])
        # Of n images one more is the last with 1 in n + 1, as in split conformal prediction.
        level = min(1.0, (1.0 - share) * (len(distances) + 1) / len(distances))
        high = float(np.quantile(distances, level, method="higher"))
        low = min(float(np.median(distances)), high - 1e-3 * max(1.0, abs(high)))
        return replace(self.clouds, limits=np.array([low, high], np.float32))


def fit_known_images(
    train: tuple[np.ndarray, np.ndarray],
    judged: np.ndarray,
    class_count: int,
    depths: Sequence[int],
    *,
    roots: bool,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> KnownFit | None:
    """Fits the clouds on train, and measures the distances of eval; of few images in eval, those of train's, too.

    Args:
        train: embeddings, float [images, features], and labels, int64 [images].
        judged: embeddings of eval.
        class_count: of the model; classes without an image in train are left out.
        depths: features of each depth.
        roots: whether they are square roots of averages, which keep their proportions.
        groups: int64 [images], of train's that no fold may divide; None where there are none.
        seed: of the folds.

    Returns:
        None where train has images of fewer than two classes, or a feature is no number: nothing can be known.
    """
    features, labels = train
    if len(np.unique(labels)) < 2 or not np.isfinite(features).all() or not np.isfinite(judged).all():
        return None
    clouds, apart = _fit(features, labels, class_count, depths, roots), None
    if len(judged) < FEWEST_TO_CALIBRATE:
        folds, apart = make_folds(labels, seed, groups), np.zeros(len(labels))
        for fold in range(FOLDS):
            others = folds != fold
            partial = _fit(features[others], labels[others], class_count, depths, roots)
            apart[~others] = relative_distances(partial, features[~others].astype(np.float64))
    return KnownFit(clouds, apart, relative_distances(clouds, judged.astype(np.float64)))


def _fit(features: np.ndarray, labels: np.ndarray, class_count: int, depths: Sequence[int], roots: bool) -> KnownImages:
    """Returns the clouds, without a scale."""
    measured = standardise(features, depths, as_a_whole=roots)
    rows = measured.apply(features)
    counts = np.bincount(labels, minlength=class_count)
    present, shares = counts > 0, counts / counts.sum()
    (head,) = fit_discriminants(Examples(rows, labels, np.ones(len(labels))), class_count, [SHRINKAGE])
    means = np.zeros([class_count, rows.shape[1]])
    np.add.at(means, labels, rows)
    means[present] /= counts[present, None]
    centre = shares @ means
    gram = np.where(present[:, None], means - centre, 0.0) @ head.kernel
    gram = (gram + gram.T) / 2
    roots_of_shares = np.sqrt(shares)
    inner = np.eye(class_count) + roots_of_shares[:, None] * gram * roots_of_shares
    together = roots_of_shares[:, None] * np.linalg.inv(inner) * roots_of_shares
    folded = measured.fold(type(head)(head.kernel, -centre @ head.kernel))
    offsets = np.where(present, np.diag(gram), _ABSENT)
    parts = (folded.kernel, folded.bias, offsets, together, np.zeros(2))
    return KnownImages(*(np.asarray(part, np.float32) for part in parts))
