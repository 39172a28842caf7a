"""What a data set may say of its examples beside their classes: how much each weighs, and which belong together.

Weights are for what learns: steps, and the solved head. What judges counts each image once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import tensorflow as tf

from components.progress import report_progress
from components.trainer.batches import read_records
from components.transform.features import EXTRA_FEATURE_SPEC, TRANSFORMED_GROUP_KEY, TRANSFORMED_WEIGHT_KEY

_READ_RECORDS = 1024


@dataclass(frozen=True)
class Extras:
    """Of some examples, in their order.

    Attributes:
        weights: float32 [examples], above 0; None where all are 1.
        groups: int64 [examples], the same for those that belong together; None where there are no groups.
    """

    weights: np.ndarray | None = None
    groups: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> "Extras":
        """Returns those of some rows."""
        return Extras(*(None if values is None else values[rows] for values in (self.weights, self.groups)))

    def join(self, other: "Extras", counts: tuple[int, int]) -> "Extras":
        """Returns these followed by others; what has no weight weighs 1, and what has no group is one of its own.

        Args:
            other: what follows.
            counts: examples of both.
        """
        weights = groups = None
        if self.weights is not None or other.weights is not None:
            pairs = zip((self.weights, other.weights), counts, strict=True)
            weights = np.concatenate([np.ones(n, np.float32) if values is None else values for values, n in pairs])
        if self.groups is not None or other.groups is not None:
            alone = -2 - np.arange(sum(counts))
            own = alone[: counts[0]] if self.groups is None else self.groups
            groups = np.concatenate([own, alone[counts[0] :] if other.groups is None else other.groups])
        return Extras(weights, groups)

    @property
    def relative_weights(self) -> np.ndarray | None:
        """The weights, 1 on average: twice as large ones must not learn twice as fast."""
        return None if self.weights is None else self.weights / self.weights.mean(dtype=np.float64).astype(np.float32)


NO_EXTRAS = Extras()


class LabelledSplit(Protocol):
    """What is read here of a `Split`."""

    @property
    def labels(self) -> np.ndarray:
        """See `Split`."""

    @property
    def extras(self) -> Extras:
        """See `Split`."""


def known_extras(split: LabelledSplit) -> Extras:
    """Returns those of the examples whose class train knows: of which features are kept."""
    return split.extras.take(split.labels >= 0)


def weigh_examples(labels: np.ndarray, extras: Extras, class_weights: np.ndarray | None) -> np.ndarray:
    """Returns float64 [examples]: each one's own weight times that of its class."""
    weights = np.ones(len(labels)) if class_weights is None else class_weights[labels].astype(np.float64)
    return weights if extras.weights is None else weights * extras.weights


def read_extras(files: Sequence[str]) -> Extras:
    """Reads those of a split, in a pass of its own, which is made only where the first example has any.

    Args:
        files: sorted paths of gzipped TFRecord files of transformed Examples.
    """
    records = read_records(files)
    first = [tf.train.Example.FromString(record.numpy()) for record in records.take(1)]
    if not any(EXTRA_FEATURE_SPEC.keys() & example.features.feature.keys() for example in first):
        return Extras()
    found: list[dict[str, np.ndarray]] = []
    done = 0
    for batch in records.batch(_READ_RECORDS):
        found.append({key: value.numpy() for key, value in tf.io.parse_example(batch, EXTRA_FEATURE_SPEC).items()})
        done += len(found[-1][TRANSFORMED_WEIGHT_KEY])
        report_progress("reading weights and groups", completed=done)
    weights, groups = (
        np.concatenate([part[key] for part in found]) for key in (TRANSFORMED_WEIGHT_KEY, TRANSFORMED_GROUP_KEY)
    )
    return Extras(weights if (weights != 1.0).any() else None, groups if (groups >= 0).any() else None)
