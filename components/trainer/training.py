"""The two phases of training, and which weights they leave in the model."""

import math
import os
import time
from dataclasses import dataclass

import tensorflow as tf
import tf_keras

from components.progress import report_progress
from components.trainer.model import set_trainable_blocks
from components.trainer.settings import TrainerSettings
from data.errors import UserError


@dataclass(frozen=True)
class EpochResult:
    """One epoch. Losses are mean cross-entropies in nats, accuracies 0..1; those of training include dropout."""

    phase: str
    epoch: int
    loss: float
    accuracy: float
    eval_loss: float
    eval_accuracy: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Phase:
    """One call of `fit`: the last `blocks` blocks of the backbone learn, and the head."""

    name: str
    epochs: int
    learning_rate: float
    blocks: int

    def learning_rate_at(self, epoch: int) -> float:
        """Returns an epoch's rate (counted from 0): half a cosine from the phase's rate towards 0.

        Digits from random weights (3 seeds, test accuracy of the best epoch): 0.957 to 0.988 at a constant rate,
        0.994 to 1.0 with the cosine.

        Source: Loshchilov & Hutter 2016 (SGDR), equation 5, without restarts.
        """
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * epoch / self.epochs))


def make_phases(settings: TrainerSettings) -> list[Phase]:
    """Returns the phases that train at least one epoch."""
    head = Phase("head", settings.head_epochs, settings.head_learning_rate, blocks=0)
    fine_tune = Phase(
        "fine-tune", settings.fine_tune_epochs, settings.fine_tune_learning_rate, settings.fine_tune_blocks
    )
    return [phase for phase in (head, fine_tune) if phase.epochs]


class BestWeights:
    """The weights of the lowest loss on `eval` over all phases, as a checkpoint on disk.

    The loss and not the accuracy: on a small `eval` split many epochs share one accuracy.
    """

    def __init__(self, model: tf_keras.Model, checkpoint_dir: str) -> None:
        """Starts without any weights.

        Args:
            model: whose variables are saved and restored; not the optimizer's.
            checkpoint_dir: local or `gs://`; holds one checkpoint.
        """
        variables = {str(number): variable for number, variable in enumerate(model.weights)}
        self._checkpoint = tf.train.Checkpoint(**variables)
        self._prefix = os.path.join(checkpoint_dir, "best")
        self.result: EpochResult | None = None

    def offer(self, result: EpochResult) -> None:
        """Keeps the model's present weights if they are the best so far; a loss that is NaN never is."""
        if result.eval_loss < (self.result.eval_loss if self.result else float("inf")):
            self.result = result
            self._checkpoint.write(self._prefix)

    def restore(self) -> EpochResult:
        """Puts the best weights back into the model and returns their epoch.

        Raises:
            UserError: no epoch had a finite loss on `eval`.
        """
        if self.result is None:
            raise UserError(
                "training diverged: the loss on eval was never finite; lower trainer.head_learning_rate and "
                "trainer.fine_tune_learning_rate, or set trainer.precision to float32"
            )
        self._checkpoint.read(self._prefix).assert_consumed()
        return self.result


class EpochReporter(tf_keras.callbacks.Callback):
    """Tells a person about steps and epochs, records the epochs and offers their weights as the best."""

    def __init__(self, best: BestWeights) -> None:
        """Serves all phases: set `phase` before each `fit`."""
        super().__init__()
        self.phase: Phase
        self.history: list[EpochResult] = []
        self._best = best
        self._steps_done = 0
        self._steps_in_epoch: int | None = None  # known once all images have been read
        self._epoch = 0
        self._started = 0.0

    @property
    def _title(self) -> str:
        return f"{self.phase.name} {self._epoch}/{self.phase.epochs}"

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the clock."""
        self._epoch, self._started, self._steps_done = epoch + 1, time.monotonic(), 0

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Reports a step, with the epoch's mean loss and accuracy so far."""
        self._steps_done = batch + 1
        message = f"{self._title} loss {logs['loss']:.3f} accuracy {logs['accuracy']:.3f}"
        report_progress(message, completed=self._steps_done, total=self._steps_in_epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Records and reports an epoch."""
        self._steps_in_epoch = self._steps_done
        result = EpochResult(
            phase=self.phase.name,
            epoch=self._epoch,
            loss=float(logs["loss"]),
            accuracy=float(logs["accuracy"]),
            eval_loss=float(logs["val_loss"]),
            eval_accuracy=float(logs["val_accuracy"]),
            learning_rate=self.phase.learning_rate_at(epoch),
            seconds=round(time.monotonic() - self._started, 3),
        )
        self.history.append(result)
        self._best.offer(result)
        report_progress(
            f"{self._title} loss {result.loss:.3f} accuracy {result.accuracy:.3f} "
            f"eval_loss {result.eval_loss:.3f} eval_accuracy {result.eval_accuracy:.3f}",
            lasting=True,
        )


def train(
    model: tf_keras.Model,
    train_data: tf.data.Dataset,
    eval_data: tf.data.Dataset,
    settings: TrainerSettings,
    run_dir: str,
) -> tuple[list[EpochResult], EpochResult]:
    """Trains the head on the frozen backbone, then the head and the last blocks at a lower rate.

    Each phase starts from, and the model ends with, the weights of the lowest loss on `eval` over all phases so far.

    Args:
        model: from `make_model`, built in the scope of the strategy that is to train it.
        train_data: batches of (images, labels); an epoch is one pass.
        eval_data: the same of `eval`: it chooses the weights and ends phases early.
        settings: phases, rates and patience.
        run_dir: gets `checkpoints/` and the TensorBoard logs.

    Returns:
        Every epoch in order, and the one whose weights the model holds now.

    Raises:
        UserError: no epoch had a finite loss on `eval`.
    """
    best = BestWeights(model, os.path.join(run_dir, "checkpoints"))
    reporter = EpochReporter(best)
    for phase in make_phases(settings):
        set_trainable_blocks(model, phase.blocks)
        _compile(model, phase)
        reporter.phase = phase
        model.fit(
            train_data,
            validation_data=eval_data,
            epochs=phase.epochs,
            verbose=0,
            callbacks=[
                tf_keras.callbacks.LearningRateScheduler(phase.learning_rate_at),
                reporter,
                tf_keras.callbacks.EarlyStopping(patience=settings.early_stopping_patience),
                tf_keras.callbacks.TensorBoard(os.path.join(run_dir, "tensorboard", phase.name), write_graph=False),
            ],
        )
        best_result = best.restore()
    return reporter.history, best_result


def _compile(model: tf_keras.Model, phase: Phase) -> None:
    """Gives the model a fresh optimizer: the frozen variables of the last phase have no place in it."""
    with model.distribute_strategy.scope():
        model.compile(
            # XLA compiles the update for seconds on a CPU and gains nothing there; Keras's default is to let it.
            optimizer=tf_keras.optimizers.Adam(phase.learning_rate, jit_compile=False),
            loss=tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[tf_keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )
