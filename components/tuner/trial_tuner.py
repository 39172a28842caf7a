"""KerasTuner's search, whose trials train with the Trainer's own code."""

import gc
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import tensorflow as tf
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import Trial as ProposedTrial
from keras_tuner.errors import FailedTrialError, FatalError
from tfx.components.trainer.fn_args_utils import FnArgs

from components.progress import passing_progress, report_progress
from components.trainer.assembly import Assembly, assemble, seeded
from components.trainer.attempts import open_checkpoint_dir
from components.trainer.checkpoints import CheckpointDir
from components.trainer.competition import Competition
from components.trainer.feature_store import FeatureStore
from components.trainer.first_head import mark_features, solve_first_head
from components.trainer.hyperparameters import apply_hyperparameters, round_values
from components.trainer.phases import EpochResult
from components.trainer.precision import PrecisionChoice
from components.trainer.settings import ResolvedSettings, TrainerSettings
from components.trainer.start import Start
from components.trainer.strategy import make_strategy
from components.trainer.training import DivergedError, train
from components.trainer.widest_plan import plan_widest
from components.tuner.settings import TunerSettings
from components.tuner.space import make_oracle, make_space
from components.tuner.trials import Trial, TrialStore
from data.errors import UserError


class UnsteppedError(UserError):
    """The recipe does not fine-tune these images: there is nothing to compare."""


class TrialTuner(BaseTuner):
    """A search that goes on where one that was killed stopped.

    KerasTuner's own files are neither put in place by a rename nor hold the Bayesian oracle's random state, so they
    stay in TFX's temporary folder: who proposes values starts anew, with the same seed, and a trial that is already in
    the store answers from there.
    """

    def __init__(self, settings: TrainerSettings, tuner_settings: TunerSettings, fn_args: FnArgs) -> None:
        """Makes the search, which `search` runs.

        Args:
            settings: what every trial has in common.
            tuner_settings: what is tried out, and how often.
            fn_args: TFX's; `custom_config` has `image_size` in pixels, and `checkpoint_dir`, the folder in which a
                search that is killed leaves its state.
        """
        self.settings, self.tuner_settings, self._fn_args = settings, tuner_settings, fn_args
        # Trials step only where the recipe fine-tunes: what it then comes to is known before images are counted.
        self._own = plan_widest(settings, fn_args.custom_config["image_size"], class_count=2).settings
        oracle = make_oracle(make_space(tuner_settings, settings, self._own), tuner_settings, settings.seed)
        super().__init__(oracle, directory=fn_args.working_dir, project_name="keras_tuner")
        files = [*fn_args.train_files, *fn_args.eval_files]
        root = fn_args.custom_config["checkpoint_dir"]
        self.search_dir = open_checkpoint_dir(root, fn_args.custom_config, files, fn_args.working_dir)
        self.store = TrialStore(self.search_dir.folder)
        self._done: list[Trial] = []

    @property
    def trials(self) -> Sequence[Trial]:
        """The trials of this search so far, in order."""
        return tuple(self._done)

    @property
    def best(self) -> Trial | None:
        """The trial of the lowest loss on eval, the first of several; None where all diverged."""
        judged = [trial for trial in self._done if trial.eval_loss is not None]
        return min(judged, key=lambda trial: trial.eval_loss or 0.0, default=None)

    def search(self, *fit_args: Any, **fit_kwargs: Any) -> None:
        """Runs the trials.

        Raises:
            UserError: all of them diverged.
            Exception: whatever else ended a trial.
        """
        names = ", ".join(parameter.name for parameter in self.oracle.get_space().space)
        report_progress(f"tuning {names}: {self.tuner_settings.max_trials} trials", lasting=True)
        if self.store.trials:
            report_progress(
                f"going on after {len(self.store.trials)} trials of a run that was interrupted", lasting=True
            )
        try:
            super().search(*fit_args, **fit_kwargs)
        except FatalError as error:
            raise error.__cause__ or error from None
        if self.best is None:
            raise UserError(
                f"all {len(self._done)} trials diverged; lower the rates in tuner.head_learning_rate and "
                "tuner.fine_tune_learning_rate, or set trainer.gradient_clip_norm to 1"
            )

    def run_trial(self, trial: ProposedTrial, *fit_args: Any, **fit_kwargs: Any) -> dict[str, float]:
        """Trains with a trial's values, unless the store knows what that comes to.

        Returns:
            `eval_loss` in nats and `eval_accuracy`, 0..1, of the best epoch.

        Raises:
            FailedTrialError: the training diverged; the search goes on.
            FatalError: it cannot go on, because of its cause; KerasTuner would only count other errors.
        """
        number, values = len(self._done) + 1, dict(trial.hyperparameters.values)
        try:
            finished = self.store.find(number, values) or self._run(number, values)
            self.store.add(finished)
        except Exception as error:
            raise FatalError(str(error)) from error
        self._done.append(finished)
        self._report(finished)
        if finished.eval_loss is None or finished.eval_accuracy is None:
            raise FailedTrialError(finished.error)
        return {"eval_loss": finished.eval_loss, "eval_accuracy": finished.eval_accuracy}

    def trial_settings(self, values: Mapping[str, Any]) -> TrainerSettings:
        """Returns what a trial of these values asks for: what the Trainer would, but never a warm start."""
        return apply_hyperparameters(self.settings, values).model_copy(update={"warm_start": "none"})

    def shorten(self, settings: ResolvedSettings) -> ResolvedSettings:
        """Returns settings with the epochs of a trial; a warm-up that the recipe chose shrinks with them."""
        most, epochs = self.tuner_settings.max_epochs, settings.fine_tune_epochs
        shorter: dict[str, Any] = {"fine_tune_epochs": min(epochs, most)}
        if settings.head == "stepped":
            shorter["head_epochs"] = min(settings.head_epochs, most)
        if self.settings.warmup_steps is None and epochs > most:
            shorter["warmup_steps"] = settings.warmup_steps * most // epochs
        return settings.model_copy(update=shorter)

    def _run(self, number: int, values: dict[str, Any]) -> Trial:
        settings, started = self.trial_settings(values), time.monotonic()
        checkpoint_dir = CheckpointDir(self.store.trial_folder(values))
        best: EpochResult | None = None
        error: str | None = None
        with passing_progress(f"trial {number}/{self.tuner_settings.max_trials}: "), seeded(settings):
            try:
                best = self._train(settings, checkpoint_dir)
            except DivergedError as diverged:
                error = str(diverged)
            except UnsteppedError as unstepped:
                if not any(trial.error is None for trial in self._done):
                    raise
                error = str(unstepped)
        gc.collect()  # A model and its graphs hold each other.
        checkpoint_dir.remove()
        seconds = round(time.monotonic() - started, 3)
        loss, accuracy = (best.eval_loss, best.eval_accuracy) if best else (None, None)
        return Trial(number, values, loss, accuracy, seconds, error)

    def _train(self, settings: TrainerSettings, checkpoint_dir: CheckpointDir) -> EpochResult:
        # What the first trial chose, for all: they are compared.
        saved = PrecisionChoice.from_record(self.search_dir.load_choices().get("precision"), "saved")
        made = assemble(settings, self._fn_args.custom_config["image_size"], self._fn_args, self._strategy, saved)
        self.search_dir.save_choices({"precision": made.precision.to_record()})
        start: Start | None = None
        if made.settings.head != "stepped" and not made.settings.fine_tune_epochs:
            raise UnsteppedError(_explain_unstepped(settings, made.plan.reasons))
        if made.settings.head == "solved":
            start = self._solve_head(made)
        shorter = self.shorten(made.settings)
        with tempfile.TemporaryDirectory(prefix="trial-") as run_dir:
            return train(made.model, made.train_split, made.eval_split, shorter, run_dir, checkpoint_dir, start=start)[
                1
            ]

    def _solve_head(self, made: Assembly) -> Start:
        """Solves the head on features that all trials share, and returns a start that does not count.

        Views change images as the Trainer's own settings say, whatever strength of augmentation the trial has: other
        views would be another pass, and the trial is about the steps.
        """
        names = ("random_flip", "random_crop_area", "trivial_augment")
        # What has learned from eval is what a Trainer ships, and no start of steps.
        own = {**{name: getattr(self._own, name) for name in names}, "learn_from_eval": False}
        files = [*self._fn_args.train_files, *self._fn_args.eval_files]
        marks = mark_features(made, files, base=None, code=self._fn_args.custom_config.get("code_hash"))
        solving = replace(made, settings=made.settings.model_copy(update=own))
        start, _ = solve_first_head(solving, FeatureStore(self.search_dir.folder, marks))
        return replace(start, competition=Competition(None, None), counts=False)

    @cached_property
    def _strategy(self) -> tf.distribute.Strategy:
        return make_strategy(self.settings.strategy, self.settings.tpu)

    def _report(self, trial: Trial) -> None:
        result = "diverged"
        if trial.error is None:
            result = f"eval_loss {trial.eval_loss:.3f} eval_accuracy {trial.eval_accuracy:.3f}"
        values = " ".join(f"{name} {value:g}" for name, value in round_values(trial.values).items())
        best = f"best so far: {self.best.number}" if self.best else "none so far is any good"
        number = f"{trial.number}/{self.tuner_settings.max_trials}"
        report_progress(f"trial {number} {result} ({values}), {best}", lasting=True)


def _explain_unstepped(asked: TrainerSettings, reasons: Sequence[str]) -> str:
    why = f" ({reasons[-1]})" if len(reasons) > 1 else ""
    return (
        f"trainer.recipe {asked.recipe} does not fine-tune these images{why}, so that there is nothing to tune; set "
        "tuner.enabled=false, or recipe to best or manual"
    )
