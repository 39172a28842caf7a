"""What a pushed model carries of the test split: written by the Predictor, refused where it does not fit."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tfx.types import standard_artifacts

from components.exported_model.manifest import Manifest, write_manifest
from components.exported_model.reference import (
    CONFIDENCE,
    PROFILE_SCALES,
    REFERENCE_FILE,
    Profile,
    read_profile,
    write_profile,
)
from components.exported_model.signatures import UNKNOWN_SCORE
from components.predictor.component import Predictor_Executor
from components.serving_validator.reference_check import check_reference
from data.image_statistics import SCALES, SplitStatistics, write_image_statistics
from data.json_files import write_json
from tests.tiny_classifier import make_examples, make_model, softmax

CLASSES = ("cat", "dog")
MANIFEST = Manifest(backbone="vgg16", learn_statistics=False, image_size=32, classes=CLASSES, versions={})


def make_profile(images: int = 4) -> Profile:
    profile = Profile()
    for number in range(images):
        profile.add(CLASSES[number % 2], {**dict.fromkeys(SCALES, 0.3), CONFIDENCE: 0.9})
    return profile


def test_the_predictor_counts_looks_classes_and_confidence_of_test(tmp_path: Path) -> None:
    logits = np.array([[3, 0], [0, 1], [0, 2]], np.float32)
    examples = make_examples(tmp_path / "examples", ["cat", "dog", "cat"], logits)
    looks = SplitStatistics()
    for brightness in (0.12, 0.52, 0.54):
        looks.add("cat", [brightness, 0.1, -1.0, 0.2, 7.0, 0.0])
    other = SplitStatistics()
    write_image_statistics({"train": other, "test": looks}, examples.uri)
    output = standard_artifacts.InferenceResult()
    output.uri = str(tmp_path / "predictions")
    inputs = {
        "examples": [examples],
        "model": [make_model(tmp_path / "model", CLASSES, np.eye(2))],
        "baseline_model": [],
    }
    Predictor_Executor().Do(inputs, {"predictions": [output]}, {"code_hash": ""})
    profile = read_profile(f"{output.uri}/{REFERENCE_FILE}")
    assert profile is not None
    assert (profile.images, profile.classes) == (3, Counter(dog=2, cat=1))
    assert profile.problems(CLASSES) == []
    assert {place: count for place, count in enumerate(profile.histograms["brightness"]) if count} == {2: 1, 10: 2}
    bins = Counter(PROFILE_SCALES[CONFIDENCE].bin_of(float(row.max())) for row in softmax(logits).numpy())
    assert {place: count for place, count in enumerate(profile.histograms[CONFIDENCE]) if count} == bins
    assert not any(profile.histograms[UNKNOWN_SCORE])


def change_images(profile: Profile, summary: dict[str, Any]) -> None:
    summary["counts"]["test"]["cat"] = 4


def change_classes(profile: Profile, summary: dict[str, Any]) -> None:
    profile.classes = Counter(cat=2, cow=2)


def change_sum(profile: Profile, summary: dict[str, Any]) -> None:
    profile.classes = Counter(cat=3)


def change_histogram(profile: Profile, summary: dict[str, Any]) -> None:
    profile.histograms["contrast"][0] += 1


def change_bins(profile: Profile, summary: dict[str, Any]) -> None:
    profile.histograms["contrast"].append(0)


def drop_confidence(profile: Profile, summary: dict[str, Any]) -> None:
    profile.histograms[CONFIDENCE] = [0] * 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "4 images of test, 2 predicted classes, 7 histograms"),
        (change_images, "reference.json has 4 images; the test split has 6"),
        (change_classes, "reference.json has a predicted class 'cow' that the model has not"),
        (change_sum, "reference.json has 3 predicted classes of 4 images"),
        (change_histogram, "reference.json has a histogram of contrast that counts 5 of 4 images"),
        (change_bins, "reference.json has a histogram of contrast with 21 bins; 20 were expected"),
        (drop_confidence, "reference.json has no histogram of confidence"),
    ],
)
def test_the_serving_validator_refuses_what_does_not_fit(change: Any, message: str, tmp_path: Path) -> None:
    profile, summary = make_profile(), {"counts": {"test": {"cat": 2, "dog": 2}}}
    if change:
        change(profile, summary)
    write_profile(profile, str(tmp_path / "predictions" / REFERENCE_FILE))
    write_json(str(tmp_path / "examples" / "data_summary.json"), summary)
    write_manifest(str(tmp_path / "model"), MANIFEST)
    found = check_reference(*(str(tmp_path / name) for name in ("predictions", "examples", "model")))
    assert (found.check, found.passed, found.message) == ("reference", change is None, message)


def test_predictions_without_it_are_refused(tmp_path: Path) -> None:
    found = check_reference(str(tmp_path), str(tmp_path), str(tmp_path))
    assert not found.passed
    assert "hold no reference.json" in found.message
