"""What a model may decide by itself: overall or by class, of images that it knows, and what is said of it."""

from dataclasses import replace

import numpy as np
import pytest

from components.exported_model.decision import NEVER
from components.trainer.competition import Judged
from components.trainer.deciding import check_targets, decide
from components.trainer.decision_settings import DecisionSettings
from components.trainer.known_images import KnownFit, fit_known_images
from data.errors import UserError

CLASSES = ["ant", "bee"]


def judge(images: int = 400) -> Judged:
    """Returns logits whose answers are right where they are sure; those of `bee` only by chance."""
    random = np.random.default_rng(0)
    sure = random.uniform(0.0, 6.0, images)
    answers = np.arange(images) % 2
    right = np.where(
        answers == 0, random.uniform(size=images) < 1 / (1 + np.exp(-sure)), random.uniform(size=images) < 0.5
    )
    logits = np.where(np.arange(2) == answers[:, None], sure[:, None], 0.0)
    return Judged(logits, np.where(right, answers, 1 - answers), np.ones(images))


def known() -> KnownFit:
    random = np.random.default_rng(1)
    features, labels = random.normal(size=(100, 3)), np.arange(100) % 2
    features[:, 0] += 4 * labels
    judged = random.normal(size=(400, 3))
    judged[:, 0] += 4 * (np.arange(400) % 2)
    found = fit_known_images((features, labels), judged, 2, [3], roots=False)
    assert found is not None
    return found


def test_with_nothing_asked_for_every_answer_is_a_decision() -> None:
    found = decide(DecisionSettings(), CLASSES, judge(), known())
    assert found.rule.asks_nothing
    assert found.rule.outcomes == ()
    assert found.rule.decides(np.array([[0.5, 0.5]]), np.array([9.0])).all()
    assert found.known is not None


def test_a_target_by_class_binds_that_class_alone() -> None:
    settings = DecisionSettings(target_precision={"ant": 0.9}, refuse_unknown=False)
    found = decide(settings, CLASSES, judge(), known())
    ant, bee = found.rule.thresholds
    assert 0.5 < ant < 1.0
    assert bee == 0.0
    assert "a precision of 0.9 of ant is shown, at 95% confidence, from a probability of" in found.rule.outcomes[0]
    both = decide(DecisionSettings(target_precision={"ant": 0.9, "bee": 0.9}), CLASSES, judge(), None)
    assert both.rule.thresholds[1] == NEVER or both.rule.thresholds[1] > 1.0
    assert "of bee cannot be shown on 200 images" in both.rule.outcomes[1]
    assert not both.rule.decides(np.array([[0.0, 1.0]]), np.zeros(1)).any()


def test_with_a_target_unknown_images_are_a_persons() -> None:
    found = decide(DecisionSettings(target_precision=0.6), CLASSES, judge(), known())
    assert found.rule.refuse_unknown
    sure = np.array([[1.0, 0.0]])
    assert found.rule.decides(sure, np.array([0.9])).all()
    assert not found.rule.decides(sure, np.array([1.1])).any()
    assert found.rule.coverage is not None
    assert 0.3 < found.rule.coverage < 0.99


def test_the_same_is_chosen_each_time() -> None:
    settings = DecisionSettings(target_precision=0.6)
    first, second = (decide(settings, CLASSES, judge(), known()) for _ in range(2))
    assert first.rule == second.rule
    assert first.to_record() == second.to_record()


def test_a_target_for_a_class_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        UserError, match="names the class 'bea', which none of the model's 2 classes is; the nearest are bee"
    ):
        check_targets(DecisionSettings(target_precision={"bea": 0.9}), CLASSES)


def test_images_of_train_are_scored_as_such_where_eval_has_as_many() -> None:
    far_of_train, far_of_eval = (np.repeat(np.arange(400) % every == 0, 2).reshape(400, 2) for every in (50, 5))
    fit = replace(known(), train=9.0 * far_of_train, eval=9.0 * far_of_eval)
    settings = DecisionSettings(target_precision=0.5, unknown_share=0.2)
    assert decide(settings, CLASSES, replace(judge(), images="train"), fit).rule.coverage == pytest.approx(0.98)
    assert decide(settings, CLASSES, judge(), fit).rule.coverage == pytest.approx(0.8)
