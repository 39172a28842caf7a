"""The search over a model that trains in a second: what it tries, what it reports, and how it goes on after a kill."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tfx.components.trainer.fn_args_utils import FnArgs

from components.progress import LOGGER
from components.trainer.assembly import Assembly
from components.trainer.precision import PrecisionChoice
from components.trainer.recipes import Facts, resolve_recipe
from components.trainer.settings import ResolvedSettings, TrainerSettings
from components.trainer.training import DivergedError
from components.trainer.warm_start import WarmStart
from components.trainer.weights import ResolvedWeights
from components.tuner import TRIALS_FILE, TUNING_FILE, trial_tuner
from components.tuner.results import write_tuning
from components.tuner.settings import TunerSettings
from components.tuner.trial_tuner import TrialTuner
from components.tuner.trials import Trial, TrialStore
from data.errors import UserError
from data.json_files import read_json
from tests.tiny_training import make_model, make_points


def make_settings(**values: Any) -> TrainerSettings:
    return TrainerSettings(**{"head_epochs": 2, "fine_tune_epochs": 3, "head_learning_rate": 0.05, **values})


SETTINGS = make_settings(fine_tune_epochs=0, dropout=0.1)
RANGES = TunerSettings(head_learning_rate=(0.001, 0.1), max_trials=4, max_epochs=2)


class KilledError(BaseException):
    """Stands for a SIGKILL: nobody catches it."""


@pytest.fixture(autouse=True)
def tiny_models(monkeypatch: pytest.MonkeyPatch) -> list[ResolvedSettings]:
    """Puts two dense layers in the place of the backbone; the list grows by the settings of each training."""
    trained: list[ResolvedSettings] = []

    def assemble(asked: TrainerSettings, *_: Any) -> Assembly:
        plan = resolve_recipe(asked, Facts((32, 32), (20, 20), 32, "cpu", 1, asked.backbone, "none", 8))
        settings = plan.settings
        trained.append(settings)
        splits = make_points(seed=settings.seed), make_points(count=40)
        return Assembly(
            settings,
            plan,
            make_model(settings.dropout, settings.seed),
            *splits,
            ResolvedWeights("none"),
            WarmStart(),
            learn_statistics=True,
            precision=PrecisionChoice("float32", "setting"),
            transform_output=SimpleNamespace(),
            examples_uri="examples",
        )

    monkeypatch.setattr(trial_tuner, "assemble", assemble)
    return trained


def make_tuner(
    folder: Path, settings: TrainerSettings = SETTINGS, ranges: TunerSettings = RANGES, scheme: str = ""
) -> TrialTuner:
    """Returns the search of a new execution: TFX's temporary folder is another one each time."""
    config = {
        "trainer": settings.model_dump(mode="json"),
        "tuner": ranges.model_dump(mode="json"),
        "image_size": 32,
        "checkpoint_dir": f"{scheme}{folder}/resume",
    }
    working_dir = folder / f"execution-{len(list(folder.iterdir()))}"
    working_dir.mkdir()
    fn_args = FnArgs(working_dir=str(working_dir), train_files=[], eval_files=[], custom_config=config)
    return TrialTuner(settings, ranges, fn_args)


def search(folder: Path, **options: Any) -> TrialTuner:
    tuner = make_tuner(folder, **options)
    tuner.search()
    return tuner


def outcome(tuner: TrialTuner) -> list[tuple[Any, ...]]:
    return [(trial.number, trial.values, trial.eval_loss, trial.eval_accuracy) for trial in tuner.trials]


@pytest.fixture
def heard() -> Any:
    lines: list[str] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: lines.append(record.progress.message) if record.progress.lasting else None  # type: ignore[method-assign]
    LOGGER.setLevel(logging.INFO)
    LOGGER.addHandler(handler)
    yield lines
    LOGGER.removeHandler(handler)


def test_the_first_trial_is_what_was_there_and_all_are_within_the_ranges(
    tmp_path: Path, tiny_models: list[ResolvedSettings], heard: list[str]
) -> None:
    tuner = search(tmp_path)
    assert len(tuner.trials) == len(tiny_models) == 4
    assert tiny_models[0] == SETTINGS.with_literal_defaults()
    assert len({json.dumps(trial.values) for trial in tuner.trials}) == 4
    for settings in tiny_models:
        assert 0.001 <= settings.head_learning_rate <= 0.1
        assert 0.0 <= settings.dropout <= 0.5
        assert settings.trivial_augment in (0.0, 0.25, 0.5, 0.75, 1.0)
        assert settings.seed == SETTINGS.seed
    best = min(tuner.trials, key=lambda trial: trial.eval_loss or 9.0)
    assert tuner.best == best
    assert tuner.get_best_hyperparameters()[0].values == best.values
    assert [line.split(" eval")[0] for line in heard[1:]] == ["trial 1/4", "trial 2/4", "trial 3/4", "trial 4/4"]
    assert f"best so far: {best.number}" in heard[-1]


def test_trials_are_shorter_than_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, trained = trial_tuner.train, []

    def note(*arguments: Any, **options: Any) -> Any:
        trained.append(arguments[3])
        return train(*arguments, **options)

    monkeypatch.setattr(trial_tuner, "train", note)
    settings = make_settings(head_epochs=1, fine_tune_epochs=9, fine_tune_blocks=2)
    search(tmp_path, settings=settings, ranges=TunerSettings(max_trials=1, max_epochs=3))
    assert [(one.head_epochs, one.fine_tune_epochs) for one in trained] == [(1, 3)]


@pytest.mark.parametrize(
    ("algorithm", "scheme"), [("bayesian", ""), pytest.param("random", "file://", marks=pytest.mark.slow)]
)
def test_a_killed_search_goes_on_and_ends_as_if_it_had_not_been(
    tmp_path: Path, tiny_models: list[ResolvedSettings], monkeypatch: pytest.MonkeyPatch, algorithm: str, scheme: str
) -> None:
    """On a disk, and in a bucket, where each execution has a folder of its own; the fourth trial is guided."""
    ranges = RANGES.model_copy(update={"algorithm": algorithm})
    (undisturbed := tmp_path / "undisturbed").mkdir()
    (killed := tmp_path / "killed").mkdir()
    settings = SETTINGS.model_copy(update={"deterministic": True})
    expected = search(undisturbed, settings=settings, ranges=ranges)
    tiny_models.clear()
    train = trial_tuner.train

    def kill_in(number: int) -> Callable[..., Any]:
        def train_or_die(*arguments: Any, **options: Any) -> Any:
            if len(tiny_models) == number:
                raise KilledError
            return train(*arguments, **options)

        return train_or_die

    for number in (2, 5):
        monkeypatch.setattr(trial_tuner, "train", kill_in(number))
        with pytest.raises(KilledError):
            search(killed, settings=settings, ranges=ranges, scheme=scheme)
    monkeypatch.setattr(trial_tuner, "train", train)
    tuner = search(killed, settings=settings, ranges=ranges, scheme=scheme)
    assert outcome(tuner) == outcome(expected)
    # Trials 1, 2 (killed); 2, 3, 4 (killed); 4.
    assert len(tiny_models) == 6
    assert not list(Path(tuner.search_dir.folder.removeprefix("file://")).glob("trial-*"))


def test_another_search_repeats_all(tmp_path: Path, tiny_models: list[ResolvedSettings]) -> None:
    one = RANGES.model_copy(update={"max_trials": 1})
    search(tmp_path, ranges=one)
    search(tmp_path, ranges=one.model_copy(update={"dropout": (0.1, 0.2)}))
    assert len(tiny_models) == 2


def test_a_trial_that_diverges_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: list[str]) -> None:
    train = trial_tuner.train

    def diverge_once(*arguments: Any, **options: Any) -> Any:
        if len(tuner.trials) == 1:
            raise DivergedError("training diverged: the loss was nan")
        return train(*arguments, **options)

    monkeypatch.setattr(trial_tuner, "train", diverge_once)
    tuner = make_tuner(tmp_path)
    tuner.search()
    assert [trial.eval_loss is None for trial in tuner.trials] == [False, True, False, False]
    assert any(line.startswith("trial 2/4 diverged (") for line in heard)
    write_tuning(tuner, str(tmp_path / "results"))
    tuning = read_json(str(tmp_path / "results" / TUNING_FILE))
    assert [trial["number"] for trial in tuning["trials"]] == [1, 2, 3, 4]
    rows = (tmp_path / "results" / TRIALS_FILE).read_text().splitlines()
    assert rows[0] == ("number,eval_loss,eval_accuracy,seconds,head_learning_rate,dropout,augmentation_strength,error")
    assert rows[1].startswith(f"{tuning['best']['number']},")
    assert rows[4].startswith("2,,,")
    assert rows[4].endswith("training diverged: the loss was nan")


def test_if_all_diverge_the_search_fails_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*_: Any, **__: Any) -> Any:
        raise DivergedError("training diverged")

    monkeypatch.setattr(trial_tuner, "train", diverge)
    with pytest.raises(UserError, match=r"^all 4 trials diverged; lower the rates in tuner\.head_learning_rate"):
        search(tmp_path)


@pytest.mark.parametrize("error", [UserError("no space"), ZeroDivisionError("a fault")])
def test_other_errors_end_the_search_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(trial_tuner, "train", fail)
    with pytest.raises(type(error), match=str(error)):
        search(tmp_path)


def test_equal_values_are_not_trained_twice(tmp_path: Path) -> None:
    store = TrialStore(str(tmp_path / "store"))
    first = Trial(1, {"dropout": 0.1}, 0.5, 0.9, 2.0)
    store.add(first)
    again = TrialStore(str(tmp_path / "store"))
    assert again.find(1, {"dropout": 0.1}) == first
    assert again.find(2, {"dropout": 0.1}) == Trial(2, {"dropout": 0.1}, 0.5, 0.9, 0.0)
    assert again.find(1, {"dropout": 0.2}) is None


def test_a_range_of_one_value_is_that_value(tmp_path: Path, tiny_models: list[ResolvedSettings]) -> None:
    ranges = RANGES.model_copy(update={"dropout": (0.3, 0.3), "augmentation_strength": None, "max_trials": 2})
    search(tmp_path, ranges=ranges)
    assert {settings.dropout for settings in tiny_models} == {0.3}
    assert {settings.trivial_augment for settings in tiny_models} == {SETTINGS.with_literal_defaults().trivial_augment}
