"""A tuned run on a few dozen images, killed while it tunes, gone on with, repeated, and repeated without the Tuner.

The tests of this file are one story, in order, on one output folder.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.trainer.settings import ResolvedSettings, TrainerSettings
from pipeline import run_local
from tests.images import make_image_tree

pytestmark = pytest.mark.slow

SETTINGS = [
    "transform.image_size=32",
    "trainer.weights=none",
    "trainer.recipe=manual",
    "trainer.head_epochs=1",
    "trainer.fine_tune_epochs=0",
    "trainer.batch_size=16",
    "data.test_share=0.2",
    "data.eval_share=0.2",
    "evaluator.gates=[{metric: accuracy, min: 0.01}]",
]
RANGES = ["tuner.max_trials=3", "tuner.head_learning_rate=[0.001, 0.01]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    make_image_tree(folder / "images", ("blue", "green", "red"), per_class=16)
    return folder


def arguments(folder: Path, *more: str) -> list[str]:
    return ["--data", str(folder / "images"), "--output-dir", str(folder / "output"), "--set", *SETTINGS, *more]


def run(folder: Path, *more: str) -> tuple[int, dict[str, Any]]:
    status = run_local.main(arguments(folder, *more))
    return status, json.loads((folder / "output" / "summary.json").read_text(encoding="utf-8"))


def ran(summary: dict[str, Any]) -> set[str]:
    return {node["id"] for node in summary["nodes"] if node["state"] != "cached"}


def settings_of_the_trainer(folder: Path) -> dict[str, Any]:
    """Returns what the latest training was done with."""
    records = (folder / "output" / "pipeline_root" / "Trainer" / "model_run").glob("*/training.json")
    return json.loads(max(records, key=lambda path: path.stat().st_mtime_ns).read_text())["settings"]


def literal(settings: dict[str, Any]) -> ResolvedSettings:
    """Returns what they come to: where the user's own values win, those that are null arrive as what they stand for."""
    return TrainerSettings.model_validate(settings).with_literal_defaults()


def test_a_run_that_is_killed_in_its_second_trial_goes_on_there_and_pushes(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "pipeline.run_local", *arguments(folder, *RANGES), "--tune"]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(run_local.__file__).parent.parent)
    assert killed.stdout is not None
    seen = []
    for line in killed.stdout:
        seen.append(line)
        if line.lstrip().startswith("trial 1/3 "):
            killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, seen

    status, summary = run(folder, *RANGES, "--tune")
    lines = capfd.readouterr().out.splitlines()
    assert status == 0
    assert "going on after 1 trials of a run that was interrupted" in [line.strip() for line in lines]
    trials = [line.strip() for line in lines if line.strip().startswith("trial ")]
    assert [trial.split()[1] for trial in trials] == ["1/3", "2/3", "3/3"]
    assert trials[0] in [line.strip() for line in seen]  # as the killed run had it, not repeated
    best = summary["tuning"]["best"]
    assert best["eval_loss"] == min(trial["eval_loss"] for trial in summary["tuning"]["trials"])
    trainer = settings_of_the_trainer(folder)
    assert literal(trainer) == literal({**summary["config"]["trainer"], **best["settings"]})
    assert summary["config"]["tuner"]["enabled"]
    table = next(line.split()[-1] for line in lines if line.startswith("trials "))
    assert len(Path(table).read_text().splitlines()) == 4


def test_an_unchanged_run_tunes_nothing_anew_and_its_line_to_keep_gives_the_same_training_without_the_tuner(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status, summary = run(folder, *RANGES, "--tune")
    assert status == 0
    assert ran(summary) == set()
    best = summary["tuning"]["best"]
    screen = capfd.readouterr().out
    assert f"in trial {best['number']} of 3" in screen
    keep = [line.split()[2:] for line in screen.splitlines() if line.startswith("keep ")]
    kept = keep[0] if keep else []
    assert bool(kept) == bool(best["settings"])
    assert run_local.main([*arguments(folder, *kept), "--print-config"]) == 0
    config = yaml.safe_load(capfd.readouterr().out)
    assert not config["tuner"]["enabled"]
    assert literal(config["trainer"]) == literal(settings_of_the_trainer(folder))
