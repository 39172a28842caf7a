"""When the trained model may answer by itself, and which images it does not know: settled on eval, at the end."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from components.exported_model.decision import NEVER, DecisionRule
from components.progress import report_progress
from components.trainer.competition import Judged
from components.trainer.decision_settings import DecisionSettings
from components.trainer.extras import known_extras
from components.trainer.feature_store import FeatureStore
from components.trainer.inputs import Split
from components.trainer.known_images import KnownFit, KnownImages, fit_known_images
from components.trainer.model import ImageClassifier
from components.trainer.solving import depths_of, read_head
from components.trainer.threshold import Shown, choose_threshold
from data.errors import UserError

METHOD = "Learn then Test, Angelopoulos et al. 2021"


@dataclass(frozen=True)
class Decided:
    """What the export carries.

    Attributes:
        rule: when it decides.
        known: what tells unknown images; None where nothing could be fitted.
        remark: why not; empty where it could.
        images: where the rule comes from: `eval`, or `folds`, of train and of eval where the head learned from it, too.
    """

    rule: DecisionRule
    known: KnownImages | None
    remark: str
    images: str

    def to_record(self) -> dict[str, Any]:
        """Returns it for the record of the training, without the fit."""
        return {**self.rule.model_dump(), "images": self.images, "knows_all": self.remark or None}


def decide(
    settings: DecisionSettings,
    classes: Sequence[str],
    judged: Judged,
    fit: KnownFit | None,
    *,
    images: str = "eval",
    remark: str = "",
) -> Decided:
    """Chooses the rule, and says it on the screen.

    Args:
        settings: what is asked for.
        classes: in the order of the logits.
        judged: logits at the temperature that is shipped, by heads that did not learn from the images.
        fit: of train; None knows every image.
        images: see `Decided`.
        remark: why there is no fit.

    Raises:
        UserError: a target of a class that the model does not have.
    """
    targets = _targets(settings, classes)
    refuses = settings.refuse_unknown if settings.refuse_unknown is not None else bool(targets)
    known = fit.scaled(settings.unknown_share) if fit else None
    scores = _scores(known, fit, judged)
    probabilities = softmax(judged.logits, axis=1)
    likeliest = probabilities.argmax(axis=1)
    rows = np.arange(len(likeliest))
    confidences, correct = probabilities[rows, likeliest], likeliest == judged.labels
    asked = scores <= 1.0 if refuses else np.ones(len(scores), bool)
    thresholds, outcomes = np.zeros(len(classes)), []
    for class_id, target in targets.items():
        chosen = asked if class_id is None else asked & (likeliest == class_id)
        shown = choose_threshold(confidences[chosen], correct[chosen], target, settings.confidence)
        thresholds[slice(None) if class_id is None else class_id] = (
            NEVER if shown.threshold is None else shown.threshold
        )
        outcomes.append(
            _describe(shown, target, settings.confidence, class_id if class_id is None else classes[class_id])
        )
    # Of float32 probabilities: the last image that was counted is to be one of those that are answered.
    rounded = tuple(float(np.nextafter(np.float32(one), np.float32(0.0))) for one in thresholds)
    rule = DecisionRule(thresholds=rounded, refuse_unknown=refuses, outcomes=tuple(outcomes))
    if targets or refuses:
        share = float(rule.decides(probabilities, scores).mean()) if len(scores) else 0.0
        rule = rule.model_copy(update={"coverage": share})
    for text in filter(None, [*outcomes, remark]):
        report_progress(text, lasting=True)
    return Decided(rule, known, remark, images)


def check_targets(settings: DecisionSettings, classes: Sequence[str]) -> None:
    """Raises UserError for a target of a class that the model does not have; before anything is trained."""
    _targets(settings, classes)


def _targets(settings: DecisionSettings, classes: Sequence[str]) -> dict[int | None, float]:
    """Returns class index, or None for all of them, to precision; empty where nothing is asked."""
    asked = settings.target_precision
    if asked is None:
        return {}
    if not isinstance(asked, dict):
        return {None: asked}
    for name in asked:
        if name not in classes:
            near = ", ".join(difflib.get_close_matches(name, classes, n=3, cutoff=0.0))
            raise UserError(
                f"decision.target_precision names the class {name!r}, which none of the model's {len(classes)} classes "
                f"is; the nearest are {near}"
            )
    return {list(classes).index(name): target for name, target in asked.items()}


def _scores(known: KnownImages | None, fit: KnownFit | None, judged: Judged) -> np.ndarray:
    """Returns the scores of the images that judge, float64 [images]; 0 of those that were not measured."""
    count = len(judged.labels)
    if known is None or fit is None:
        return np.zeros(count)
    train = np.zeros([0, 2]) if fit.train is None else fit.train
    measured = {"eval": fit.eval, "train": train, "all": np.concatenate([train, fit.eval])}
    distances = measured.get(judged.images)
    if distances is None or len(distances) != count:  # which of train's images `some` are is not known here
        return np.zeros(count)
    return known.scale_distances(distances)


def _describe(shown: Shown, target: float, confidence: float, name: str | None) -> str:
    what = f"a precision of {target:g}" + (f" of {name}" if name else "")
    if shown.threshold is None:
        more = f"that needs about {shown.needed:,}" if shown.needed else "more images of this kind would not help"
        return f"{what} cannot be shown on {shown.images:,} images, {more}: nothing is decided"
    return (
        f"{what} is shown, at {confidence:.0%} confidence, from a probability of {shown.threshold:.3f} on: "
        f"{shown.answered:,} of {shown.images:,} images, {shown.errors:,} of them wrong ({METHOD})"
    )


def compute_fit(
    model: ImageClassifier, train_split: Split, eval_split: Split, seed: int
) -> tuple[KnownFit | None, Judged]:
    """Fits train's images in a pass over train and eval, and returns the logits of eval, too.

    Args:
        model: as it is shipped.
        train_split: of images.
        eval_split: as well.
        seed: of folds.
    """
    # Not kept: these are the features of the model as it is now, in a pass at the end.
    store = FeatureStore(None, {})
    train = store.compute(model, train_split, "train, to know its images")
    judged = store.compute(model, eval_split, "eval, to know its images")
    assert train is not None, "nobody asked it to stop"
    assert judged is not None, "nobody asked it to stop"
    head = read_head(model)
    fit = fit_known_images(
        train,
        judged[0],
        len(head.bias),
        depths_of(model),
        roots=model.pooling != "last",
        groups=known_extras(train_split).groups,
        seed=seed,
    )
    return fit, Judged(head.logits(judged[0]), judged[1], np.ones(len(judged[1])))
