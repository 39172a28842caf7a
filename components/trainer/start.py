"""What fine-tuning starts from and competes with: a head that was solved, or learned on standardised features."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.trainer.competition import Competition
from components.trainer.inputs import Split, distribute
from components.trainer.known_images import KnownFit
from components.trainer.learner import Judge
from components.trainer.model import ImageClassifier
from components.trainer.phases import EpochResult
from components.trainer.prefix_cache import PrefixCache


@dataclass(frozen=True)
class Rows:
    """Splits of rows, in place of images, and what maps them to logits."""

    cache: PrefixCache
    train: Split
    eval: Split


@dataclass(frozen=True)
class Start:
    """A solved head that fine-tuning starts from and competes with.

    Attributes:
        row: what it came to, as the first of the epochs.
        competition: which it opened.
        rows: what the frozen blocks below the first one that learns make of train and eval, if that was kept.
        known: what tells images that the frozen backbone does not know, as the solved head reads it.
        counts: whether it competes; what a Tuner compares is what came of its steps alone.
    """

    row: EpochResult
    competition: Competition
    rows: Rows | None = None
    known: KnownFit | None = None
    counts: bool = True

    def take_up(self, model: ImageClassifier, eval_split: Split) -> None:
        """Makes what a model is now the best so far, as it was when the training was interrupted."""
        rows = self.rows
        split = rows.eval if rows else eval_split
        batches = distribute(model.distribute_strategy, split.in_order)
        judge = Judge(model, forward=rows.cache.forward if rows else None)
        best = judge.read_logits(batches, -(-split.count // split.batch_size))
        assert best is not None, "nobody asked it to stop"
        self.competition.restore(best)


def judge_candidate(
    judge: Judge, competition: Competition, batches: Any, steps: int, until: Callable[[], bool]
) -> tuple[tuple[float, float] | None, bool | None]:
    """Returns loss and accuracy on eval, None if the run is to leave, and whether the competition was won.

    Arguments as in `Judge.evaluate`. A loss that is no number wins nothing.
    """
    found = judge.read_logits(batches, steps, until=until)
    if found is None:
        return None, None
    if not np.isfinite(found.logits).all():
        return (float("nan"), 0.0), False
    return found.loss_and_accuracy(), competition.offer(found)
