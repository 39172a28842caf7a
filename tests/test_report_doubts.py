"""Doubts over all splits: flips are found, folds divide neither copies nor groups, shortcuts are told, not chance."""

from typing import Any

import numpy as np
import pytest

from components.report_gen.doubts import _cross_fit, _find_outliers, _fold_units, find_doubts, join_units
from components.report_gen.label_doubts import shorten, shown_first
from components.report_gen.model_card import shortcut_text
from components.report_gen.shortcuts import find_shortcuts

CLASSES, DEPTHS = 3, (4, 12)


def make_features(images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.arange(images) % CLASSES
    centres = random.normal(0, 1, (CLASSES, sum(DEPTHS)))
    features = 5 + centres[labels] + random.normal(0, 0.3, (images, sum(DEPTHS)))
    return features.astype(np.float16), labels


def doubt(features: np.ndarray, labels: np.ndarray, units: np.ndarray | None = None) -> Any:
    units = np.arange(len(labels)) if units is None else units
    return find_doubts(features, DEPTHS, labels, units, CLASSES, 1e-3)


def test_flipped_labels_come_first() -> None:
    features, truth = make_features(150)
    flips = np.array([3, 40, 77, 111, 149])
    labels = truth.copy()
    labels[flips] = (labels[flips] + 1) % CLASSES
    found = doubt(features, labels)
    assert set(np.argsort(found.probabilities[np.arange(150), labels])[:5].tolist()) == set(flips.tolist())
    assert len(found.labels) >= 3
    assert set(found.labels[:5].tolist()) <= set(flips.tolist())
    assert (found.probabilities[flips].argmax(axis=1) == truth[flips]).all()
    assert found.judged.all()
    assert found.accuracy == pytest.approx(145 / 150, abs=0.01)


def test_an_image_far_from_all_others_is_an_outlier_unless_its_label_is_doubted() -> None:
    features, labels = make_features(150)
    features[60, -DEPTHS[-1] :] = np.where(np.arange(DEPTHS[-1]) % 2, 9, 1)
    features[90, : DEPTHS[0]] = 50  # earlier depths do not count
    assert _find_outliers(features[:, -DEPTHS[-1] :], np.arange(150)).tolist()[0] == 60
    found = doubt(features, labels)
    assert (60 in found.outliers) != (60 in found.labels)
    assert 90 not in found.outliers


def test_a_copy_under_the_same_wrong_label_does_not_defend_it() -> None:
    features, truth = make_features(90)
    features, labels = np.concatenate([features, features[:1]]), np.concatenate([truth, truth[:1]])
    labels[[0, 90]] = 1
    folds = _fold_units(labels, np.concatenate([np.arange(90), [0]]))
    assert folds[0] == folds[90]
    divided = np.where(np.arange(91) == 90, (folds + 1) % 5, folds)
    standardised = (features - features.mean(axis=0)).astype(np.float32)
    joined, defended = (
        _cross_fit(standardised, labels, one, np.ones(91), CLASSES, 1e-3)[0, 1] for one in (folds, divided)
    )
    assert joined < 0.1 < defended


def test_groups_and_copies_are_joined() -> None:
    units = join_units(["a", "b", "a", "c", "d", "e"], ["", "p", "p", "q", "", "q"])
    assert units[0] == units[1] == units[2]
    assert units[3] == units[5]
    assert len(set(units.tolist())) == 3


def test_a_class_of_one_group_is_not_judged() -> None:
    features, labels = make_features(60)
    units = np.where(labels == 2, 1000, np.arange(60))
    found = doubt(features, labels, units)
    assert not found.judged[labels == 2].any()
    assert found.judged[labels != 2].all()
    assert not (labels[found.labels] == 2).any()


def test_shortcuts_are_told_and_chance_is_not() -> None:
    random = np.random.default_rng(1)
    labels = np.arange(300) % CLASSES
    noise = random.normal(size=300)
    figures = {
        "brightness": labels + random.normal(0, 0.3, 300),
        "contrast": noise,
        "format": np.where(labels == 1, "png", "jpeg"),
        "size": np.full(300, 10.0),
    }
    found = {one["meaning"]: one for one in find_shortcuts(figures, labels, np.arange(300))}
    assert set(found) == {"brightness", "file format"}
    assert found["brightness"]["all"]
    assert not found["file format"]["all"] or found["file format"]["recall"] > 0.6
    assert found["file format"]["classes"] == [1]
    text = shortcut_text({**found["brightness"], "classes": []})
    assert text.startswith(
        f"The class can be told from the brightness alone: {found['brightness']['recall']:.2f} (mean"
    )
    # Who splits a group between folds tells its images from each other by chance.
    assert not find_shortcuts({"contrast": noise}, labels, np.arange(300) // 30)


def test_few_images_and_one_class_tell_nothing() -> None:
    labels = np.arange(30) % CLASSES
    assert not find_shortcuts({"brightness": labels.astype(float)}, labels, np.arange(30))
    assert not find_shortcuts({"brightness": np.arange(50.0)}, np.zeros(50, np.int64), np.arange(50))


def test_the_page_holds_the_first_of_each_split() -> None:
    rows = [{"split": split, "kind": "label", "position": i} for split in ("train", "test") for i in range(150)]
    assert len(shorten({"rows": rows})["rows"]) == 200
    assert shown_first({"rows": rows}) == [(split, i) for split in ("train", "test") for i in range(24)]
