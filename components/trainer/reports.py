"""What a person sees of a training: progress on screen, and TensorBoard."""

import math
import os

import numpy as np
import tensorflow as tf

from components.progress import report_progress
from components.trainer.phases import EpochResult, Phase

_PLOT_PIXELS = 300
_SHOWN_IMAGES = 16


def report_step(phase: Phase, epoch: int, totals: list[float], completed: int, total: int | None) -> None:
    """Reports a step, with the epoch's mean loss and accuracy so far."""
    loss, right, weight = totals
    message = f"{phase.name} {epoch + 1}/{phase.epochs} loss {loss / weight:.3f} accuracy {right / weight:.3f}"
    report_progress(message, completed=completed, total=total)


def report_epoch(phase: Phase, result: EpochResult) -> None:
    """Reports an epoch."""
    report_progress(
        f"{phase.name} {result.epoch}/{phase.epochs} loss {result.loss:.3f} accuracy {result.accuracy:.3f} "
        f"eval_loss {result.eval_loss:.3f} eval_accuracy {result.eval_accuracy:.3f}",
        lasting=True,
    )


def report_start(result: EpochResult) -> None:
    """Reports a solved head."""
    judged = (
        ""
        if math.isnan(result.eval_loss)
        else (f" eval_loss {result.eval_loss:.3f} eval_accuracy {result.eval_accuracy:.3f}")
    )
    report_progress(f"{result.phase} loss {result.loss:.3f} accuracy {result.accuracy:.3f}{judged}", lasting=True)


class TensorBoard:
    """Scalars of each epoch, in the folder of its phase."""

    def __init__(self, folder: str) -> None:
        """Writes below a local or `gs://` folder."""
        self._folder = folder
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

    def write(self, result: EpochResult, confusion: np.ndarray | None = None) -> None:
        """Adds an epoch, whose scalars have the names of Keras's own callback.

        Args:
            result: of the epoch.
            confusion: [classes, classes], examples of eval by class (row) and answer (column), shown as shares of the
                class: white is all of it.
        """
        values = {"train": (result.loss, result.accuracy), "validation": (result.eval_loss, result.eval_accuracy)}
        for split, (loss, accuracy) in values.items():
            with self._writer(result.phase, split).as_default(max(result.epoch - 1, 0)):
                tf.summary.scalar("epoch_loss", loss)
                tf.summary.scalar("epoch_accuracy", accuracy)
                if split == "train":
                    tf.summary.scalar("epoch_learning_rate", result.learning_rate)
                elif confusion is not None:
                    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
                    side = max(1, _PLOT_PIXELS // len(shares))
                    tf.summary.image("confusion_matrix", np.kron(shares, np.ones([side, side]))[None, :, :, None])
        for writer in self._writers.values():
            writer.flush()

    def write_images(self, phase: Phase, images: tf.Tensor) -> None:
        """Adds some of the images of a phase as its steps see them; uint8 [n, height, width, 3]."""
        with self._writer(phase.name, "train").as_default(0):
            tf.summary.image("augmented", images, max_outputs=_SHOWN_IMAGES)

    def _writer(self, phase: str, split: str) -> tf.summary.SummaryWriter:
        folder = os.path.join(self._folder, phase, split)
        if folder not in self._writers:
            self._writers[folder] = tf.summary.create_file_writer(folder)
        return self._writers[folder]
