"""How unlike the images of train an image is, from the embedding that the head reads.

A class is a Gaussian cloud of the embedding, all clouds have one shrunk covariance, and an image is as far away as the
Mahalanobis distance of the nearest class (Lee et al. 2018). What is odd about an image for reasons that have nothing to
do with the classes drowns a class that train lacks in it; so that less the distance from the cloud of all images
together counts, too (Ren et al. 2021), which in turn does not see what lies apart from all classes alike. The score is
the greater of the two, each on its own scale: found by leaving out each class of five sets of photographs in turn
(docs/decision.md has what was measured).

The covariance of all images is that within the classes and that of their means. By Woodbury's identity the difference
of the two distances is then a function of the class count's projections alone, those of the linear discriminant: as
many numbers as the head has. Of the cloud of all images a few directions are kept; in the others it is as wide as what
its covariance was shrunk by.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from components.blas import few_blas_threads
from components.trainer.competition import FEWEST_TO_CALIBRATE
from components.trainer.discriminant import decompose_within, fit_discriminants
from components.trainer.logistic_regression import FOLDS, Examples, make_folds
from components.trainer.standardisation import standardise

SHRINKAGE = 3e-3
"""Added to the eigenvalues of the covariances, whose features' total variance is 1 for each depth; found as above."""

DIRECTIONS = 32
"""Of the cloud of all images."""

_RELATIVE_SHARE = 0.8
"""Of the images that are to score above 1, those whose relative distance is to; found as above."""

_ABSENT = 1e30


@dataclass(frozen=True)
class KnownImages:
    """The fit; all float32, and of one size whatever the number of images.

    Attributes:
        mean: [features], of the embeddings.
        scale: [features], what standardises them.
        kernel: [features, classes], what projects standardised embeddings; of a class without images 0.
        offsets: [classes], the squared distance of each class's mean from the mean of all; huge for an absent class.
        together: [classes, classes], of the cloud of all images, in these projections.
        directions: [features, `DIRECTIONS`], in which that cloud is wider than what it was shrunk by, and how much.
        limits: [2, 2], of the relative and of the nearest class's distance: what scores 0, half of eval's, and what
            scores 1.
    """

    mean: np.ndarray
    scale: np.ndarray
    kernel: np.ndarray
    offsets: np.ndarray
    together: np.ndarray
    directions: np.ndarray
    limits: np.ndarray

    def distances(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns the relative distance and the nearest class's, float64 [images, 2], of float [images, features]."""
        rows = (embeddings.astype(np.float64) - self.mean) * self.scale
        projected = rows @ self.kernel
        nearest = np.min(self.offsets - 2.0 * projected, axis=1)
        relative = nearest + np.sum((projected @ self.together) * projected, axis=1)
        apart = np.sum(rows**2, axis=1) / SHRINKAGE - np.sum((rows @ self.directions) ** 2, axis=1)
        return np.stack([relative, relative + apart], axis=1)

    def scale_distances(self, distances: np.ndarray) -> np.ndarray:
        """Maps distances [images, 2] to scores, float64 [images]."""
        low, high = self.limits.astype(np.float64).T
        return np.maximum(0.0, ((distances - low) / (high - low)).max(axis=1))

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns how unlike train's images are, float64 [images], not negative; above 1 they are unknown."""
        return self.scale_distances(self.distances(embeddings))

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the parts by name, as an exported model keeps them."""
        return {name: getattr(self, name) for name in KNOWN_PARTS}


KNOWN_PARTS = tuple(KnownImages.__dataclass_fields__)
"""Names of the parts, in the exported model, too."""


def score_in_graph(parts: dict[str, Any], embeddings: tf.Tensor) -> tf.Tensor:
    """Returns `KnownImages.score` of float32 embeddings [batch, features] in TensorFlow, float32 [batch]."""
    rows = (embeddings - parts["mean"]) * parts["scale"]
    projected = rows @ parts["kernel"]
    nearest = tf.reduce_min(parts["offsets"] - 2.0 * projected, axis=-1)
    relative = nearest + tf.reduce_sum((projected @ parts["together"]) * projected, axis=-1)
    apart = tf.reduce_sum(rows**2, -1) / SHRINKAGE - tf.reduce_sum((rows @ parts["directions"]) ** 2, -1)
    low, high = parts["limits"][:, 0], parts["limits"][:, 1]
    scores = (tf.stack([relative, relative + apart], axis=-1) - low) / (high - low)
    return tf.maximum(0.0, tf.reduce_max(scores, axis=-1))


@dataclass(frozen=True)
class KnownFit:
    """The clouds, and the distances of images that they were not made from.

    Attributes:
        clouds: without a scale.
        train: float64 [images of train, 2], each by the clouds of other folds; None where eval alone is enough.
        eval: float64 [images of eval, 2].
    """

    clouds: KnownImages
    train: np.ndarray | None
    eval: np.ndarray

    def scaled(self, share: float) -> KnownImages:
        """Returns the clouds with a scale on which about this share of such images scores above 1."""
        distances = self.eval if self.train is None else np.concatenate([self.train, self.eval])
        limits = []
        for values, above in zip(distances.T, (_RELATIVE_SHARE * share, (1.0 - _RELATIVE_SHARE) * share), strict=True):
            # Of n images one more is the last with 1 in n + 1, as in split conformal prediction.
            level = min(1.0, (1.0 - above) * (len(values) + 1) / len(values))
            high = float(np.quantile(values, level, method="higher"))
            limits.append([min(float(np.median(values)), high - 1e-3 * max(1.0, abs(high))), high])
        return replace(self.clouds, limits=np.array(limits, np.float32))


@few_blas_threads()
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
        folds, apart = make_folds(labels, seed, groups), np.zeros([len(labels), 2])
        for fold in range(FOLDS):
            others = folds != fold
            partial = _fit(features[others], labels[others], class_count, depths, roots)
            apart[~others] = partial.distances(features[~others])
    return KnownFit(clouds, apart, clouds.distances(judged))


def _fit(features: np.ndarray, labels: np.ndarray, class_count: int, depths: Sequence[int], roots: bool) -> KnownImages:
    """Returns the clouds, without a scale."""
    measured = standardise(features, depths, as_a_whole=roots)
    rows = measured.apply(features)
    counts = np.bincount(labels, minlength=class_count)
    present, shares = counts > 0, counts / counts.sum()
    (head,) = fit_discriminants(Examples(rows, labels, np.ones(len(labels))), class_count, [SHRINKAGE])
    means = np.zeros([class_count, rows.shape[1]])
    for label in np.flatnonzero(present):
        means[label] = rows[labels == label].mean(axis=0)
    centre = shares @ means
    gram = np.where(present[:, None], means - centre, 0.0) @ head.kernel
    gram = (gram + gram.T) / 2
    root = np.sqrt(shares)
    together = root[:, None] * np.linalg.inv(np.eye(class_count) + root[:, None] * gram * root) * root
    weights = np.full(len(rows), 1.0 / len(rows))
    values, vectors = decompose_within(rows, centre[None], np.zeros(len(rows), np.int64), weights, DIRECTIONS)
    gains = np.sqrt(values / (values + SHRINKAGE) / SHRINKAGE)
    directions = np.pad(vectors * gains, [[0, 0], [0, DIRECTIONS - len(values)]])
    offsets, limits = np.where(present, np.diag(gram), _ABSENT), np.zeros([2, 2])
    parts = (measured.mean, measured.scale, head.kernel, offsets, together, directions, limits)
    return KnownImages(*(np.asarray(part, np.float32) for part in parts))
