"""The two phases of training, and which weights they leave in the model."""

import math
import os
import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn

import numpy as np
import tensorflow as tf
import tf_keras

from components.progress import report_progress
from components.trainer.checkpoints import CheckpointDir, TrainingState, read_variables, write_variables
from components.trainer.class_weights import make_class_weights
from components.trainer.feature_store import FeatureStore
from components.trainer.inputs import Split, count_steps, distribute
from components.trainer.learner import Judge, Learner, TrainFunction
from components.trainer.mixing import draw_mix, mix
from components.trainer.model import set_trainable_blocks
from components.trainer.noise import StepNoise
from components.trainer.pace import Pace
from components.trainer.phases import EpochResult, Phase, make_phases
from components.trainer.preemption import Preemption
from components.trainer.reading import open_reading
from components.trainer.reports import TensorBoard, report_epoch, report_start, report_step
from components.trainer.settings import ResolvedSettings
from components.trainer.start import Start, judge_candidate
from components.trainer.workers import Workers
from data.errors import UserError

_REMEDY = (
    "lower trainer.head_learning_rate and trainer.fine_tune_learning_rate, set trainer.gradient_clip_norm to 1, "
    "or set trainer.precision to float32"
)


class DivergedError(UserError):
    """The loss is no longer a finite number."""


def train(
    model: tf_keras.Model,
    train_split: Split,
    eval_split: Split,
    settings: ResolvedSettings,
    run_dir: str,
    checkpoint_dir: CheckpointDir,
    on_step: Callable[[TrainingState], None] | None = None,
    start: Start | None = None,
    store: FeatureStore | None = None,
) -> tuple[list[EpochResult], EpochResult]:
    """Trains the head on the frozen backbone, then the head and the last blocks at a lower rate.

    Each phase starts from, and the model ends with, the weights of the lowest loss on `eval` over all phases so far;
    or, where the head was solved, of the winner of the competition that it opened. That head rests while blocks learn:
    it is as ill-conditioned as its features, and a rate that suits the blocks would throw it far off.
    Killed at any moment and called again, it goes on from its last checkpoint and ends as it would have.

    Args:
        model: from `make_model`, built in the scope of the strategy that is to train it.
        train_split: fits the weights.
        eval_split: chooses the weights and ends phases early.
        settings: phases, rates and patience.
        run_dir: gets `checkpoints/best` and the TensorBoard logs; one of its own for each worker.
        checkpoint_dir: where a killed run left its state; the caller removes it when the model is safe.
        on_step: is called after each call of the device, of `steps_per_execution` steps.
        start: the solved head that the model has, as the first candidate.
        store: keeps the frozen backbone's features over a kill.

    Returns:
        Every epoch in order, and the one whose weights the model holds now.

    Raises:
        DivergedError: the loss was not finite.
        UserError: train has fewer images than a batch.
    """
    with Preemption() as preemption:
        return _Training(
            model, train_split, eval_split, settings, run_dir, checkpoint_dir, preemption, on_step, start, store
        ).run()


class _Training:
    """What the loops of phases, epochs and steps share."""

    def __init__(
        self,
        model: tf_keras.Model,
        train_split: Split,
        eval_split: Split,
        settings: ResolvedSettings,
        run_dir: str,
        checkpoint_dir: CheckpointDir,
        preemption: Preemption,
        on_step: Callable[[TrainingState], None] | None,
        start: Start | None,
        store: FeatureStore | None,
    ) -> None:
        self._start, self._store = start, store
        self._model, self._settings, self._run_dir = model, settings, run_dir
        self._train_split, self._eval_split = train_split, eval_split
        self._checkpoint_dir, self._preemption, self._on_step = checkpoint_dir, preemption, on_step
        self._noise = StepNoise(model, settings.seed)
        self._tensorboard = TensorBoard(os.path.join(run_dir, "tensorboard"))
        self._workers = Workers(model.distribute_strategy)
        self._saved_at, self._saved_step = time.monotonic(), 0

    def run(self) -> tuple[list[EpochResult], EpochResult]:
        saved = self._checkpoint_dir.load()
        self.state = saved[0] if saved else TrainingState()
        if self._start is not None:
            self._enter(self._start)
        for result in self.state.history:
            self._tensorboard.write(result)
        phases = make_phases(self._settings, count_steps(self._train_split))
        if saved:
            report_progress(
                f"going on where a run was interrupted: {phases[self.state.phase].name}, epoch "
                f"{self.state.epoch + 1}, after step {self.state.step}",
                lasting=True,
            )
        weights = make_class_weights(self._settings, self._train_split, self._model.output_shape[-1])
        for number in range(self.state.phase, len(phases)):
            if number > self.state.phase:
                state = self.state
                state.phase, state.epoch, state.step, state.phase_steps = number, 0, 0, 0
                state.lowest_loss, state.stale_epochs = None, 0
            set_trainable_blocks(self._model, phases[number].blocks)
            if self._settings.head != "stepped":
                self._model.get_layer("head").trainable = not phases[number].blocks
            reading = open_reading(
                phases[number],
                self._settings,
                (self._train_split, self._eval_split),
                self._model,
                self._start.rows if self._start else None,
                self.state.epoch,
                self._store,
                until=lambda: self._preemption.noticed,
            )
            if reading is None:  # nothing was learnt since the last save
                self._preemption.leave()
            learner = Learner(
                self._model,
                phases[number],
                reading.settings,
                self._noise,
                reads_features=reading.reads_features,
                forward=reading.forward,
                penalty=reading.standardised.penalty if reading.standardised else None,
                class_weights=weights,
                weighted=self._train_split.extras.weights is not None,
            )
            if saved and number == saved[0].phase:
                read_variables(self._variables(learner), saved[1])
                saved = None
            if self._train_split.augmented or learner.mixes:
                images, labels, _ = next(iter(self._train_split.epoch(len(self.state.history))))
                mixing = draw_mix(self._settings, self.state.total_steps)
                self._tensorboard.write_images(phases[number], mix(images, tf.one_hot(labels, 1), mixing)[0])
            self._run_phase(phases[number], learner, reading.judge, reading.train, reading.eval)
            self._restore_best()
            if reading.standardised is not None:
                reading.standardised.fold()
                self.state.best_name = f"best-{self.state.total_steps}-folded"
                self._checkpoint_dir.write(self.state.best_name, self._model.weights)
        assert self.state.best is not None
        write_variables(self._model.weights, os.path.join(self._run_dir, "checkpoints", "best"))
        return self.state.history, self.state.best

    def _enter(self, start: Start) -> None:
        """Makes the solved head the first candidate, or takes up a competition that was interrupted."""
        state = self.state
        if state.best is None and start.counts:
            state.best, state.best_name = start.row, "best-0"
            state.history.append(start.row)
            self._checkpoint_dir.write(state.best_name, self._model.weights)
            report_start(start.row)
        elif state.best_name not in (None, "best-0"):
            present = self._model.get_weights()
            self._restore_best()
            start.take_up(self._model, self._eval_split)
            self._model.set_weights(present)

    def _run_phase(self, phase: Phase, learner: Learner, judge: Judge, train_split: Split, eval_split: Split) -> None:
        state = self.state
        steps = count_steps(train_split)
        if not steps:
            raise UserError(f"trainer.batch_size is {train_split.batch_size}, more than train has images; lower it")
        self._pace = Pace(self._settings.steps_per_execution)
        function: TrainFunction | None = None
        while state.epoch < phase.epochs and state.stale_epochs < self._settings.early_stopping_patience:
            if state.step < steps:
                # The number of the epoch over all phases: each has an order of its own.
                read = partial(train_split.epoch, len(state.history), state.step)
                batches = iter(distribute(learner.strategy, read))
                function = function or learner.make_train_function(batches)
                do_steps = partial(function, batches)
            while state.step < steps:
                self._do_steps(phase, learner, do_steps, steps)
            self._end_epoch(phase, learner, judge, eval_split)

    def _do_steps(self, phase: Phase, learner: Learner, function: TrainFunction, epoch_steps: int) -> None:
        """Does the next steps of the epoch in one call, and what is due after it."""
        state = self.state
        started = time.monotonic()
        count = min(self._pace.steps, epoch_steps - state.step)
        rates = [phase.learning_rate_at(state.epoch, state.phase_steps + number) for number in range(count)]
        mixings = np.stack([draw_mix(self._settings, state.total_steps + number) for number in range(count)])
        sums = function(tf.constant(state.total_steps, tf.int64), tf.constant(rates), tf.constant(mixings)).numpy()
        self._pace.measure(count, time.monotonic() - started)
        for sums_of_step in sums.tolist():
            state.count_step()
            if not math.isfinite(sums_of_step[0]):
                self._diverge(phase, f"the loss was {sums_of_step[0]} at step {state.step} of")
            state.totals = [total + value for total, value in zip(state.totals, sums_of_step, strict=True)]
        state.seconds += time.monotonic() - started
        report_step(phase, state.epoch, state.totals, state.step, epoch_steps)
        self._save_if_due(learner)
        if self._on_step is not None:
            self._on_step(state)

    def _end_epoch(self, phase: Phase, learner: Learner, judge: Judge, eval_split: Split) -> None:
        """Evaluates, keeps the weights if they are the best so far, and turns to the next epoch."""
        state = self.state
        started = time.monotonic()
        rate = phase.learning_rate_at(state.epoch, state.phase_steps - 1)
        batches = distribute(learner.strategy, eval_split.in_order)
        eval_steps = -(-eval_split.count // eval_split.batch_size)
        with learner.averaged():
            # Several workers evaluate to the end: one that stopped would leave the others waiting.
            def leaves() -> bool:
                return self._preemption.noticed and not self._workers.several

            won: bool | None = None
            if self._start is None:
                judged = judge.evaluate(batches, until=leaves, steps=eval_steps)
            else:
                judged, won = judge_candidate(judge, self._start.competition, batches, eval_steps, leaves)
            if judged is not None:
                result = self._result(phase, *judged, rate, state.seconds + time.monotonic() - started)
                # The loss and not the accuracy: on a small `eval` split many epochs share one accuracy.
                if won or (won is None and (state.best is None or result.eval_loss < state.best.eval_loss)):
                    state.best, state.best_name = result, f"best-{state.total_steps}"
                    self._checkpoint_dir.write(state.best_name, self._model.weights)
        if judged is None:
            self._save_if_due(learner)
            raise AssertionError("a preempted run goes no further")
        if state.lowest_loss is None or result.eval_loss < state.lowest_loss:
            state.lowest_loss, state.stale_epochs = result.eval_loss, 0
        else:
            state.stale_epochs += 1
        state.history.append(result)
        state.epoch, state.step, state.totals, state.seconds = state.epoch + 1, 0, [0.0, 0.0, 0.0], 0.0
        self._tensorboard.write(result, judge.confusion)
        report_epoch(phase, result)
        self._save_if_due(learner)

    def _result(self, phase: Phase, eval_loss: float, eval_accuracy: float, rate: float, seconds: float) -> EpochResult:
        if not math.isfinite(eval_loss):
            self._diverge(phase, f"the loss on eval was {eval_loss} after")
        loss, right, weight = self.state.totals
        return EpochResult(
            phase=phase.name,
            epoch=self.state.epoch + 1,
            loss=loss / weight,
            accuracy=right / weight,
            eval_loss=eval_loss,
            eval_accuracy=eval_accuracy,
            learning_rate=rate,
            seconds=round(seconds, 3),
        )

    def _diverge(self, phase: Phase, text: str) -> NoReturn:
        self._checkpoint_dir.remove()
        where = f"epoch {self.state.epoch + 1} of the phase {phase.name}"
        raise DivergedError(f"training diverged: {text} {where}; {_REMEDY}")

    def _restore_best(self) -> None:
        assert self.state.best_name is not None
        read_variables(self._model.weights, self._checkpoint_dir.path(self.state.best_name))

    def _variables(self, learner: Learner) -> list[tf.Variable]:
        return [*self._model.weights, *learner.optimizer.variables]

    def _save_if_due(self, learner: Learner) -> None:
        steps = self._settings.checkpoint_every_steps
        by_steps = steps and self.state.total_steps - self._saved_step >= steps
        by_time = time.monotonic() - self._saved_at >= self._settings.checkpoint_every_seconds
        save, leave, self._pace.steps = self._workers.agree(
            bool(by_steps or by_time), self._preemption.noticed, self._pace.steps
        )
        if save or leave:
            self._checkpoint_dir.save(self.state, self._variables(learner))
            self._saved_at, self._saved_step = time.monotonic(), self.state.total_steps
        if leave:
            self._workers.wait()  # until the chief has saved
            self._preemption.leave()
