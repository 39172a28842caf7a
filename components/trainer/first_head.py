"""The first part of a recipe: features of the frozen backbone, the head solved on them, and the model that has it."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from components.progress import report_progress
from components.trainer.assembly import Assembly
from components.trainer.augmentation import make_augment, mirror, random_crop, random_flip
from components.trainer.batches import Augment, Share
from components.trainer.competition import Competition
from components.trainer.feature_store import FeatureStore
from components.trainer.inputs import balance_classes
from components.trainer.logistic_regression import InterruptedSolveError, log_losses
from components.trainer.model import ImageClassifier, repool
from components.trainer.phases import EpochResult
from components.trainer.preemption import Preemption
from components.trainer.settings import ResolvedSettings
from components.trainer.solving import Features, SolvedHead, depths_of, read_head, set_head, solve_head
from components.trainer.strategy import describe_strategy
from components.trainer.training import Start

SOLVE = "solve"
"""The phase of the solved head's row, whose epoch is 0: before the first step."""

_CROPPED_AREA = 0.5
_MOST_SOLVER_WORK = 100 * 60 * 4  # solves, iterations, and operations on each number of features x classes


def solve_first_head(made: Assembly, store: FeatureStore) -> tuple[ImageClassifier, Start, SolvedHead]:
    """Returns the model with the solved head, which reads what did best, and the competition that it opens.

    Args:
        made: whose model reads the widest pooling.
        store: keeps the features.
    """
    started, settings = time.monotonic(), made.settings
    with Preemption() as preemption:

        def noticed() -> bool:
            return preemption.noticed

        features = _compute_features(made, store, noticed)
        if features is None:
            preemption.leave()
        report_progress("solving the head")
        classes = made.model.output_shape[-1]
        counts = np.bincount(features.train_labels, minlength=classes)
        class_weights = balance_classes(counts) if settings.class_weights == "balanced" else None
        try:
            solved = solve_head(
                features,
                classes,
                made.poolings,
                class_weights=class_weights,
                base=made.base_head,
                share=_share_that_chooses(made, sum(features.depths), classes),
                seed=settings.seed,
                stop=noticed,
            )
        except InterruptedSolveError:
            preemption.leave()
    head, of_the_file = solved.head, False
    if made.file_head:
        own = read_head(made.model)
        if solved.out_of_fold is None:
            loss = float(log_losses(features.eval @ own.kernel + own.bias, features.eval_labels).mean())
        else:
            train = features.train[: len(features.train_labels)]
            loss = float(log_losses(train @ own.kernel + own.bias, features.train_labels).mean())
        of_the_file = loss < solved.choice_loss
        if of_the_file:
            report_progress(
                f"the head in the file of weights is better than the solved one: log loss {loss:.3f}", lasting=True
            )
            head = own
    with made.model.distribute_strategy.scope():
        model = made.model if solved.pooling == made.model.pooling else repool(made.model, solved.pooling)
    set_head(model, head)
    judged = solved.eval
    if of_the_file:
        judged = type(judged)(features.eval @ head.kernel + head.bias, judged.labels, judged.weights)
    known = judged.labels >= 0
    judged = type(judged)(judged.logits[known], judged.labels[known], judged.weights[known])
    eval_loss, eval_accuracy = judged.loss_and_accuracy()
    row = EpochResult(
        SOLVE,
        0,
        solved.train_loss,
        solved.train_accuracy,
        eval_loss,
        eval_accuracy,
        0.0,
        round(time.monotonic() - started, 3),
    )
    return model, Start(row, Competition(judged, None if of_the_file else solved.out_of_fold)), solved


def mark_features(made: Assembly, files: Sequence[str], *, base: str | None, code: str | None) -> dict[str, Any]:
    """Returns all that features depend on, but for the split and the view; see `FeatureStore`.

    Args:
        made: model, settings and strategy.
        files: of train and eval; patterns, too.
        base: the folder of the base of a warm start.
        code: hash of what computes features.
    """
    found = sorted(tf.io.gfile.glob(list(files)))
    return {
        "files": [(file, tf.io.gfile.stat(file).length) for file in found],
        "backbone": made.settings.backbone,
        "weights": made.weights.sha256 or ["none", made.settings.seed],
        "base": base,
        "code": code,
        "image_size": made.model.input_shape[1],
        "precision": made.precision.name,
        "devices": describe_strategy(made.model.distribute_strategy),
        "batch_size": made.settings.batch_size,
        "pooling": made.model.pooling,
    }


def make_view(settings: ResolvedSettings, number: int) -> Augment:
    """Returns how a view changes the images: as the settings say, else mirrored, and cropped from the second on."""
    asked = make_augment(settings)
    if asked is not None:
        return asked
    if number == 1:
        return mirror

    def crop(images: tf.Tensor, seed: tf.Tensor, share: Share) -> tf.Tensor:
        seeds = tf.random.experimental.stateless_fold_in(seed, 0), tf.random.experimental.stateless_fold_in(seed, 1)
        return random_flip(random_crop(images, seeds[0], _CROPPED_AREA, share), seeds[1], share)

    return crop


def _compute_features(made: Assembly, store: FeatureStore, until: Callable[[], bool]) -> Features | None:
    settings, model = made.settings, made.model
    train = store.compute(model, made.train_split, "train", until=until)
    if train is None:
        return None
    views = [train[0]]
    drawn = f"{settings.seed}-{settings.random_flip:d}-{settings.random_crop_area:g}-{settings.trivial_augment:g}"
    for number in range(1, settings.feature_cache_views + 1):
        view = number, make_view(settings, number)
        found = store.compute(model, made.train_split, f"train-view-{number}-{drawn}", view, until)
        if found is None:
            return None
        views.append(found[0])
    judged = store.compute(model, made.eval_split, "eval", until=until)
    if judged is None:
        return None
    return Features(np.concatenate(views), train[1], *judged, depths_of(model))


def _share_that_chooses(made: Assembly, features: int, classes: int) -> float:
    """Returns the share of train on which choosing takes no longer than the feature pass, by arithmetic.

    Not by the clock: the same images must give the same model.
    """
    per_image = _MOST_SOLVER_WORK * features * classes * (1 + made.settings.feature_cache_views)
    return min(1.0, made.forward_operations / per_image)
