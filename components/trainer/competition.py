"""Which of a training's states is shipped, and at which temperature: decided on `eval`, where that can decide."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from components.trainer.logistic_regression import log_losses
from components.trainer.temperature import fit_temperature

FEWEST_TO_CALIBRATE = 500
"""Images of eval from which on they choose a solved head's strength and temperature, in place of held-out folds."""

_LEAST_NOISES = 2.0


@dataclass(frozen=True)
class Judged:
    """Logits of images that trained nothing of what made them.

    Attributes:
        logits: float [n, classes].
        labels: int64 [n].
        weights: float [n], what each image counts.
        images: which they are, in their order: of `eval`, of `train`, `all` of train and then of eval, or `some` of
            train.
    """

    logits: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    images: Literal["eval", "train", "all", "some"] = "eval"

    def loss_and_accuracy(self) -> tuple[float, float]:
        """Returns the mean log loss in nats and the accuracy, NaN where there is no image."""
        if not len(self.labels):
            return math.nan, math.nan
        losses = log_losses(self.logits, self.labels)
        right = self.logits.argmax(axis=-1) == self.labels
        return float(np.average(losses, weights=self.weights)), float(np.average(right, weights=self.weights))

    @property
    def temperature(self) -> float:
        """The temperature of their lowest log loss; see `fit_temperature`."""
        return fit_temperature(self.logits, self.labels, self.weights)

    def losses_at_best(self) -> np.ndarray:
        """Returns the log loss of each image in nats, at the temperature that suits all of them best."""
        return log_losses(self.logits / self.temperature, self.labels)


class Competition:
    """Candidates for what is shipped, from the solved head on; each of them is judged at its own best temperature.

    A later one wins if its mean log loss on eval is lower by more than two standard errors of the difference, image by
    image: what was there first costs nothing, and with one standard error the luckiest of six epochs won on 80 images
    (clothing, 0.09 nats), lost them again an epoch later, and was no better on test. Where the solved head is to learn
    from eval, too, before it is shipped, the one to beat is that one, as it answers images of eval that it did not see.
    """

    def __init__(self, start: Judged | None, out_of_fold: Judged | None) -> None:
        """Begins with the solved head.

        Args:
            start: its logits on eval; None lets the first that is offered win.
            out_of_fold: logits of train (or of train and then eval), each image's from a head that did not learn from
                it but, if eval is among them, from others of eval.
        """
        if start is not None and out_of_fold is not None and out_of_fold.images == "all":
            of_eval = len(out_of_fold.labels) - len(start.labels)
            start = Judged(out_of_fold.logits[of_eval:], start.labels, start.weights)
        self._best, self._out_of_fold = start, out_of_fold
        self._solved_is_best = start is not None
        self.offers: list[dict[str, Any]] = []
        """What was offered: by how much it won or lost against the best so far, in nats, and the noise of that."""

    def offer(self, candidate: Judged) -> bool:
        """Returns whether a later candidate wins, and keeps it if so."""
        if self._best is None:
            self._best = candidate
            return True
        if not len(candidate.labels):
            return False
        gains = self._best.losses_at_best() - candidate.losses_at_best()
        gain = float(np.average(gains, weights=candidate.weights))
        count = max(2, np.count_nonzero(candidate.weights))
        noise = float(gains[candidate.weights > 0].std(ddof=1)) / math.sqrt(count)
        won = gain > _LEAST_NOISES * noise
        self.offers.append({"gain": gain, "noise": noise, "won": won})
        if won:
            self.restore(candidate)
        return won

    def restore(self, best: Judged) -> None:
        """Takes a candidate for the best so far: of a training that was interrupted after it had won."""
        self._best, self._solved_is_best = best, False

    @property
    def solved_is_best(self) -> bool:
        """Whether nothing has beaten the solved head."""
        return self._solved_is_best

    def judge_of_temperature(self) -> Judged | None:
        """Returns what the temperature of the best is taken from: what tells most, and has not chosen it."""
        if self._best is None:
            return None
        few = np.count_nonzero(self._best.weights) < FEWEST_TO_CALIBRATE
        return self._out_of_fold if self._solved_is_best and few and self._out_of_fold else self._best
