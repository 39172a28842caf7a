"""Settings of the tuner section, and what a Tuner's values make of the Trainer's."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from components.trainer.hyperparameters import apply_hyperparameters, augmentation_strength, changed_settings
from components.trainer.settings import ResolvedSettings, TrainerSettings
from components.trainer.widest_plan import plan_widest
from components.tuner.settings import TunerSettings, tuned_names
from components.tuner.space import make_space
from data.errors import UserError
from pipeline.config import load_config


def test_settings_survive_json() -> None:
    settings = TunerSettings(enabled=True, max_trials=5, fine_tune_blocks=(2, 4), dropout=None)
    assert TunerSettings.model_validate(json.loads(json.dumps(settings.model_dump(mode="json")))) == settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_trials": 0}, "greater than or equal to 1"),
        ({"max_epochs": 0}, "greater than or equal to 1"),
        ({"algorithm": "grid"}, "'random' or 'bayesian'"),
        (
            {"algorithm": "bayesian", "max_trials": 3},
            r"first 3 trials are not guided, and tuner.max_trials is 3; raise it",
        ),
        (
            {"dropout": (0.5, 0.1)},
            r"tuner\.dropout is \[0\.5, 0\.1\]; use \[LOWEST, HIGHEST\] within 0 and 0\.95, or null",
        ),
        ({"dropout": (0.0, 1.0)}, r"tuner\.dropout is \[0, 1\]"),
        ({"head_learning_rate": (0.0, 0.1)}, r"tuner\.head_learning_rate is \[0, 0\.1\]"),
        ({"fine_tune_learning_rate": (1e-5, 2.0)}, r"tuner\.fine_tune_learning_rate is \[1e-05, 2\]"),
        ({"augmentation_strength": (-0.1, 1.0)}, r"tuner\.augmentation_strength is \[-0\.1, 1\]"),
        ({"fine_tune_blocks": (0, 3)}, r"tuner\.fine_tune_blocks is \[0, 3\]; use \[FEWEST, MOST\] from 1 on"),
        ({"fine_tune_blocks": (3, 2)}, r"tuner\.fine_tune_blocks is \[3, 2\]"),
        ({"learning_rate": (0.1, 0.2)}, "Extra inputs are not permitted"),
    ],
)
def test_mistakes_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TunerSettings(**values)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tuner.fine_tune_blocks=[1, 6]"], "tuner.fine_tune_blocks goes to 6, but vgg16 has 5 blocks; use 1..5"),
        (["tuner.fine_tune_blocks=[6, null]"], "tuner.fine_tune_blocks goes to 6, but vgg16 has 5 blocks"),
        (["tuner.dropout=0.5"], "tuner.dropout is 0.5; input should be a valid tuple"),
        (["tuner.dropout=[a, 0.5]"], "tuner.dropout.0 is 'a'; input should be a valid number"),
        (["trainer.strategy=multi_worker"], "trainer.strategy is multi_worker, which a Tuner cannot use"),
        (["tuner.max_trails=5"], "did you mean tuner.max_trials?"),
        (
            [f"tuner.{name}=null" for name in ("head_learning_rate", "dropout", "augmentation_strength")]
            + ["trainer.fine_tune_epochs=0"],
            "tuner has no range of anything that is trained",
        ),
    ],
)
def test_mistakes_of_a_tuned_run_are_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config("digits", overrides=["trainer.recipe=manual", *overrides, "tuner.enabled=true"])
    assert str(caught.value).startswith(message) or message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_setting_that_would_do_nothing_is_refused() -> None:
    with pytest.raises(
        UserError,
        match=r"^--set tuner\.max_trials=3: nothing is tuned without tuner\.enabled=true \(run_local: --tune\)",
    ):
        load_config("digits", overrides=["tuner.max_trials=3"])
    assert not load_config("digits", overrides=["tuner.enabled=false"]).tuner.enabled


def test_what_has_no_phase_or_no_range_is_not_tuned() -> None:
    assert len(tuned_names(TunerSettings(), TrainerSettings())) == 5
    assert tuned_names(TunerSettings(dropout=None), TrainerSettings(fine_tune_epochs=0)) == [
        "head_learning_rate",
        "augmentation_strength",
    ]
    assert "head_learning_rate" not in tuned_names(TunerSettings(), TrainerSettings(head_epochs=0))


def test_values_take_the_place_of_settings_in_three_digits() -> None:
    before = TrainerSettings(weights="none", batch_size=8, random_flip=True)
    values = {"head_learning_rate": 0.00123456, "fine_tune_blocks": 3, "dropout": 0.2, "augmentation_strength": 0.5}
    after = apply_hyperparameters(before, values)
    assert changed_settings(before, after) == {
        "head_learning_rate": 0.00123,
        "fine_tune_blocks": 3,
        "trivial_augment": 0.5,
        "random_crop_area": 0.75,
    }
    assert augmentation_strength(after.with_literal_defaults()) == 0.5
    assert apply_hyperparameters(after, {"augmentation_strength": 0.0}).random_crop_area == 1.0


@pytest.mark.parametrize(("flip", "strength", "views"), [(False, 0.0, 0), (False, 0.25, 4), (True, 0.0, 4)])
def test_views_are_kept_only_of_what_is_augmented(flip: bool, strength: float, views: int) -> None:
    before = TrainerSettings(head_epochs=3, random_flip=flip, trivial_augment=0.5, feature_cache_views=4)
    assert apply_hyperparameters(before, {"augmentation_strength": strength}).feature_cache_views == views


@pytest.mark.parametrize("values", [{"fine_tune_blocks": 9}, {"dropout": 1.5}, {"learning_rates": 0.1}])
def test_values_are_checked_like_settings(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        apply_hyperparameters(TrainerSettings(), values)


@pytest.mark.parametrize(
    ("settings", "strength"),
    [({}, 0.0), ({"trivial_augment": 0.3}, 0.3), ({"random_crop_area": 0.8}, 0.4), ({"random_crop_area": 0.1}, 1.0)],
)
def test_the_strength_of_settings(settings: dict[str, Any], strength: float) -> None:
    assert augmentation_strength(ResolvedSettings(**settings)) == pytest.approx(strength)


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"recipe": "quick"}, []),
        ({"recipe": "quick", "fine_tune_epochs": 2}, ["fine_tune_learning_rate", "fine_tune_blocks"]),
        ({"recipe": "balanced"}, ["fine_tune_learning_rate", "fine_tune_blocks"]),
        ({"recipe": "balanced", "fine_tune_epochs": 0}, []),
        (
            {"recipe": "balanced", "random_flip": True},
            ["fine_tune_learning_rate", "fine_tune_blocks", "augmentation_strength"],
        ),
        ({"recipe": "best"}, ["fine_tune_learning_rate", "fine_tune_blocks", "augmentation_strength"]),
    ],
)
def test_only_what_a_recipe_steps_is_tuned(asked: dict[str, Any], names: list[str]) -> None:
    assert tuned_names(TunerSettings(), TrainerSettings(**asked)) == names


def test_a_recipe_that_steps_nothing_cannot_be_tuned() -> None:
    with pytest.raises(UserError) as caught:
        load_config("photos", overrides=["data.source=digits", "trainer.recipe=quick", "tuner.enabled=true"])
    assert str(caught.value).startswith("trainer.recipe quick solves the head and steps nothing here")
    assert "set recipe=balanced, best or manual" in str(caught.value)
    assert load_config(
        "photos", overrides=["data.source=digits", "trainer.recipe=best", "tuner.enabled=true"]
    ).tuner.enabled


def test_values_win_over_the_recipe_which_still_mirrors() -> None:
    asked = TrainerSettings(recipe="best", feature_cache_views=2)
    after = apply_hyperparameters(asked, {"fine_tune_learning_rate": 2e-5, "augmentation_strength": 0.0})
    settings = plan_widest(after, 224, 2).settings
    assert (settings.fine_tune_learning_rate, settings.trivial_augment, settings.random_crop_area) == (2e-5, 0.0, 1.0)
    assert settings.random_flip
    # Views are what the solved head learns from; what the steps see has no say in that.
    assert after.feature_cache_views == 2


def test_the_first_trial_has_what_the_recipe_comes_to() -> None:
    for recipe, values in {
        "balanced": {"fine_tune_learning_rate": 2e-4, "fine_tune_blocks": 1},
        "best": {"fine_tune_learning_rate": 3e-5, "fine_tune_blocks": 5, "augmentation_strength": 1.0},
    }.items():
        asked = TrainerSettings(recipe=recipe)
        space = make_space(TunerSettings(), asked, plan_widest(asked, 224, 2).settings)
        assert {parameter.name: parameter.default for parameter in space.space} == values
