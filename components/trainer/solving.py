"""The solved head: the optimum of a logistic regression on what the frozen backbone makes of each image.

The features are standardised by train's mean and deviation, and each depth is scaled to the same total variance, so
that one strength of the penalty suits all. Both are folded into the head's kernel and bias: no layer is added.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from components.trainer.backbone_layers import RootsLayer
from components.trainer.backbones import Pooling, pooled_blocks
from components.trainer.competition import FEWEST_TO_CALIBRATE, Judged
from components.trainer.logistic_regression import (
    MOST_SOLVES,
    Choice,
    Examples,
    Head,
    choose_strength,
    fit,
    log_losses,
    make_zero_head,
)
from components.trainer.model import ImageClassifier, repool

_SMALLEST_DEVIATION = 1e-6  # of a feature's largest value: below it is rounding


@dataclass(frozen=True)
class Features:
    """What the widest candidate of pooling makes of the images.

    Attributes:
        train: float32 [views x images, features], the images themselves first.
        train_labels: int64 [images].
        eval: float32 [images, features].
        eval_labels: int64 [images].
        depths: channels of each depth, from the image to the head; their sum is the number of features.
    """

    train: np.ndarray
    train_labels: np.ndarray
    eval: np.ndarray
    eval_labels: np.ndarray
    depths: tuple[int, ...]


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


@dataclass(frozen=True)
class SolvedHead:
    """The optimum, and how it was found.

    Attributes:
        pooling: what it reads.
        head: on the features as they are.
        strength: of the penalty, chosen.
        choice_loss: mean log loss in nats that chose strength and pooling.
        chosen_on: `eval` or `folds`.
        solves: how many times a head was solved.
        train_loss: mean log loss on train in nats.
        train_accuracy: 0..1.
        eval: its logits on eval.
        out_of_fold: logits of train by heads that did not see the image; None where eval chose.
        candidates: the loss of each pooling that was tried.
    """

    pooling: Pooling
    head: Head
    strength: float
    choice_loss: float
    chosen_on: str
    solves: int
    train_loss: float
    train_accuracy: float
    eval: Judged
    out_of_fold: Judged | None
    candidates: dict[str, float]

    def to_record(self) -> dict[str, Any]:
        """Returns how it was found, as plain JSON types."""
        names = ("pooling", "strength", "choice_loss", "chosen_on", "solves", "candidates")
        return {name: getattr(self, name) for name in names}


def depths_of(model: ImageClassifier) -> tuple[int, ...]:
    """Returns the channels of each depth that a model's head reads, from the image to the head."""
    network = model.get_layer("backbone")
    roots = next((layer for layer in network.layers if isinstance(layer, RootsLayer)), None)
    if roots is None or not isinstance(roots.input, list):
        return (int(network.output.shape[-1]),)
    return tuple(int(depth.shape[-1]) for depth in roots.input)


def solve_head(
    features: Features,
    class_count: int,
    poolings: Sequence[Pooling],
    *,
    class_weights: np.ndarray | None = None,
    base: tuple[Pooling, np.ndarray] | None = None,
    share: float = 1.0,
    seed: int = 0,
    stop: Any = lambda: False,
) -> SolvedHead:
    """Solves the head on the pooling and with the strength that do best on images it did not learn from.

    Args:
        features: of the widest candidate.
        class_count: number of logits.
        poolings: the candidates, each reading some of the last depths; all `roots-N`, or `last` alone.
        class_weights: float [classes], what an example of each class weighs; None weighs all alike.
        base: of a warm start: what its head reads, and its kernel [features, classes], 0 for new classes. The penalty
            draws the kernel there, not to 0, if it reads the same. The strength is chosen as if there were none: the
            base may have learned from the very images that judge.
        share: of train that chooses strength and pooling; the final head learns from all of it.
        seed: of folds and of the share.
        stop: is asked between two iterations.

    Raises:
        InterruptedSolveError: `stop` said True.
    """
    labels, count = features.train_labels, len(features.train_labels)
    weights = np.ones(count) if class_weights is None else class_weights[labels].astype(np.float64)
    on_eval = len(features.eval_labels) >= FEWEST_TO_CALIBRATE
    chosen_rows = np.random.default_rng([seed, 6]).permutation(count) < max(1, round(share * count))
    found: dict[Pooling, tuple[Choice, Standardisation, slice]] = {}
    solves = 0
    for pooling in poolings:
        depths = features.depths[-pooled_blocks(pooling) :]
        columns = slice(sum(features.depths) - sum(depths), None)
        measured = standardise(features.train[:, columns], depths)
        examples = Examples(measured.apply(features.train[:, columns]), labels, weights * chosen_rows)
        judged = (measured.apply(features.eval[:, columns]), features.eval_labels) if on_eval else None
        first = min((choice for choice, *_ in found.values()), key=lambda choice: choice.loss, default=None)
        choice = choose_strength(
            examples,
            class_count,
            judged,
            seed=seed,
            first=first.strength if first else 1e-4,
            most_solves=(MOST_SOLVES - 1) // len(poolings),
            stop=stop,
        )
        solves += choice.solves
        found[pooling] = (choice, measured, columns)
    best = min(found, key=lambda pooling: found[pooling][0].loss)
    choice, measured, columns = found[best]
    standardised = measured.apply(features.train[:, columns])
    centre = measured.unfold(base[1]) if base is not None and base[0] == best else None
    start = choice.start if centre is None else Head(centre, make_zero_head(*centre.shape).bias)
    examples = Examples(standardised, labels, weights)
    solved = fit(examples, choice.strength, start, centre, stop)
    logits = solved.logits(standardised[:count])
    out_of_fold = None
    if not on_eval:
        out_of_fold = Judged(choice.logits[chosen_rows], labels[chosen_rows], np.ones(int(chosen_rows.sum())))
    head = measured.fold(solved)
    return SolvedHead(
        pooling=best,
        head=head,
        strength=choice.strength,
        choice_loss=choice.loss,
        chosen_on="eval" if on_eval else "folds",
        solves=solves + 1,
        train_loss=float(np.average(log_losses(logits, labels), weights=weights)),
        train_accuracy=float(np.average(logits.argmax(axis=1) == labels, weights=weights)),
        eval=Judged(
            features.eval[:, columns] @ head.kernel + head.bias,
            features.eval_labels,
            np.ones(len(features.eval_labels)),
        ),
        out_of_fold=out_of_fold,
        candidates={pooling: found[pooling][0].loss for pooling in found},
    )


def set_head(model: ImageClassifier, head: Head) -> None:
    """Gives a model's last layer the kernel and bias of a head."""
    kernel, bias = model.get_layer("head").weights
    kernel.assign(tf.constant(head.kernel, tf.float32))
    bias.assign(tf.constant(head.bias, tf.float32))


def widen(head: Head, features: int) -> Head:
    """Returns a head that reads nothing but the last of more features."""
    return Head(np.pad(head.kernel, [[features - len(head.kernel), 0], [0, 0]]), head.bias)


def narrow(model: ImageClassifier, pooling: Pooling) -> ImageClassifier:
    """Returns the model whose head reads what a narrower pooling gives; that of wider ones must not be read."""
    if pooling == model.pooling:
        return model
    head = read_head(model)
    with model.distribute_strategy.scope():
        narrower = repool(model, pooling)
    set_head(narrower, Head(head.kernel[len(head.kernel) - sum(depths_of(narrower)) :], head.bias))
    return narrower


def read_head(model: ImageClassifier) -> Head:
    """Returns the kernel and bias of a model's last layer."""
    kernel, bias = (variable.numpy().astype(np.float64) for variable in model.get_layer("head").weights)
    return Head(kernel, bias)
