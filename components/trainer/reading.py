"""What the steps of a phase read: images, or what the layers that are frozen in it made of them once."""

from collections.abc import Callable
from dataclasses import dataclass

from components.trainer.feature_cache import FeatureCache, can_cache_features
from components.trainer.feature_store import FeatureStore
from components.trainer.inputs import Split
from components.trainer.learner import Forward, Judge
from components.trainer.model import ImageClassifier
from components.trainer.phases import Phase
from components.trainer.prefix_cache import plan_prefix_cache
from components.trainer.settings import ResolvedSettings
from components.trainer.standardised_head import StandardisedHead, settings_of_steps
from components.trainer.start import Rows


@dataclass(frozen=True)
class Reading:
    """The splits of a phase, and what they hold.

    Attributes:
        train: of images, features, or rows.
        eval: the same.
        judge: reads eval.
        settings: of the steps.
        reads_features: see `Learner`.
        forward: see `Learner`.
        standardised: the head, where it learns on standardised features; to be folded when the phase is over.
    """

    train: Split
    eval: Split
    judge: Judge
    settings: ResolvedSettings
    reads_features: bool = False
    forward: Forward | None = None
    standardised: StandardisedHead | None = None


def open_reading(
    phase: Phase,
    settings: ResolvedSettings,
    images: tuple[Split, Split],
    model: ImageClassifier,
    kept: Rows | None,
    done_epochs: int,
    store: FeatureStore | None,
    until: Callable[[], bool],
) -> Reading | None:
    """Returns what a phase reads, computed if that is faster.

    Args:
        phase: whose blocks are set trainable.
        settings: those of the training.
        images: train and eval.
        model: that learns.
        kept: rows that are there already.
        done_epochs: of the phase, by a run that was killed.
        store: keeps features over a kill; None where they are not to be kept.
        until: is asked after each batch that is computed; if it says True, the result is None.
    """
    train, judged = images
    if can_cache_features(phase, settings, train, model):
        cache = FeatureCache(model, settings.recipe, store)
        views = min(settings.feature_cache_views, phase.epochs)
        features = cache.compute(train, "train", views, until)
        eval_features = cache.compute(judged, "eval", 0, until) if features else None
        if features is None or eval_features is None:
            return None
        reading = Reading(features, eval_features, Judge(model, reads_features=True), settings, reads_features=True)
    else:
        rows, goes_on = (kept, True) if kept else _compute_rows(phase, settings, images, model, done_epochs, until)
        if not goes_on:
            return None
        reading = Reading(train, judged, Judge(model), settings)
        if rows is not None:
            forward = rows.cache.forward
            reading = Reading(rows.train, rows.eval, Judge(model, forward=forward), settings, forward=forward)
    if settings.head != "standardised" or phase.blocks:
        return reading
    head = StandardisedHead(model, reading.train, reads_features=reading.reads_features)
    judge = Judge(model, forward=head.judge_forward)
    own = settings_of_steps(settings)
    return Reading(reading.train, reading.eval, judge, own, reading.reads_features, head.forward, head)


def _compute_rows(
    phase: Phase,
    settings: ResolvedSettings,
    images: tuple[Split, Split],
    model: ImageClassifier,
    done_epochs: int,
    until: Callable[[], bool],
) -> tuple[Rows | None, bool]:
    """Returns the rows, None where images are as fast, and whether the training may go on."""
    cache = plan_prefix_cache(phase, settings, *images, model, done_epochs)
    if cache is None:
        return None, True
    computed: list[Split] = []
    for split, name in zip(images, ("train", "eval"), strict=True):
        found = cache.compute(split, name, until=until)
        if found is None:
            return None, False
        computed.append(found)
    return Rows(cache, *computed), True
