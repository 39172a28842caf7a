"""The first part of a recipe: features of the frozen backbone, the head solved on them, and the model that has it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from components.progress import report_progress
from components.trainer.assembly import Assembly
from components.trainer.augmentation import make_augment, mirror, random_crop, random_flip
from components.trainer.backbones import pooled_blocks
from components.trainer.batches import Augment, Share
from components.trainer.class_weights import make_class_weights
from components.trainer.competition import Competition, Judged
from components.trainer.extras import known_extras
from components.trainer.feature_store import FeatureStore
from components.trainer.inputs import Split
from components.trainer.known_images import KnownFit, fit_known_images
from components.trainer.logistic_regression import Head, InterruptedSolveError, log_losses
from components.trainer.model import ImageClassifier, set_trainable_blocks
from components.trainer.phases import EpochResult, make_phases
from components.trainer.preemption import Preemption
from components.trainer.prefix_cache import PrefixCache, PrefixSplit, join_views, plan_prefix_cache
from components.trainer.settings import ResolvedSettings
from components.trainer.solving import (
    Features,
    SolvedHead,
    depths_of,
    read_head,
    set_head,
    solve_head,
    widen,
)
from components.trainer.start import Rows, Start
from components.trainer.strategy import describe_strategy

SOLVE = "solve"
"""The phase of the solved head's row, whose epoch is 0: before the first step."""

_CROPPED_AREA = 0.5


def solve_first_head(
    made: Assembly, store: FeatureStore, leave: Callable[[Features, SolvedHead], None] | None = None
) -> tuple[Start, SolvedHead]:
    """Gives the model the solved head, and opens the competition with it.

    The model goes on reading the widest pooling; what the head does not read of it has a kernel of 0 until the head is
    `narrow`ed: the head rests from now on, and checkpoints of all choices have one form.

    Args:
        made: whose model reads the widest pooling.
        store: keeps the features.
        leave: is given the features and the head.
    """
    started, settings, model = time.monotonic(), made.settings, made.model
    with Preemption() as preemption:

        def noticed() -> bool:
            return preemption.noticed

        computed = _compute_features(made, store, noticed)
        if computed is None:
            preemption.leave()
        features, rows = computed
        report_progress("solving the head")
        classes = model.output_shape[-1]
        class_weights = make_class_weights(settings, made.train_split, classes)
        try:
            solved = solve_head(
                features,
                classes,
                made.poolings,
                class_weights=class_weights,
                base=made.base_head,
                share=made.plan.choosing_share,
                blend=made.plan.blends and made.base_head is None,  # a discriminant knows of no base
                learn_eval=settings.learn_from_eval,
                seed=settings.seed,
                stop=noticed,
            )
        except InterruptedSolveError:
            preemption.leave()
    if leave is not None:
        leave(features, solved)
    if made.base_head is not None and made.base_head[0] != solved.pooling:
        report_progress(f"the base's head reads {made.base_head[0]}: none of its rows can be kept", lasting=True)
    if made.file_head:
        solved = _prefer_head_of_file(read_head(model), solved, features)
    set_head(model, widen(solved.head, sum(features.depths)))
    eval_loss, eval_accuracy = solved.eval.loss_and_accuracy()
    row = EpochResult(
        phase=SOLVE,
        epoch=0,
        loss=solved.train_loss,
        accuracy=solved.train_accuracy,
        eval_loss=eval_loss,
        eval_accuracy=eval_accuracy,
        learning_rate=0.0,
        seconds=round(time.monotonic() - started, 3),
    )
    known = _fit_known_images(features, solved, classes, settings.seed)
    return Start(row, Competition(solved.eval, solved.out_of_fold), rows, known=known), solved


def _fit_known_images(features: Features, solved: SolvedHead, classes: int, seed: int) -> KnownFit | None:
    """Returns what tells unknown images, from what the solved head reads of each image as it is."""
    depths = features.depths[-pooled_blocks(solved.pooling) :]
    train, judged = (
        values[: len(labels), -sum(depths) :]
        for values, labels in ((features.train, features.train_labels), (features.eval, features.eval_labels))
    )
    return fit_known_images(
        (train, features.train_labels),
        judged,
        classes,
        depths,
        roots=solved.pooling != "last",
        groups=features.train_extras.groups,
        seed=seed,
    )


def learn_from_eval(model: ImageClassifier, start: Start, solved: SolvedHead) -> bool:
    """Gives the model the head that learned from eval, too, if the solved head is what is shipped; says whether."""
    if solved.of_all is None or not start.competition.solved_is_best:
        return False
    images = len(solved.eval.labels)
    report_progress(f"solved head shipped; it has learned from the {images:,} images of eval, too", lasting=True)
    set_head(model, widen(solved.of_all, len(read_head(model).kernel)))
    return True


def _prefer_head_of_file(own: Head, solved: SolvedHead, features: Features) -> SolvedHead:
    """Returns the head of a file of weights, if it does better on images that neither it nor the solved one learned."""
    train = own.logits(features.train[: len(features.train_labels)])
    judged = own.logits(features.eval[: len(features.eval_labels)])
    on_eval = solved.chosen_on == "eval"
    logits, labels = (judged, features.eval_labels) if on_eval else (train, features.train_labels)
    loss = float(log_losses(logits, labels).mean())
    if loss >= solved.choice_loss:
        return solved
    report_progress(f"the head in the file of weights is better than the solved one: {loss:.3f}", lasting=True)
    train_loss, train_accuracy = Judged(train, features.train_labels, np.ones(len(train))).loss_and_accuracy()
    return replace(
        solved,
        head=own,
        of_all=None,
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        eval=replace(solved.eval, logits=judged),
        out_of_fold=None if on_eval else Judged(train, features.train_labels, np.ones(len(train)), "train"),
    )


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


def _compute_features(
    made: Assembly, store: FeatureStore, until: Callable[[], bool]
) -> tuple[Features, Rows | None] | None:
    """Returns the features, and what fine-tuning reads in place of images, in one pass; None if it is to leave."""
    settings, model = made.settings, made.model
    views: list[Augment | None] = [None]
    views += [make_view(settings, number) for number in range(1, settings.feature_cache_views + 1)]
    drawn = f"{settings.seed}-{settings.random_flip:d}-{settings.random_crop_area:g}-{settings.trivial_augment:g}"
    cache = _plan_rows(made)
    found: dict[str, list[np.ndarray]] = {}
    labels: dict[str, np.ndarray] = {}
    rows: dict[str, list[PrefixSplit]] = {"train": [], "eval": []}
    for name, split in (("train", made.train_split), ("eval", made.eval_split)):
        for number, view in enumerate(views):
            if name == "eval" and number and not settings.learn_from_eval:
                break
            source: Split = split
            key = f"{name}-view-{number}-{drawn}" if number else name
            # What fine-tuning will not read again is computed from the images: eval judges it as it is.
            cut = None if name == "eval" and number else cache
            if cut is not None:
                computed = cut.compute(split, key, until, view)
                if computed is None:
                    return None
                rows[name].append(computed)
                source = computed
            changed = None if view is None or cut is not None else (number, view)
            features = store.compute(model, source, key, changed, until, cut.features if cut is not None else None)
            if features is None:
                return None
            found.setdefault(name, []).append(features[0])
            labels[name] = features[1]
    kept = Rows(cache, join_views(rows["train"]), rows["eval"][0]) if cache else None
    train, judged = (np.concatenate(found[name]) for name in ("train", "eval"))
    extras = known_extras(made.train_split), known_extras(made.eval_split)
    return Features(train, labels["train"], judged, labels["eval"], depths_of(model), *extras), kept


def _plan_rows(made: Assembly) -> PrefixCache | None:
    settings = made.settings
    phases = make_phases(settings)
    if not phases:
        return None
    set_trainable_blocks(made.model, phases[0].blocks)
    views = settings.feature_cache_views
    return plan_prefix_cache(phases[0], settings, made.train_split, made.eval_split, made.model, views=views)
