"""When an exported model answers by itself and when a person should look: what its manifest says of that."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

UNDECIDED = ""
"""The `decision` where a person should look."""

NEVER = 2.0
"""A threshold that no probability reaches: nothing was shown of such a class."""


class DecisionRule(BaseModel):
    """From which probability on the likeliest class may be acted upon.

    Attributes:
        thresholds: by class, in the order of the probabilities; 0 always answers, `NEVER` never does.
        refuse_unknown: whether nothing is decided of an image whose `unknown_score` is above 1.
        outcomes: what was shown, and on how many images, in sentences; empty where nothing was asked for.
        coverage: share of the images of eval that it decides of; None where none was asked.
    """

    model_config = ConfigDict(frozen=True)

    thresholds: tuple[float, ...]
    refuse_unknown: bool = False
    outcomes: tuple[str, ...] = ()
    coverage: float | None = None

    @property
    def asks_nothing(self) -> bool:
        """Whether the likeliest class is always decided for."""
        return not self.refuse_unknown and not any(self.thresholds)

    def decides(self, probabilities: np.ndarray, unknown_scores: np.ndarray) -> np.ndarray:
        """Returns of which images it decides, bool [images].

        Args:
            probabilities: float [images, classes].
            unknown_scores: float [images].
        """
        sure = probabilities.max(axis=1) >= np.asarray(self.thresholds)[probabilities.argmax(axis=1)]
        return sure & (unknown_scores <= 1.0) if self.refuse_unknown else sure


def decide_always(classes: Sequence[object]) -> DecisionRule:
    """Returns the rule that decides for the likeliest class, whatever the image."""
    return DecisionRule(thresholds=(0.0,) * len(classes))
