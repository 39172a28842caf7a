"""What a search leaves for people, beside TFX's own files: all trials, and which settings keep the best."""

import csv
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from components.trainer.hyperparameters import apply_hyperparameters, changed_settings, round_values
from components.trainer.settings import TrainerSettings
from components.tuner import TRIALS_FILE, TUNING_FILE
from components.tuner.trials import Trial
from data.json_files import write_json

if TYPE_CHECKING:  # Whoever only reads needs none of the training.
    from components.tuner.trial_tuner import TrialTuner


def write_tuning(tuner: "TrialTuner", folder: str) -> None:
    """Writes `TUNING_FILE` and `TRIALS_FILE` to a local or `gs://` folder; at least one trial was judged."""
    trials = [_describe(trial, tuner.settings) for trial in tuner.trials]
    assert tuner.best is not None
    best = next(trial for trial in trials if trial["number"] == tuner.best.number)
    record = {
        "algorithm": tuner.tuner_settings.algorithm,
        "max_epochs": tuner.tuner_settings.max_epochs,
        "best_by": tuner.oracle.objective.name,
        "best": best,
        "trials": trials,
    }
    write_json(os.path.join(folder, TUNING_FILE), record)
    with tf.io.gfile.GFile(os.path.join(folder, TRIALS_FILE), "w") as file:
        figures = ["number", "eval_loss", "eval_accuracy", "seconds"]
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*figures, *best["values"], "error"])
        for trial in sorted(trials, key=lambda trial: (trial["eval_loss"] is None, trial["eval_loss"])):
            values = (trial["values"][name] for name in best["values"])
            writer.writerow([*(trial[name] for name in figures), *values, trial["error"]])


def _describe(trial: Trial, settings: TrainerSettings) -> dict[str, Any]:
    """Returns a trial's fields, and as `settings` those of the Trainer that its values change."""
    changed = changed_settings(settings, apply_hyperparameters(settings, trial.values))
    return {**asdict(trial), "values": round_values(trial.values), "settings": changed}
