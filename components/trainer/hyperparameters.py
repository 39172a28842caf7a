"""What a Tuner may choose, in place of what the settings say."""

from collections.abc import Mapping
from typing import Any

from components.trainer.settings import ResolvedSettings, TrainerSettings

AUGMENTATION_STRENGTH = "augmentation_strength"
"""One number, 0..1, for how much training images are changed; the other hyperparameters are settings."""

_LARGEST_CUT = 0.5


def apply_hyperparameters(settings: TrainerSettings, values: Mapping[str, Any]) -> TrainerSettings:
    """Returns settings with a Tuner's values in the place of their own.

    Args:
        settings: whose other fields stay.
        values: names of settings, or `AUGMENTATION_STRENGTH`, and their values; they are rounded. Where a strength of
            0 leaves nothing that augments, a stepped head keeps no views either. Where the recipe would have mirrored
            images, it is said to: a strength alone would tell it that the user decides.

    Raises:
        pydantic.ValidationError: a name is unknown, or a value not allowed.
    """
    chosen = round_values(values)
    if AUGMENTATION_STRENGTH in chosen:
        strength = chosen.pop(AUGMENTATION_STRENGTH)
        chosen |= {"trivial_augment": strength, "random_crop_area": 1.0 - _LARGEST_CUT * strength}
        if recipe_augments(settings) and not settings.augmentation_is_set():
            chosen["random_flip"] = True
        augments = settings.model_copy(update=chosen).with_literal_defaults().augments
        if settings.recipe == "manual" and settings.feature_cache_views and not augments:
            chosen["feature_cache_views"] = 0
    return TrainerSettings.model_validate({**settings.model_dump(), **chosen})


def round_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns values whose numbers have three digits, so that what is shown, and may be copied, is what is used."""
    return {name: float(f"{value:.3g}") if isinstance(value, float) else value for name, value in values.items()}


def recipe_augments(settings: TrainerSettings) -> bool:
    """Tells whether the recipe fine-tunes on changed images, where the user says nothing about that."""
    return settings.recipe == "best" or (settings.recipe != "manual" and settings.weights == "none")


def augmentation_strength(settings: ResolvedSettings) -> float:
    """Returns the strength, 0..1, that comes nearest to what settings ask for."""
    return settings.trivial_augment or min((1.0 - settings.random_crop_area) / _LARGEST_CUT, 1.0)


def changed_settings(before: TrainerSettings, after: TrainerSettings) -> dict[str, Any]:
    """Returns the fields that differ, with their values after; with `manual`, null is the value that it stands for."""
    if before.recipe == after.recipe == "manual":
        before, after = before.with_literal_defaults(), after.with_literal_defaults()
    old, new = before.model_dump(), after.model_dump()
    return {name: value for name, value in new.items() if value != old[name]}
