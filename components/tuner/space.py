"""What is tried out: KerasTuner's hyperparameters, and who proposes their values."""

from typing import Any

import numpy as np
from keras_tuner import HyperParameters, Objective
from keras_tuner.engine.oracle import Oracle
from keras_tuner.oracles import BayesianOptimizationOracle, RandomSearchOracle

from components.trainer.backbones import BACKBONES
from components.trainer.hyperparameters import AUGMENTATION_STRENGTH, augmentation_strength
from components.trainer.settings import ResolvedSettings, TrainerSettings
from components.tuner.settings import TunerSettings, tuned_names

OBJECTIVE = "eval_loss"
_SAMPLING: dict[str, dict[str, Any]] = {
    "head_learning_rate": {"sampling": "log"},
    "fine_tune_learning_rate": {"sampling": "log"},
    AUGMENTATION_STRENGTH: {"step": 0.25},
}


def make_space(tuner: TunerSettings, trainer: TrainerSettings, own_values: ResolvedSettings) -> HyperParameters:
    """Returns the hyperparameters, whose defaults are the Trainer's own values, as near as the ranges hold them.

    Args:
        tuner: the ranges.
        trainer: what the Trainer is asked for.
        own_values: what that comes to, where it fine-tunes.
    """
    space = HyperParameters()
    for name in tuned_names(tuner, trainer):
        if name == "fine_tune_blocks":
            fewest, most = tuner.fine_tune_blocks or (1, None)
            most = most or len(BACKBONES[trainer.backbone].blocks)
            space.Int(name, fewest, most, default=min(max(own_values.fine_tune_blocks, fewest), most))
            continue
        least, most = getattr(tuner, name)
        own = augmentation_strength(own_values) if name == AUGMENTATION_STRENGTH else getattr(own_values, name)
        space.Float(name, least, most, **_SAMPLING.get(name, {}), default=min(max(own, least), most))
    return space


def make_oracle(space: HyperParameters, tuner: TunerSettings, seed: int) -> Oracle:
    """Returns who proposes values: the same in each run, as long as the losses are the same.

    Args:
        space: from `make_space`.
        tuner: the algorithm and the number of trials.
        seed: the Trainer's.
    """
    options: dict[str, Any] = {
        "objective": Objective(OBJECTIVE, "min"),
        "max_trials": tuner.max_trials,
        "hyperparameters": space,
        "allow_new_entries": False,
        "tune_new_entries": False,
        # KerasTuner takes 0 for "any", and counts up from the seed, so that neighbours would propose the same.
        "seed": int(np.random.default_rng([seed, 3]).integers(1, 2**31)),
        # A rate at which training diverges is an answer, not a reason to stop.
        "max_consecutive_failed_trials": tuner.max_trials + 1,
    }
    if tuner.algorithm == "bayesian":
        return _BayesianOracle(num_initial_points=tuner.random_trials, **options)
    return _RandomOracle(**options)


class _DefaultsFirst:
    """Makes the first trial that of the defaults, so that the best is never worse on eval than what was there."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        if self.trials:  # type: ignore[attr-defined]
            return super().populate_space(trial_id)  # type: ignore[misc]
        values = {parameter.name: parameter.default for parameter in self.hyperparameters.space}  # type: ignore[attr-defined]
        return {"status": "RUNNING", "values": values}


class _RandomOracle(_DefaultsFirst, RandomSearchOracle):
    pass


class _BayesianOracle(_DefaultsFirst, BayesianOptimizationOracle):
    pass
