"""The Tuner as TFX runs it, with VGG16 on a few images, and the Trainer that gets its best values."""

import json
from pathlib import Path
from typing import Any

import pytest
from tfx.components.trainer.executor import GenericExecutor
from tfx.types import standard_artifacts
from tfx.utils import import_utils, json_utils

from components.trainer import TRAINING_FILE
from components.trainer.hyperparameters import apply_hyperparameters, changed_settings
from components.trainer.settings import TrainerSettings
from components.tuner import TRIALS_FILE, TUNING_FILE
from components.tuner.component import TUNER_FN
from components.tuner.executor import Executor
from components.tuner.settings import TunerSettings
from data.json_files import read_json
from tests.transform_run import SPLITS, make_artifact

SETTINGS = TrainerSettings(weights="none", batch_size=8, head_epochs=1, fine_tune_epochs=0, fine_tune_blocks=0)
RANGES = TunerSettings(enabled=True, max_trials=2, dropout=(0.1, 0.3))


@pytest.fixture(scope="module")
def root(transformed: Path) -> Path:
    return transformed


def inputs(root: Path) -> dict[str, list[Any]]:
    return {
        "examples": [make_artifact(standard_artifacts.Examples, root / "transformed", SPLITS)],
        "transform_graph": [make_artifact(standard_artifacts.TransformGraph, root / "graph")],
    }


def properties(**custom_config: Any) -> dict[str, Any]:
    config = {"trainer": SETTINGS.model_dump(mode="json"), "image_size": 32, "code_hash": "0", **custom_config}
    return {"train_args": "{}", "eval_args": "{}", "custom_config": json_utils.dumps(config)}


@pytest.fixture(scope="module")
def tuned(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("tuner")
    Executor(Executor.Context(tmp_dir=str(output / "temporary"), unique_id="1")).Do(
        inputs(root),
        {
            "best_hyperparameters": [make_artifact(standard_artifacts.HyperParameters, output / "best")],
            "tuner_results": [make_artifact(standard_artifacts.TunerResults, output / "results")],
        },
        {
            "tuner_fn": TUNER_FN,
            **properties(tuner=RANGES.model_dump(mode="json"), checkpoint_dir=str(output / "resume")),
        },
    )
    return output


def test_the_trials_are_in_the_output(tuned: Path) -> None:
    tuning = read_json(str(tuned / "results" / TUNING_FILE))
    assert [trial["number"] for trial in tuning["trials"]] == [1, 2]
    assert tuning["trials"][0]["settings"] == {}
    best = min(tuning["trials"], key=lambda trial: trial["eval_loss"])
    assert tuning["best"] == best
    rows = (tuned / "results" / TRIALS_FILE).read_text().splitlines()
    assert rows[1].startswith(f"{best['number']},{best['eval_loss']},")
    assert len(rows) == 3
    # TFX's own table, too.
    scores = [row["score"] for row in json.loads((tuned / "results" / "tuner_results.json").read_text())]
    assert scores == sorted(trial["eval_loss"] for trial in tuning["trials"])


def test_nothing_is_left_to_go_on_with(tuned: Path) -> None:
    assert not list((tuned / "resume").iterdir())


@pytest.mark.slow
def test_the_best_values_reach_the_trainer(root: Path, tuned: Path, tmp_path: Path) -> None:
    GenericExecutor(GenericExecutor.Context(tmp_dir=str(tmp_path / "temporary"), unique_id="1")).Do(
        {**inputs(root), "hyperparameters": [make_artifact(standard_artifacts.HyperParameters, tuned / "best")]},
        {
            "model": [make_artifact(standard_artifacts.Model, tmp_path / "model")],
            "model_run": [make_artifact(standard_artifacts.ModelRun, tmp_path / "model_run")],
        },
        {"run_fn": "components.trainer.run_fn.run_fn", **properties()},
    )
    record = json.loads((tmp_path / "model_run" / TRAINING_FILE).read_text())
    best = read_json(str(tuned / "results" / TUNING_FILE))["best"]
    expected = apply_hyperparameters(SETTINGS, best["values"])
    assert record["settings"] == expected.model_dump(mode="json")
    assert record["hyperparameters"].keys() == best["values"].keys()
    assert changed_settings(SETTINGS, expected) == best["settings"]
    # Same settings, seed and epochs: the training of the trial, but for the order in which threads add up.
    assert record["best"]["eval_loss"] == pytest.approx(best["eval_loss"], rel=0.02)


def test_tfx_finds_the_function_again() -> None:
    module, _, name = TUNER_FN.rpartition(".")
    for _ in range(2):
        assert import_utils.import_func_from_module(module, name).__name__ == name
