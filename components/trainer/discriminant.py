"""Shrunken linear discriminant analysis: another head that is linear in the features, and errs in other places.

It takes the classes for clouds of one shape, which a few hundred images tell better than a logistic regression's
boundary; so the mean of both heads' logits, which is a head of the same form, is often better than either.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from components.trainer.logistic_regression import FOLDS, Examples, Head, InterruptedSolveError, log_losses, make_folds
from components.trainer.temperature import fit_temperature

SHRINKAGES = tuple(10.0 ** np.arange(-4.0, -0.9, 0.5))
"""Added to the eigenvalues of the covariance within classes, whose features' total variance is 1 for each depth."""

_SMALLEST_SHARE = 1e-9  # of the largest eigenvalue: below it is rounding
_BATCH_BYTES = 64 * 2**20


def fit_discriminants(examples: Examples, classes: int, shrinkages: Sequence[float]) -> list[Head]:
    """Returns the head of each shrinkage: log densities of Gaussians of one covariance, and the log class shares.

    A class without examples has a kernel of 0 and the share of half an example.

    Args:
        examples: views of an example share its weight.
        classes: number of logits.
        shrinkages: above 0.

    Source: Friedman 1989, "Regularized discriminant analysis", with lambda 1.
    """
    weights = np.tile(examples.weights / (examples.weights.sum() * examples.views), examples.views)
    rows = np.flatnonzero(weights > 0)
    features, weights = examples.features[rows], weights[rows]
    labels = np.tile(examples.labels, examples.views)[rows]
    shares = np.bincount(labels, weights, classes)
    present = shares > 0
    means = np.zeros([classes, features.shape[1]])
    for label in np.flatnonzero(present):
        own = labels == label
        means[label] = weights[own] @ features[own].astype(np.float64) / shares[label]
    centre = shares @ means
    values, vectors = decompose_within(features, means, labels, weights)
    apart = np.where(present[:, None], means - centre, 0.0).T
    along = vectors.T @ apart
    half = 0.5 / max(1.0, float(np.count_nonzero(examples.weights)))
    heads = []
    for shrinkage in shrinkages:
        # (S + shrinkage I)^-1, where S has these eigenvectors and is 0 on all others.
        kernel = (apart - vectors @ (along * (values / (values + shrinkage))[:, None])) / shrinkage
        bias = np.log(np.where(present, shares, half)) - 0.5 * np.sum(kernel * (apart + 2.0 * centre[:, None]), axis=0)
        heads.append(Head(kernel, bias))
    return heads


def decompose_within(
    features: np.ndarray, means: np.ndarray, labels: np.ndarray, weights: np.ndarray, most: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the eigenvalues [k] that are not 0, and eigenvectors [features, k], of the covariance within classes.

    Args:
        features: [images, features].
        means: [classes, features].
        labels: int64 [images].
        weights: [images], whose sum is 1.
        most: how many of the largest are wanted, which takes less than half of the time; None for all.
    """

    def part(begin: int, end: int) -> np.ndarray:
        apart = features[begin:end].astype(np.float64) - means[labels[begin:end]]
        return apart * np.sqrt(weights[begin:end])[:, None]

    count, width = features.shape
    if count < width:
        rows = part(0, count)
        product = rows @ rows.T
    else:
        step = max(1, _BATCH_BYTES // (8 * width))
        parts = (part(begin, begin + step) for begin in range(0, count, step))
        product = sum((rows.T @ rows for rows in parts), np.zeros([width, width]))
    size = len(product)
    largest = None if most is None or most >= size else (size - most, size - 1)
    values, vectors = np.linalg.eigh(product) if largest is None else eigh(product, subset_by_index=largest)
    kept = values > _SMALLEST_SHARE * values.max(initial=0.0)
    values, vectors = values[kept], vectors[:, kept]
    return values, rows.T @ (vectors / np.sqrt(values)) if count < width else vectors


@dataclass(frozen=True)
class Discriminant:
    """A shrinkage, and what it came to.

    Attributes:
        shrinkage: chosen.
        temperature: what brings its logits to those of a head that is not too sure: densities in hundreds of
            dimensions are.
        logits: float64 [judged examples, classes] at that temperature, of images that the judged heads did not see.
    """

    shrinkage: float
    temperature: float
    logits: np.ndarray

    def fit(self, examples: Examples, classes: int) -> Head:
        """Returns the head of this shrinkage, at this temperature."""
        return fit_discriminants(examples, classes, [self.shrinkage])[0].scaled(1.0 / self.temperature)


def choose_discriminant(
    examples: Examples,
    classes: int,
    judged: tuple[np.ndarray, np.ndarray] | None,
    like: np.ndarray,
    *,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> Discriminant:
    """Chooses the shrinkage by the log loss on images that a head did not learn from.

    Args:
        examples: of train.
        classes: number of logits.
        judged: features and labels to judge on; None judges each fold by the head of the others.
        like: float64 [judged examples, classes], logits of another head: the temperature is expected to be that which
            makes its logits as large as these. Where no image is mistaken, the log loss alone would ask for 0.
        seed: of the folds, which are those of `choose_strength`.
        stop: is asked between two folds.

    Raises:
        InterruptedSolveError: `stop` said True.
    """
    if judged is not None:
        labels, weights = judged[1], np.ones(len(judged[1]))
        found = np.stack([head.logits(judged[0]) for head in fit_discriminants(examples, classes, SHRINKAGES)])
    else:
        labels, weights = examples.labels, examples.weights
        folds, images = make_folds(labels, seed, examples.groups), examples.features[: len(labels)]
        found = np.zeros([len(SHRINKAGES), len(labels), classes])
        for fold in range(FOLDS):
            if stop():
                raise InterruptedSolveError
            others = Examples(examples.features, labels, weights * (folds != fold))
            rows = folds == fold
            for number, head in enumerate(fit_discriminants(others, classes, SHRINKAGES)):
                found[number, rows] = head.logits(images[rows])
    counted = weights > 0
    expected = [max(1e-6, _spread(logits[counted]) / max(1e-6, _spread(like[counted]))) for logits in found]
    temperatures = [
        usual * fit_temperature(logits / usual, labels, weights) for usual, logits in zip(expected, found, strict=True)
    ]
    cooled = found / np.asarray(temperatures)[:, None, None]
    best = int(np.argmin([np.average(log_losses(logits, labels), weights=weights) for logits in cooled]))
    return Discriminant(SHRINKAGES[best], temperatures[best], cooled[best])


def _spread(logits: np.ndarray) -> float:
    """Returns how far logits [n, classes] are from their mean over the classes, on average."""
    return float((logits - logits.mean(axis=1, keepdims=True)).std())
