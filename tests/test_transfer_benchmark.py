"""The transfer benchmark's own arithmetic: splits, paired comparisons, calibration, requirements, what is kept."""

import hashlib
import random
from collections import Counter
from math import comb
from pathlib import Path

import numpy as np
import pytest

from components.evaluator.definitions import Answers
from components.report_gen.intervals import draw_figures
from tests.benchmarks.transfer import Results, estimate_seconds
from tests.benchmarks.transfer_contenders import CONTENDERS
from tests.benchmarks.transfer_data import SPLITS, Limits, Photo, describe_split, split_photos
from tests.benchmarks.transfer_scores import (
    Judged,
    calibration_bound,
    calibration_error,
    count_wins,
    describe,
    judge_requirements,
    paired_difference,
)

LIMITS = Limits(train=300, eval=100, test=300)


def make_photos(count: int, label: str, declared: str | None = None) -> list[Photo]:
    names = [f"{declared or ''}/{label}/{number}" for number in range(count)]
    return [Photo(name, label, declared, hashlib.sha256(name.encode()).hexdigest()) for name in names]


def count_split(photos: list[Photo], limits: Limits = LIMITS) -> dict[str, int]:
    return describe_split(split_photos(photos, limits))["counts"]


def test_the_order_of_files_does_not_change_a_split() -> None:
    photos = make_photos(90, "ant") + make_photos(60, "bee")
    expected = split_photos(photos, LIMITS)
    random.Random(0).shuffle(photos)
    assert split_photos(photos, LIMITS) == expected


def test_splits_are_disjoint_and_hold_every_image_where_no_limit_is_reached() -> None:
    photos = make_photos(90, "ant") + make_photos(60, "bee")
    split = split_photos(photos, LIMITS)
    hashes = [photo.sha256 for name in SPLITS for photo in split[name]]
    assert sorted(hashes) == sorted(photo.sha256 for photo in photos)
    assert {name: len(split[name]) for name in SPLITS} == {"train": 150 - 38 - 22, "eval": 22, "test": 38}


def test_a_cut_keeps_the_shares_of_the_classes() -> None:
    split = split_photos(make_photos(120, "ant") + make_photos(40, "bee"), LIMITS)
    assert Counter(photo.label for photo in split["test"]) == {"ant": 30, "bee": 10}


def test_train_takes_at_most_its_limit_and_all_of_a_rare_class() -> None:
    photos = make_photos(500, "ant") + make_photos(500, "bee") + make_photos(20, "cat")
    split = split_photos(photos + make_photos(50, "ant", "test") + make_photos(50, "bee", "eval"), LIMITS)
    found = Counter(photo.label for photo in split["train"])
    assert found == {"ant": 140, "bee": 140, "cat": 20}


def test_what_train_leaves_goes_to_the_splits_that_are_cut() -> None:
    photos = [photo for label in "abcdef" for photo in make_photos(100, label)]
    assert count_split(photos) == {"train": 300, "eval": 100, "test": 200}


def test_declared_splits_stand() -> None:
    photos = make_photos(200, "ant", "train") + make_photos(200, "bee", "train") + make_photos(400, "ant", "test")
    split = split_photos(photos + make_photos(120, "bee", "eval"), LIMITS)
    assert {name: len(split[name]) for name in SPLITS} == {"train": 300, "eval": 100, "test": 300}
    for name in SPLITS:
        assert {photo.declared for photo in split[name]} == {name}


def test_of_copies_the_one_in_test_is_kept_and_two_labels_keep_none() -> None:
    photos = make_photos(40, "ant", "train") + make_photos(40, "bee", "train") + make_photos(9, "bee", "test")
    copy = Photo("test/ant/copy", "ant", "test", photos[0].sha256)
    contradiction = Photo("train/bee/other", "bee", "train", photos[1].sha256)
    split = split_photos([*photos, copy, contradiction], LIMITS)
    where = {photo.sha256: name for name in SPLITS for photo in split[name]}
    assert where[photos[0].sha256] == "test"
    assert photos[1].sha256 not in where


@pytest.mark.parametrize(
    ("photos", "message"),
    [
        (make_photos(50, "ant"), "it has 1 class folders, and a classifier needs at least two"),
        (make_photos(9, "ant", "train") + make_photos(9, "bee", "test"), "the class 'bee' has no image in train"),
        (make_photos(1, "ant") + make_photos(1, "bee"), "no image is left for train"),
    ],
)
def test_a_set_that_cannot_be_split_is_refused(photos: list[Photo], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_photos(photos, LIMITS)


def test_wins_are_judged_by_the_exact_binomial() -> None:
    ours = np.array([True] * 12 + [False] * 3 + [True] * 20 + [False] * 5)
    theirs = np.array([False] * 12 + [True] * 3 + [True] * 20 + [False] * 5)
    p = 2 * sum(comb(15, losses) for losses in range(4)) / 2**15
    assert count_wins(ours, theirs) == (12, 3, pytest.approx(p))
    assert count_wins(theirs, ours) == (3, 12, pytest.approx(p))
    assert count_wins(ours, ours) == (0, 0, 1.0)


def test_the_error_of_a_difference_is_paired() -> None:
    shared = np.random.default_rng(0).random(400) < 0.7
    ours = shared.copy()
    ours[:10] = ~ours[:10]
    difference, error = paired_difference(ours, shared)
    wins, losses = int((ours & ~shared).sum()), int((~ours & shared).sum())
    assert difference == pytest.approx((wins - losses) / 400)
    # The variance of win, loss and tie; far below that of two independent shares.
    assert error == pytest.approx(np.sqrt(((wins + losses) / 400 - difference**2) / 399))
    assert error < 0.3 * np.sqrt(2 * shared.mean() * (1 - shared.mean()) / 400)


def make_probabilities(images: int, classes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), images).astype(np.float32)


def make_labels(probabilities: np.ndarray, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).random([len(probabilities), 1])
    return np.minimum((probabilities.cumsum(1) < drawn).sum(1), probabilities.shape[1] - 1)


def test_the_calibration_error_is_the_reports() -> None:
    probabilities = make_probabilities(211, 5, seed=1)
    labels = make_labels(probabilities, seed=2)
    expected = draw_figures(Answers(labels, probabilities), np.ones([1, 211], np.float32), with_auc=False)["ece"]
    correct = (probabilities.argmax(1) == labels)[None]
    assert calibration_error(probabilities.max(1), correct) == pytest.approx(expected, abs=1e-6)


def test_labels_drawn_from_the_probabilities_stay_within_the_bound_in_nineteen_of_twenty_cases() -> None:
    probabilities = make_probabilities(150, 4, seed=3)
    bound = calibration_bound(probabilities)
    correct = np.stack([probabilities.argmax(1) == make_labels(probabilities, seed) for seed in range(400)])
    # 400 cases of 5 %: a standard deviation of 1.1 points.
    assert (calibration_error(probabilities.max(1), correct) > bound).mean() == pytest.approx(0.05, abs=0.04)


def test_too_sure_a_model_is_beyond_the_bound() -> None:
    probabilities = make_probabilities(300, 4, seed=4)
    labels = make_labels(probabilities, seed=5)
    surer = probabilities**3 / (probabilities**3).sum(1, keepdims=True)
    assert Judged(labels, probabilities, 1.0, 1.0).figures["ece"] <= calibration_bound(probabilities)
    assert Judged(labels, surer, 1.0, 1.0).figures["ece"] > calibration_bound(surer)


def test_the_log_loss_before_the_temperature_is_that_of_the_logits() -> None:
    logits = np.random.default_rng(6).normal(size=[80, 3]) * 4
    labels = np.random.default_rng(7).integers(0, 3, 80)
    plain, divided = (np.exp(part) / np.exp(part).sum(1, keepdims=True) for part in (logits, logits / 2.5))
    before = Judged(labels, plain.astype(np.float32), 1.0, 1.0)
    after = Judged(labels, divided.astype(np.float32), 1.0, 1.0, temperature=2.5)
    # Seven digits of the probabilities, and their logarithms.
    assert after.log_loss_before == pytest.approx(before.figures["log_loss"], rel=1e-4)
    assert after.figures["log_loss"] < before.figures["log_loss"]
    assert before.log_loss_before == before.figures["log_loss"]


def make_judged(images: int, errors: int, seconds: float) -> Judged:
    """Answers the first images wrongly, always at a probability of 0.9."""
    probabilities = np.full([images, 2], [0.9, 0.1], np.float32)
    return Judged((np.arange(images) < errors).astype(np.int64), probabilities, seconds, 1.0)


def judge(errors: dict[str, int], seconds: dict[str, float]) -> dict[str, bool | None]:
    cells = {name: {"set": make_judged(100, errors[name], seconds.get(name, 1.0))} for name in errors}
    return {one.asked: one.reached for one in judge_requirements(cells)}


ERRORS = {"quick": 18, "regression": 20, "guide-frozen": 19, "balanced": 17, "balanced-128": 30, "guide-128": 30}
SECONDS = {"quick": 5.0, "guide-frozen": 100.0, "balanced": 15.0, "balanced-128": 25.0, "guide-128": 100.0}


@pytest.mark.parametrize(
    ("asked", "errors", "seconds"),
    [
        ("quick: errors at most 0.9 of those of regression", {"quick": 19}, {}),
        ("quick: on no set more than 2 paired standard errors below regression", {"quick": 40}, {}),
        ("quick: more accurate than guide-frozen on each set", {"quick": 19}, {}),
        ("quick: seconds at most 0.05 of those of guide-frozen", {}, {"quick": 5.1}),
        ("balanced: errors at most 0.95 of those of quick", {"balanced": 18}, {}),
        ("balanced: seconds at most 3 of those of quick", {}, {"balanced": 15.1}),
        ("balanced-128: pooled, at least as accurate as guide-128", {"balanced-128": 31}, {}),
        ("balanced-128: seconds at most 0.25 of those of guide-128", {}, {"balanced-128": 25.1}),
    ],
)
def test_a_requirement_is_reached_up_to_its_limit_and_not_beyond(
    asked: str, errors: dict[str, int], seconds: dict[str, float]
) -> None:
    assert judge(ERRORS, SECONDS)[asked] is True
    assert judge({**ERRORS, **errors}, {**SECONDS, **seconds})[asked] is False


def test_nothing_is_reached_that_was_not_measured() -> None:
    found = judge({"regression": 20}, {})
    assert set(found.values()) == {None}


def test_the_account_names_each_cell_and_pools_over_sets() -> None:
    cells = {
        "quick": {"ants": make_judged(100, 10, 1.0), "bees": make_judged(50, 5, 2.0)},
        "regression": {"ants": make_judged(100, 12, 1.0), "bees": make_judged(50, 8, 2.0)},
    }
    text = "\n".join(describe(cells))
    assert "quick         15 errors of 150" in text
    assert "quick against regression, pooled: 5 wins, 0 losses, p 0.062; accuracy +0.033" in text
    assert "quick: errors at most 0.9 of those of regression | 15 / 20 = 0.750, 2 sets | yes" in text


def test_cells_are_kept_and_another_start_must_be_alike(tmp_path: Path) -> None:
    results = Results(tmp_path / "transfer.json")
    results.agree("facts", {"weights": "a"})
    results.add("ants", "quick", {"seconds": 1.0}, np.ones([3, 2], np.float32))
    again = Results(tmp_path / "transfer.json")
    assert again.has("ants", "quick")
    assert not again.has("ants", "balanced")
    np.testing.assert_array_equal(again.arrays["ants/quick"], np.ones([3, 2]))
    again.agree("facts", {"weights": "a"})
    with pytest.raises(SystemExit, match="holds results of another weights"):
        again.agree("facts", {"weights": "b"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["transfer.json", "transfer.npz"]


def test_six_sets_fit_into_a_hundred_minutes() -> None:
    counts = {name: getattr(Limits(), name) for name in SPLITS}
    minutes = 6 * sum(estimate_seconds(contender, counts, 6.0) for contender in CONTENDERS) / 60
    assert 60 < minutes <= 100
