"""The two phases of training, and which weights they leave in the model."""

import os

import tensorflow as tf
import tf_keras

from components.trainer.callbacks import BestWeights, EpochReporter, EpochResult, Phase
from components.trainer.model import set_trainable_blocks
from components.trainer.settings import TrainerSettings


def make_phases(settings: TrainerSettings) -> list[Phase]:
    """Returns the phases that train at least one epoch."""
    head = Phase("head", settings.head_epochs, settings.head_learning_rate, blocks=0)
    fine_tune = Phase(
        "fine-tune", settings.fine_tune_epochs, settings.fine_tune_learning_rate, settings.fine_tune_blocks
    )
    return [phase for phase in (head, fine_tune) if phase.epochs]


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
        # A step that has to make the optimizer's variables is traced twice, for seconds each time.
        model.optimizer.build(model.trainable_variables)
