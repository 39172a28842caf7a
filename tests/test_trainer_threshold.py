"""The threshold keeps its promise over many draws, and says what it would take where it cannot make one."""

import numpy as np
import pytest

from components.trainer.threshold import choose_threshold


def draw(random: np.random.Generator, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns confidences, and answers that are right as often as 0.55 + 0.45 * confidence."""
    confidences = random.uniform(0.2, 1.0, images)
    return confidences, random.uniform(size=images) < 0.55 + 0.45 * confidences


def precision_from(threshold: float) -> float:
    """Returns the true precision from a threshold on: the mean over the confidences above it."""
    return 0.55 + 0.45 * (threshold + 1.0) / 2


def test_the_target_is_missed_in_at_most_the_stated_share_of_draws() -> None:
    random, missed, shown = np.random.default_rng(0), 0, 0
    for _ in range(100):
        found = choose_threshold(*draw(random, 400), 0.9, 0.9)
        shown += found.threshold is not None
        missed += found.threshold is not None and precision_from(found.threshold) < 0.9
    # 0.1 of 100 are 10; three standard deviations of that count are 9.
    assert missed <= 19
    assert shown > 40


def test_a_search_without_a_guarantee_would_miss_it_far_more_often() -> None:
    random, missed = np.random.default_rng(0), 0
    for _ in range(400):
        confidences, correct = draw(random, 400)
        order = np.argsort(-confidences)
        precision = np.cumsum(correct[order]) / np.arange(1, 401)
        missed += precision_from(confidences[order][np.flatnonzero(precision >= 0.9).max()]) < 0.9
    assert missed > 120


def test_a_faultless_model_answers_everything_from_the_least_confidence_on() -> None:
    confidences = np.linspace(0.3, 1.0, 200)
    found = choose_threshold(confidences, np.ones(200, bool), 0.95, 0.9)
    assert (found.threshold, found.answered, found.errors) == (pytest.approx(0.3), 200, 0)


def test_equally_sure_images_are_answered_together() -> None:
    found = choose_threshold(np.full(300, 0.8), np.arange(300) % 100 > 0, 0.9, 0.9)
    assert (found.threshold, found.answered, found.errors) == (0.8, 300, 3)
    assert choose_threshold(np.full(300, 0.8), np.arange(300) % 2 > 0, 0.9, 0.9).threshold is None


@pytest.mark.parametrize(("images", "needed"), [(0, None), (20, 90)])
def test_too_few_images_show_nothing_and_it_is_told_how_many_would(images: int, needed: int | None) -> None:
    found = choose_threshold(np.linspace(0.5, 1.0, images), np.ones(images, bool), 0.95, 0.9)
    assert found.threshold is None
    assert found.images == images
    assert found.needed == (None if needed is None else pytest.approx(needed, rel=0.1))
    if needed:
        assert choose_threshold(np.linspace(0.5, 1.0, found.needed), np.ones(found.needed, bool), 0.95, 0.9).threshold


def test_a_model_that_is_wrong_too_often_is_not_helped_by_more_images() -> None:
    random = np.random.default_rng(0)
    found = choose_threshold(random.uniform(size=500), random.uniform(size=500) < 0.5, 0.95, 0.9)
    assert (found.threshold, found.needed) == (None, None)
