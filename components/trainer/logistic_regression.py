"""Multinomial logistic regression with an L2 penalty, solved to its optimum, and the choice of the penalty's strength.

NumPy and SciPy alone: the features of a frozen backbone are a matrix, and a head on them is a convex problem, whose
answer depends neither on a rate nor on a number of epochs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.optimize
from scipy.special import log_softmax

FOLDS = 5
MOST_SOLVES = 100
"""Of all that one choice of strength and features may cost, the last fit included."""

_MOST_ITERATIONS = 200
_GRADIENT_TOLERANCE = 1e-5  # of the mean loss; ten times smaller moves no probability by more than 1e-4
_RATIO = 10**0.5
_FIRST_STRENGTH = 1e-3
_WEAKEST, _STRONGEST = 1e-7, 1e2
_BATCH_BYTES = 64 * 2**20


class InterruptedSolveError(Exception):
    """Somebody asked the solver to stop between two iterations."""


@dataclass(frozen=True)
class Examples:
    """What is fitted, and how much of it counts.

    Attributes:
        features: float32 [views x examples, features], one view after the other, standardised.
        labels: int64 [examples].
        weights: float64 [examples], 0 leaves an example out.
        groups: int64 [examples], the same for those that no fold may divide; None where there are no groups.
    """

    features: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    groups: np.ndarray | None = None

    @property
    def views(self) -> int:
        """How many rows of features each example has."""
        return len(self.features) // max(1, len(self.labels))


@dataclass(frozen=True)
class Head:
    """Logits are `features @ kernel + bias`.

    Attributes:
        kernel: float64 [features, classes].
        bias: float64 [classes].
    """

    kernel: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Maps features [n, features] to float64 logits [n, classes]."""
        return (features @ self.kernel.astype(features.dtype)).astype(np.float64) + self.bias

    def scaled(self, factor: float) -> "Head":
        """Returns the head whose logits are `factor` times these."""
        return Head(self.kernel * factor, self.bias * factor)

    def mean_with(self, other: "Head") -> "Head":
        """Returns the head whose logits are the mean of both."""
        return Head((self.kernel + other.kernel) / 2, (self.bias + other.bias) / 2)


def make_zero_head(features: int, classes: int) -> Head:
    """Returns the head that knows nothing."""
    return Head(np.zeros([features, classes]), np.zeros(classes))


def fit(
    examples: Examples,
    strength: float,
    start: Head,
    centre: np.ndarray | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Head:
    """Returns the minimum of the mean cross-entropy plus `strength / 2` times the squared distance to `centre`.

    The bias is not penalised. A class without examples gets a bias with which it is about as likely as half an example
    among all, and the kernel of `centre`: the optimum has its bias at minus infinity.

    Args:
        examples: views of an example share its weight.
        strength: of the penalty, for features whose squared length is about 1.
        start: where the search starts; the optimum does not depend on it.
        centre: float64 [features, classes], what the penalty draws the kernel to; None is 0.
        stop: is asked between two iterations.

    Raises:
        InterruptedSolveError: `stop` said True.

    Source: L-BFGS-B of SciPy (Zhu et al. 1997).
    """
    features, views = examples.features, examples.views
    size, classes = start.kernel.shape
    drawn_to = np.zeros([size, classes]) if centre is None else centre
    counts = np.bincount(examples.labels, examples.weights, classes)
    present = np.flatnonzero(counts > 0)
    position = np.zeros(classes, np.int64)
    position[present] = np.arange(len(present))
    labels = np.tile(position[examples.labels], views)
    weights = np.tile(examples.weights / (examples.weights.sum() * views), views)
    rows = np.flatnonzero(weights > 0)
    if len(rows) < len(weights):
        features, labels, weights = features[rows], labels[rows], weights[rows]
    pulled = drawn_to[:, present]

    def evaluate(values: np.ndarray) -> tuple[float, np.ndarray]:
        if stop():
            raise InterruptedSolveError
        kernel, bias = values[:-1], values[-1]
        loss, gradient = 0.0, np.zeros_like(values)
        narrow = kernel.astype(np.float32)
        step = max(1, _BATCH_BYTES // (8 * values.shape[1]))
        for begin in range(0, len(labels), step):
            part = slice(begin, begin + step)
            logits = (features[part] @ narrow).astype(np.float64) + bias
            scores = log_softmax(logits, axis=1)
            loss -= weights[part] @ scores[np.arange(len(scores)), labels[part]]
            error = np.exp(scores)
            error[np.arange(len(scores)), labels[part]] -= 1.0
            error *= weights[part, None]
            gradient[:-1] += features[part].T @ error.astype(np.float32)
            gradient[-1] += error.sum(axis=0)
        distance = kernel - pulled
        gradient[:-1] += strength * distance
        return loss + 0.5 * strength * float(np.sum(distance * distance)), gradient

    def evaluate_flat(flat: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = evaluate(flat.reshape(size + 1, len(present)))
        return loss, gradient.ravel()

    first = np.vstack([start.kernel[:, present], start.bias[present]])
    options = {"maxiter": _MOST_ITERATIONS, "gtol": _GRADIENT_TOLERANCE, "ftol": 1e-9, "maxcor": 20}
    found = scipy.optimize.minimize(evaluate_flat, first.ravel(), jac=True, method="L-BFGS-B", options=options)
    solved = found.x.reshape(size + 1, len(present))
    kernel, bias = drawn_to.copy(), np.empty(classes)
    kernel[:, present] = solved[:-1]
    bias[present] = solved[-1] - solved[-1].mean()
    if len(present) < classes:
        shares = counts[present] / counts[present].sum()
        half = 0.5 / max(1.0, float(np.count_nonzero(examples.weights)))
        bias[counts == 0] = float(shares @ bias[present]) + np.log(half)
    return Head(kernel, bias)


def log_losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the cross-entropy of each example in nats, float64 [n]."""
    return -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]


def make_folds(labels: np.ndarray, seed: int, groups: np.ndarray | None = None, folds: int = FOLDS) -> np.ndarray:
    """Returns the fold of each example, int64 [n], 0 to folds - 1: each class is dealt out evenly, in random order.

    Groups are dealt out whole, the largest of a class first, as of the class that most of their examples have; a
    single group is divided, since nothing could be learned without it.
    """
    if groups is not None:
        found, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        if len(found) > 1:
            return make_folds_of_groups(labels, number, sizes, seed, folds)
    random = np.random.default_rng([seed, 5])
    order = random.permutation(len(labels))
    dealt = order[np.argsort(labels[order], kind="stable")]
    result = np.empty(len(labels), np.int64)
    result[dealt] = np.arange(len(labels)) % folds
    return result


def make_folds_of_groups(
    labels: np.ndarray, number: np.ndarray, sizes: np.ndarray, seed: int, folds: int
) -> np.ndarray:
    """Does what `make_folds` says of groups, which are numbered from 0: `number` [examples], `sizes` [groups]."""
    kinds, counts = np.unique(np.stack([number, labels]), axis=1, return_counts=True)
    usual = np.zeros(len(sizes), np.int64)
    by_count = np.argsort(counts, kind="stable")
    usual[kinds[0, by_count]] = kinds[1, by_count]  # the last to be written is the most frequent
    order = np.random.default_rng([seed, 5]).permutation(len(sizes))
    dealt = order[np.lexsort([-sizes[order], usual[order]])]
    fold_of_group = np.empty(len(sizes), np.int64)
    fold_of_group[dealt] = np.arange(len(sizes)) % folds
    return fold_of_group[number]


@dataclass(frozen=True)
class Choice:
    """A strength and what it came to.

    Attributes:
        strength: of the penalty.
        loss: mean cross-entropy in nats, on images that the judged heads did not see.
        logits: float64 [judged examples, classes], of these images.
        start: the head to start the last fit from.
        solves: how many fits the choice took.
    """

    strength: float
    loss: float
    logits: np.ndarray
    start: Head
    solves: int


def choose_strength(
    examples: Examples,
    classes: int,
    judged: tuple[np.ndarray, np.ndarray] | None,
    *,
    seed: int = 0,
    first: float = _FIRST_STRENGTH,
    most_solves: int = MOST_SOLVES - 1,
    centre: np.ndarray | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Choice:
    """Chooses the strength by the log loss on images that a head did not learn from.

    Walks over powers of the square root of 10, downhill from `first`; each fit starts from its neighbour's optimum.

    Args:
        examples: of train.
        classes: number of logits.
        judged: features [n, features] and labels [n] to judge on; None judges each fold of the examples, in their
            first view, by the head of the other folds.
        seed: of the folds.
        first: strength to start with.
        most_solves: fits at most.
        centre: as in `fit`.
        stop: as in `fit`.

    Raises:
        InterruptedSolveError: `stop` said True.
    """
    size, count = examples.features.shape[1], len(examples.labels)
    folds = np.full(count, -1) if judged is not None else make_folds(examples.labels, seed, examples.groups)
    held_out = [-1] if judged is not None else list(range(FOLDS))
    zero = make_zero_head(size, classes)
    if centre is not None:
        zero = Head(centre, zero.bias)
    heads = dict.fromkeys(held_out, zero)
    tried: dict[int, Choice] = {}

    def attempt(power: int) -> float:
        strength = first * _RATIO**power
        nearest = min(tried, key=lambda other: abs(other - power), default=None)
        starts = found_heads[nearest] if nearest is not None else heads
        fitted = {}
        logits = np.zeros([count if judged is None else len(judged[1]), classes])
        for fold in held_out:
            weights = examples.weights if fold < 0 else examples.weights * (folds != fold)
            part = Examples(examples.features, examples.labels, weights)
            fitted[fold] = fit(part, strength, starts[fold], centre, stop)
            if judged is not None:
                logits = fitted[fold].logits(judged[0])
            else:
                rows = np.flatnonzero(folds == fold)
                logits[rows] = fitted[fold].logits(examples.features[rows])
        if judged is not None:
            loss = float(log_losses(logits, judged[1]).mean())
        else:
            loss = float(np.average(log_losses(logits, examples.labels), weights=examples.weights))
        found_heads[power] = fitted
        tried[power] = Choice(strength, loss, logits, fitted[held_out[0]], 0)
        return loss

    found_heads: dict[int, dict[int, Head]] = {}
    attempt(0)
    for step in (-1, 1):
        power = step
        while (len(tried) + 1) * len(held_out) <= most_solves and _WEAKEST <= first * _RATIO**power <= _STRONGEST:
            if attempt(power) >= tried[power - step].loss:
                break
            power += step
        if power != step:  # downhill on this side, so uphill on the other
            break
    best = min(tried.values(), key=lambda choice: choice.loss)
    return Choice(best.strength, best.loss, best.logits, best.start, len(tried) * len(held_out))
