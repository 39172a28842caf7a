"""The solved head: the optimum of a logistic regression on what the frozen backbone makes of each image.

The features are standardised by train's mean and deviation: those of a depth one by one or, where they are square
roots of averages, as a whole. Each depth has the same total variance, so that one strength of the penalty suits all.
All that is folded into the head's kernel and bias: no layer is added.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from components.blas import few_blas_threads
from components.trainer.backbone_layers import RootsLayer
from components.trainer.backbones import Pooling, pooled_blocks
from components.trainer.competition import FEWEST_TO_CALIBRATE, Judged
from components.trainer.discriminant import Discriminant, choose_discriminant
from components.trainer.extras import NO_EXTRAS, Extras, weigh_examples
from components.trainer.logistic_regression import (
    FOLDS,
    MOST_SOLVES,
    Choice,
    Examples,
    Head,
    choose_strength,
    fit,
    log_losses,
    make_folds,
    make_zero_head,
)
from components.trainer.model import ImageClassifier, repool
from components.trainer.standardisation import Standardisation, standardise


@dataclass(frozen=True)
class Features:
    """What the widest candidate of pooling makes of the images.

    Attributes:
        train: float32 [views x images, features], the images themselves first.
        train_labels: int64 [images].
        eval: float32 [views x images, features], the images themselves first; one view is enough where eval is not to
            teach.
        eval_labels: int64 [images].
        depths: channels of each depth, from the image to the head; their sum is the number of features.
        train_extras: weights and groups of the images of train.
        eval_extras: of eval; weights count where a head learns from eval, never where eval judges.
    """

    train: np.ndarray
    train_labels: np.ndarray
    eval: np.ndarray
    eval_labels: np.ndarray
    depths: tuple[int, ...]
    train_extras: Extras = NO_EXTRAS
    eval_extras: Extras = NO_EXTRAS


@dataclass(frozen=True)
class SolvedHead:
    """The optimum, and how it was found.

    Attributes:
        pooling: what it reads.
        head: on the features as they are.
        strength: of the penalty, chosen.
        shrinkage: of the discriminant whose mean with the regression it is; None where it is the regression alone.
        choice_loss: mean log loss in nats that chose strength and pooling.
        chosen_on: `eval` or `folds`.
        solves: how many times a head was solved.
        train_loss: mean log loss on train in nats.
        train_accuracy: 0..1.
        eval: its logits on eval.
        out_of_fold: logits of train (and eval, where `of_all` learned from it) by heads that did not see the image;
            None where eval chose.
        candidates: the loss of each pooling that was tried.
        of_all: the head that learned from eval, too, once that had chosen; None where it was not to.
    """

    pooling: Pooling
    head: Head
    strength: float
    shrinkage: float | None
    choice_loss: float
    chosen_on: str
    solves: int
    train_loss: float
    train_accuracy: float
    eval: Judged
    out_of_fold: Judged | None
    candidates: dict[str, float]
    of_all: Head | None

    def to_record(self) -> dict[str, Any]:
        """Returns how it was found, as plain JSON types."""
        names = ("pooling", "strength", "shrinkage", "choice_loss", "chosen_on", "solves", "candidates")
        return {name: getattr(self, name) for name in names}


def depths_of(model: ImageClassifier) -> tuple[int, ...]:
    """Returns the channels of each depth that a model's head reads, from the image to the head."""
    network = model.get_layer("backbone")
    roots = next((layer for layer in network.layers if isinstance(layer, RootsLayer)), None)
    if roots is None or not isinstance(roots.input, list):
        return (int(network.output.shape[-1]),)
    return tuple(int(depth.shape[-1]) for depth in roots.input)


@dataclass(frozen=True)
class _Candidate:
    """A pooling, and the best that was found for it.

    Attributes:
        columns: of the widest candidate's features.
        measured: what brings them to what is solved.
        choice: the regression's.
        discriminant: None where its mean with the regression is no better than the regression alone.
        loss: mean log loss in nats on images that the judged heads did not see.
        logits: float64 [judged examples, classes], of these images.
    """

    columns: slice
    measured: Standardisation
    choice: Choice
    discriminant: Discriminant | None
    loss: float
    logits: np.ndarray

    def fit(self, examples: Examples, start: Head, centre: np.ndarray | None, stop: Callable[[], bool]) -> Head:
        """Returns the head on standardised features that these examples give."""
        head = fit(examples, self.choice.strength, start, centre, stop)
        if self.discriminant is None:
            return head
        return head.mean_with(self.discriminant.fit(examples, len(head.bias)))

    def cross_fit(self, examples: Examples, start: Head, seed: int, stop: Callable[[], bool]) -> Judged:
        """Returns logits of the examples, each by a head that the other folds gave."""
        folds, count = make_folds(examples.labels, seed, examples.groups), len(examples.labels)
        logits = np.zeros([count, len(start.bias)])
        for fold in range(FOLDS):
            others = Examples(examples.features, examples.labels, examples.weights * (folds != fold))
            rows = np.flatnonzero(folds == fold)
            logits[rows] = self.fit(others, start, None, stop).logits(examples.features[rows])
        return Judged(logits, examples.labels, np.ones(count), "all")


@few_blas_threads()
def solve_head(
    features: Features,
    class_count: int,
    poolings: Sequence[Pooling],
    *,
    class_weights: np.ndarray | None = None,
    base: tuple[Pooling, np.ndarray] | None = None,
    share: float = 1.0,
    blend: bool = False,
    learn_eval: bool = False,
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
        blend: whether the mean of the regression and of a discriminant is tried, beside the regression alone.
        learn_eval: whether a head that learned from eval, too, is wanted beside the one that eval may judge.
        seed: of folds and of the share.
        stop: is asked between two iterations.

    Raises:
        InterruptedSolveError: `stop` said True.
    """
    labels, extras, count = features.train_labels, features.train_extras, len(features.train_labels)
    weights = weigh_examples(labels, extras, class_weights)
    own = None if extras.weights is None else np.tile(extras.weights, len(features.train) // max(1, count))
    judging = features.eval[: len(features.eval_labels)]
    on_eval = len(judging) >= FEWEST_TO_CALIBRATE
    chosen_rows = np.random.default_rng([seed, 6]).permutation(count) < max(1, round(share * count))
    found: dict[Pooling, _Candidate] = {}
    for pooling in poolings:
        depths = features.depths[-pooled_blocks(pooling) :]
        columns = slice(sum(features.depths) - sum(depths), None)
        measured = standardise(features.train[:, columns], depths, as_a_whole=pooling != "last", weights=own)
        rows = measured.apply(features.train[:, columns])
        examples = Examples(rows, labels, weights * chosen_rows, extras.groups)
        judged = (measured.apply(judging[:, columns]), features.eval_labels) if on_eval else None
        first = min((other.choice for other in found.values()), key=lambda choice: choice.loss, default=None)
        choice = choose_strength(
            examples,
            class_count,
            judged,
            seed=seed,
            first=first.strength if first else 1e-4,
            most_solves=(MOST_SOLVES - 2 - FOLDS) // len(poolings),
            stop=stop,
        )
        found[pooling] = _Candidate(columns, measured, choice, None, choice.loss, choice.logits)
        if blend:
            judges = (features.eval_labels, None) if on_eval else (labels, examples.weights)
            discriminant = choose_discriminant(examples, class_count, judged, choice.logits, seed=seed, stop=stop)
            found[pooling] = _blend(found[pooling], discriminant, judges)
    best = min(found, key=lambda pooling: found[pooling].loss)
    winner = found[best]
    standardised = winner.measured.apply(features.train[:, winner.columns])
    centre = winner.measured.unfold(base[1]) if base is not None and base[0] == best else None
    start = winner.choice.start if centre is None else Head(centre, make_zero_head(*centre.shape).bias)
    solved = winner.fit(Examples(standardised, labels, weights), start, centre, stop)
    logits = solved.logits(standardised[:count])
    out_of_fold = None
    if not on_eval:
        shown, ones = winner.logits[chosen_rows], np.ones(int(chosen_rows.sum()))
        out_of_fold = Judged(shown, labels[chosen_rows], ones, "train" if chosen_rows.all() else "some")
    of_all, solves = None, sum(candidate.choice.solves for candidate in found.values()) + 1
    if learn_eval and len(judging):
        joined = _join_eval(
            standardised, winner.measured.apply(features.eval[:, winner.columns]), features, class_weights
        )
        learned = winner.fit(joined, solved, centre, stop)
        of_all, solves = winner.measured.fold(learned), solves + 1
        if out_of_fold is not None and share == 1.0 and centre is None:
            out_of_fold, solves = winner.cross_fit(joined, learned, seed, stop), solves + FOLDS
    head = winner.measured.fold(solved)
    return SolvedHead(
        pooling=best,
        head=head,
        strength=winner.choice.strength,
        shrinkage=winner.discriminant.shrinkage if winner.discriminant else None,
        choice_loss=winner.loss,
        chosen_on="eval" if on_eval else "folds",
        solves=solves,
        train_loss=float(np.average(log_losses(logits, labels), weights=weights)),
        train_accuracy=float(np.average(logits.argmax(axis=1) == labels, weights=weights)),
        eval=Judged(
            judging[:, winner.columns] @ head.kernel + head.bias,
            features.eval_labels,
            np.ones(len(features.eval_labels)),
        ),
        out_of_fold=out_of_fold,
        candidates={pooling: candidate.loss for pooling, candidate in found.items()},
        of_all=of_all,
    )


def _join_eval(train: np.ndarray, judged: np.ndarray, features: Features, class_weights: np.ndarray | None) -> Examples:
    """Returns train and eval as one, view by view, of their standardised features."""
    views = len(train) // len(features.train_labels)
    labels = np.concatenate([features.train_labels, features.eval_labels])
    pairs = zip(np.split(train, views), np.split(judged, views), strict=True)
    extras = features.train_extras.join(features.eval_extras, (len(features.train_labels), len(features.eval_labels)))
    weights = weigh_examples(labels, extras, class_weights)
    return Examples(np.concatenate([part for pair in pairs for part in pair]), labels, weights, extras.groups)


def _blend(
    candidate: _Candidate, discriminant: Discriminant, judges: tuple[np.ndarray, np.ndarray | None]
) -> _Candidate:
    """Returns the candidate with the discriminant, if the mean of both is better on the labels that judge."""
    logits = (candidate.logits + discriminant.logits) / 2
    loss = float(np.average(log_losses(logits, judges[0]), weights=judges[1]))
    if loss >= candidate.loss:
        return candidate
    return replace(candidate, discriminant=discriminant, loss=loss, logits=logits)


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
