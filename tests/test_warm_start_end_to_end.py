"""Warm start through the whole pipeline: images come, nothing changes, the splits change. Six nodes a run: slow."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline import run_local
from tests.images import make_image_tree

SETTINGS = [
    "trainer.weights=none",
    "trainer.recipe=manual",
    "trainer.warm_start=blessed",
    "trainer.fine_tune_epochs=0",
    "trainer.batch_size=16",
    "transform.image_size=32",
    "data.eval_share=0.2",
    "evaluator.gates=[{metric: accuracy, min: 0.0, min_change: -1.0}]",
]
TEST_SHARE = "data.test_share=0.2"

pytestmark = pytest.mark.slow


def run(folder: Path, *settings: str) -> dict[str, Any]:
    arguments = ["--data", str(folder / "images"), "--output-dir", str(folder / "output"), "--set", *SETTINGS]
    assert run_local.main([*arguments, *settings]) == 0
    return json.loads((folder / "output" / "summary.json").read_text(encoding="utf-8"))


def ran(summary: dict[str, Any]) -> set[str]:
    return {node["id"] for node in summary["nodes"] if node["state"] != "cached"}


def test_a_story_of_warm_starts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_image_tree(tmp_path / "images", ("blue", "green", "red"), per_class=24)
    first = run(tmp_path, TEST_SHARE)
    assert first["warm_start"]["base"] is None
    assert first["baseline"] is None
    assert ran(run(tmp_path, TEST_SHARE)) == set()

    make_image_tree(tmp_path / "more", ("a", "b", "c", "azure"), per_class=12, seed=9)
    shutil.move(tmp_path / "more" / "azure", tmp_path / "images" / "azure")
    capfd.readouterr()
    second = run(tmp_path, TEST_SHARE)
    warm_start = second["warm_start"]
    assert warm_start["base"].startswith(str(tmp_path / "output"))
    assert (warm_start["refused"], warm_start["new"], warm_start["dropped"]) == (None, ["azure"], [])
    assert warm_start["kept"] == ["blue", "green", "red"]
    assert "3 of 4 classes kept, new: azure" in capfd.readouterr().out
    baseline = second["baseline"]
    assert (baseline["uri"], baseline["comparable"], baseline["trained_on"]) == (warm_start["base"], True, 0)
    assert [gate["kind"] for gate in second["gates"]] == ["min", "change"]
    again = run(tmp_path, TEST_SHARE)
    assert ran(again) == set()
    assert again["warm_start"] == warm_start

    capfd.readouterr()
    third = run(tmp_path, "data.test_share=0.5")
    assert third["warm_start"]["base"] is not None
    assert "test images trained it" in third["warm_start"]["refused"]
    baseline = third["baseline"]
    assert not baseline["comparable"]
    assert 0 < baseline["trained_on"] < baseline["test_images"] == sum(third["data"]["counts"]["test"].values())
    assert [gate["kind"] for gate in third["gates"]] == ["min"]
    shown = capfd.readouterr().out
    assert f"baseline not comparable: {baseline['trained_on']} of {baseline['test_images']} test images" in shown
    assert "refused" in shown
