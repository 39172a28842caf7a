"""Settings of the tuner section."""

from typing import Literal

from pydantic import Field, model_validator

from components.trainer.hyperparameters import recipe_augments
from components.trainer.settings import TrainerSettings
from data.section import Settings

_LIMITS = {
    "head_learning_rate": (1e-8, 1.0),
    "fine_tune_learning_rate": (1e-8, 1.0),
    "dropout": (0.0, 0.95),
    "augmentation_strength": (0.0, 1.0),
}


class TunerSettings(Settings):
    """Which of the Trainer's settings are tried out, in which ranges; each trial is judged by its loss on `eval`.

    With another `trainer.recipe` than `manual` that is what its fine-tuning reads: the rate and the blocks, and the
    strength of augmentation where the recipe or the settings augment. A solved head reads neither a rate nor dropout.
    """

    enabled: bool = False
    """Whether a Tuner runs before the Trainer and hands it its best values; `--tune` says true."""

    max_trials: int = Field(default=8, ge=1, le=1000)
    """Trainings at most; the first has the Trainer's own settings, as near as the ranges hold them."""

    algorithm: Literal["random", "bayesian"] = "random"
    """Where the trials after the first come from: `random`; or `bayesian`, where a third of them (at least 3) are
    random, and the others where a Gaussian process expects a lower loss."""

    max_epochs: int = Field(default=2, ge=1)
    """Epochs of each phase in a trial at most; the Trainer then trains as long as its own settings say."""

    head_learning_rate: tuple[float, float] | None = (1e-4, 1e-2)
    """Lowest and highest rate of the first phase, sampled by its logarithm; null leaves the Trainer's alone."""

    fine_tune_learning_rate: tuple[float, float] | None = (1e-5, 1e-3)
    """Lowest and highest rate of the second phase, sampled by its logarithm; null leaves the Trainer's alone."""

    fine_tune_blocks: tuple[int, int | None] | None = (1, None)
    """Fewest and most blocks that learn in the second phase; null for the most is all of the backbone's, null in place
    of both leaves the Trainer's alone."""

    dropout: tuple[float, float] | None = (0.0, 0.5)
    """Lowest and highest share of dropped features; null leaves the Trainer's alone."""

    augmentation_strength: tuple[float, float] | None = (0.0, 1.0)
    """Lowest and highest strength S of augmentation, in quarters: `trainer.trivial_augment` is S and
    `trainer.random_crop_area` is 1 - S/2. Flips, MixUp and CutMix stay the Trainer's; null leaves all of it alone."""

    @model_validator(mode="after")
    def _check_ranges(self) -> "TunerSettings":
        for name, (least, most) in _LIMITS.items():
            found = getattr(self, name)
            if found is not None and not least <= found[0] <= found[1] <= most:
                raise ValueError(
                    f"tuner.{name} is {_show(found)}; use [LOWEST, HIGHEST] within {least:g} and {most:g}, or null"
                )
        if self.fine_tune_blocks is not None:
            fewest, highest = self.fine_tune_blocks
            if fewest < 1 or (highest is not None and highest < fewest):
                raise ValueError(
                    f"tuner.fine_tune_blocks is {_show(self.fine_tune_blocks)}; use [FEWEST, MOST] from 1 on, or null"
                )
        return self

    @model_validator(mode="after")
    def _check_trials(self) -> "TunerSettings":
        if self.algorithm == "bayesian" and self.max_trials <= self.random_trials:
            raise ValueError(
                f"tuner.algorithm is bayesian, but the first {self.random_trials} trials are not guided, and "
                f"tuner.max_trials is {self.max_trials}; raise it, or set tuner.algorithm to random"
            )
        return self

    @property
    def random_trials(self) -> int:
        """How many trials, with the first, the Gaussian process gets to learn from before it guides any."""
        return max(3, self.max_trials // 3)


def tuned_names(tuner: TunerSettings, trainer: TrainerSettings) -> list[str]:
    """Returns the fields of the tuner section that have a range, and a phase that is stepped and reads them."""
    if trainer.recipe == "manual":
        epochs = trainer.with_literal_defaults()
        stepped = ["head_learning_rate"] * (epochs.head_epochs > 0)
        stepped += ["fine_tune_learning_rate", "fine_tune_blocks"] * (epochs.fine_tune_epochs > 0)
        stepped += ["dropout", "augmentation_strength"]
    elif not may_fine_tune(trainer):
        stepped = []
    else:
        stepped = ["fine_tune_learning_rate", "fine_tune_blocks"]
        stepped += ["augmentation_strength"] * (recipe_augments(trainer) or trainer.augmentation_is_set())
    return [name for name in stepped if getattr(tuner, name) is not None]


def may_fine_tune(trainer: TrainerSettings) -> bool:
    """Tells whether there are images that the recipe would fine-tune."""
    if trainer.fine_tune_epochs is None:
        return trainer.recipe != "quick"
    return trainer.fine_tune_epochs > 0


def _show(values: tuple[float | None, ...]) -> str:
    return f"[{', '.join('null' if value is None else f'{value:g}' for value in values)}]"
