"""Drift is found where images differ, not where chance alone does, and blocks a push only if it is told to."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.spatial.distance import jensenshannon
from tfx.orchestration.kubeflow.v2.compiler_utils import TITLE_TO_CLASS_PATH, get_artifact_schema
from tfx.types import standard_artifacts
from tfx.utils import import_utils

from components.drift_validator.comparison import measure_distance
from components.drift_validator.component import DriftValidator, DriftValidator_Executor
from components.drift_validator.report import describe_report, read_report
from components.drift_validator.settings import DriftSettings
from components.evaluator.component import EvaluatorSpec
from components.evaluator.refusals import find_refusals
from components.serving_validator.component import ServingValidator
from data.image_statistics import SCALES, SplitStatistics, measure_picture, write_image_statistics
from tests.transform_run import make_artifact


def make_statistics(images: int, seed: int, labels: tuple[str, ...] = ("a", "b"), **shift: float) -> SplitStatistics:
    """Draws each figure from a bell curve a tenth as wide as its scale, moved by `shift` of its deviations."""
    random, statistics = np.random.default_rng(seed), SplitStatistics()
    for number in range(images):
        figures = [
            (scale.low + scale.high) / 2 + (scale.high - scale.low) / 10 * (random.normal() + shift.get(name, 0.0))
            for name, scale in SCALES.items()
        ]
        statistics.add(labels[number % len(labels)], figures)
    return statistics


def compare(
    root: Path, current: SplitStatistics | None, baseline: SplitStatistics | None, **settings: Any
) -> dict[str, Any]:
    models = {}
    for name, statistics in (("model", current), ("baseline_model", baseline)):
        models[name] = [make_artifact(standard_artifacts.Model, root / name)]
        if statistics is not None:
            write_image_statistics({"train": statistics}, str(root / name))
    drift = make_artifact(standard_artifacts.ExampleAnomalies, root / "drift")
    parameters = {"settings": DriftSettings(**settings).model_dump_json(), "code_hash": ""}
    DriftValidator_Executor().Do(models, {"drift": [drift]}, parameters)
    return read_report(str(root / "drift"))


@pytest.mark.parametrize("images", [10, 50, 1000])
def test_two_draws_from_the_same_images_have_not_drifted(images: int, tmp_path: Path) -> None:
    for seed in range(0, 20, 2):
        report = compare(tmp_path, make_statistics(images, seed), make_statistics(images, seed + 1))
        assert report["compared"]
        assert report["drifted"] == []


@pytest.mark.parametrize("name", list(SCALES))
def test_a_shift_of_a_figure_is_told_by_its_name_with_both_histograms(name: str, tmp_path: Path) -> None:
    report = compare(tmp_path, make_statistics(500, 1, **{name: 1.5}), make_statistics(500, 2))
    assert report["drifted"] == [name]
    (found,) = (row for row in report["rows"] if row["statistic"] == name)
    assert found["distance"] > found["bound"] == 0.1
    assert sum(found["counts_now"]) == sum(found["counts_before"]) == 500
    assert len(found["bins"]) == len(found["counts_now"])
    assert found["now"] > found["before"]
    assert describe_report(report).startswith(f"drifted: {name} 0.")


def test_a_shift_below_the_threshold_is_no_drift(tmp_path: Path) -> None:
    shifted = make_statistics(500, 1, brightness=1.5)
    report = compare(tmp_path, shifted, make_statistics(500, 2), thresholds={"brightness": 0.9})
    assert report["drifted"] == []


def make_sized(width: int, height: int) -> SplitStatistics:
    statistics = SplitStatistics()
    figures = measure_picture(Image.new("RGB", (width, height)))
    for _ in range(300):
        statistics.add("a", figures)
    return statistics


@pytest.mark.parametrize(
    ("now", "before", "drifted"),
    [
        ((255, 256), (256, 256), []),
        ((256, 255), (256, 256), []),
        ((199, 100), (200, 100), []),
        ((224, 224), (256, 256), []),
        ((32, 32), (256, 256), ["size"]),
        ((128, 128), (256, 256), ["size"]),
        ((296, 222), (256, 256), ["aspect"]),  # 4:3 of as many pixels
        ((222, 296), (256, 256), ["aspect"]),
    ],
)
def test_common_sizes_lie_in_the_middle_of_what_is_compared(
    now: tuple[int, int], before: tuple[int, int], drifted: list[str], tmp_path: Path
) -> None:
    report = compare(tmp_path, make_sized(*now), make_sized(*before))
    assert report["drifted"] == drifted
    bins = {row["statistic"]: row["bins"] for row in report["rows"]}
    assert bins["size"][:3] == [0.0, 0.5, 1.5]
    assert bins["aspect"][-2:] == [2.25, 2.75]
    assert len(bins["brightness"]) == SCALES["brightness"].bins


def test_new_and_missing_classes_are_drift_of_the_labels(tmp_path: Path) -> None:
    report = compare(tmp_path, make_statistics(300, 1, ("a", "c")), make_statistics(300, 2, ("a", "b")))
    assert report["drifted"] == ["labels"]
    (found,) = (row for row in report["rows"] if row["statistic"] == "labels")
    assert (found["bins"], found["counts_now"], found["counts_before"]) == (
        ["a", "b", "c"],
        [150, 0, 150],
        [150, 150, 0],
    )


def test_the_distance_is_the_divergence_of_jensen_and_shannon() -> None:
    first, second = [900_000, 100_000, 0], [200_000, 300_000, 500_000]
    # scipy gives the root of it; of a million images chance explains 1e-6.
    assert measure_distance(first, second) == pytest.approx(jensenshannon(first, second, base=2) ** 2, abs=1e-5)
    assert measure_distance([10**6, 0], [0, 10**6]) == pytest.approx(1.0, abs=1e-5)
    assert measure_distance([0, 0], [5, 5]) == 1.0


@pytest.mark.parametrize(
    ("current", "baseline", "reason"),
    [(True, False, "the blessed model carries no statistics"), (False, True, "this model carries no statistics")],
)
def test_earlier_models_are_not_compared(current: bool, baseline: bool, reason: str, tmp_path: Path) -> None:
    statistics = make_statistics(10, 1)
    report = compare(tmp_path, statistics if current else None, statistics if baseline else None, gate=True)
    assert not report["compared"]
    assert reason in report["reason"]
    assert find_refusals(str(tmp_path / "drift"), None) == {}


def test_without_a_blessed_model_there_is_nothing_to_compare(tmp_path: Path) -> None:
    model = make_artifact(standard_artifacts.Model, tmp_path / "model")
    drift = make_artifact(standard_artifacts.ExampleAnomalies, tmp_path / "drift")
    parameters = {"settings": DriftSettings().model_dump_json(), "code_hash": ""}
    DriftValidator_Executor().Do({"model": [model]}, {"drift": [drift]}, parameters)
    report = read_report(drift.uri)
    assert (report["compared"], report["baseline"]) == (False, None)
    assert describe_report(report) == "there is no blessed model to compare with"


@pytest.mark.parametrize(("gate", "passed"), [(True, False), (False, True)])
def test_drift_blocks_a_push_only_where_the_gate_is_on(gate: bool, passed: bool, tmp_path: Path) -> None:
    report = compare(tmp_path, make_statistics(300, 1, colour=2.0), make_statistics(300, 2), gate=gate)
    assert report["drifted"] == ["colour"]
    refusals = find_refusals(str(tmp_path / "drift"), None)
    assert refusals == ({} if passed else {"drift.gate": describe_report(report)})


def test_vertex_knows_the_types_of_the_nodes_that_judge() -> None:
    for spec in (DriftValidator.SPEC_CLASS, ServingValidator.SPEC_CLASS, EvaluatorSpec):
        for channel in (*spec.INPUTS.values(), *spec.OUTPUTS.values()):
            title = yaml.safe_load(get_artifact_schema(channel.type))["title"]
            assert import_utils.import_class_by_path(TITLE_TO_CLASS_PATH[title]) is channel.type
