"""How far an answer is from what was computed apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.serving_validator.fresh_process import Answer

LABELS, PROBABILITIES = "labels", "probabilities"
_LEAST_PROBABILITY = 1e-9


@dataclass(frozen=True)
class ServedProbabilities:
    """An answer in the terms of the reference.

    Attributes:
        classes: int64 [images, k], positions in the vocabulary.
        values: float64 [images, k], their probabilities.
    """

    classes: np.ndarray
    values: np.ndarray

    def distance(self, expected: np.ndarray) -> float:
        """Returns the largest difference of a probability from the expected ones, float64 [images, classes]."""
        return float(np.abs(self.values - np.take_along_axis(expected, self.classes, axis=1)).max())

    def log_distance(self, expected: np.ndarray) -> float:
        """Returns the mean difference of the logarithms, which also tells where one class takes all probability."""
        wanted = np.take_along_axis(expected, self.classes, axis=1)
        served, wanted = (np.log(np.maximum(values, _LEAST_PROBABILITY)) for values in (self.values, wanted))
        return float(np.abs(served - wanted).mean())

    def wrong_labels(self, expected: np.ndarray, tolerance: float) -> int:
        """Returns how many images got another likeliest class; two within the tolerance of each other are equal."""
        likeliest = self.classes[np.arange(len(self.classes)), self.values.argmax(axis=1)]
        given = expected[np.arange(len(expected)), likeliest]
        return int((given < expected.max(axis=1) - 2 * tolerance).sum())


class UnlikeAnswer(ValueError):
    """An answer that cannot be compared: an error, another shape, an unknown label, or what is no probability."""


def read_answer(answer: Answer, classes: Sequence[str], images: int) -> ServedProbabilities:
    """Reads an answer of `serving_default`, which has labels, or of another signature, which has none.

    Args:
        answer: of one call.
        classes: the vocabulary.
        images: how many were sent.

    Raises:
        UnlikeAnswer: with what is wrong in one line.
    """
    if answer.error is not None:
        raise UnlikeAnswer(f"was refused: {first_line(answer.message)}")
    if PROBABILITIES not in answer.outputs:
        raise UnlikeAnswer(f"has no output {PROBABILITIES!r}, only {', '.join(sorted(answer.outputs)) or 'none'}")
    values = answer.outputs[PROBABILITIES].astype(np.float64)
    labels = answer.outputs.get(LABELS)
    width = len(classes) if labels is None else labels.shape[-1]
    if values.shape != (images, width) or (labels is not None and labels.shape != values.shape):
        raise UnlikeAnswer(f"has the shape {list(values.shape)}; [{images}, {width}] was expected")
    if not np.isfinite(values).all():
        raise UnlikeAnswer(f"has {np.count_nonzero(~np.isfinite(values))} probabilities that are no finite numbers")
    if labels is None:
        if np.abs(values.sum(axis=1) - 1).max() > 1e-3:
            raise UnlikeAnswer(f"has probabilities that sum to {values.sum(axis=1).max():.4f}, not to 1")
        return ServedProbabilities(np.tile(np.arange(width), (images, 1)), values)
    positions = {name.encode(): position for position, name in enumerate(classes)}
    unknown = [label for label in labels.reshape(-1).tolist() if label not in positions]
    if unknown:
        raise UnlikeAnswer(f"has the label {unknown[0].decode(errors='replace')!r}, which Transform does not know")
    if (np.diff(values, axis=1) > 0).any():
        raise UnlikeAnswer("does not have the likeliest class first")
    return ServedProbabilities(np.vectorize(positions.__getitem__)(labels), values)


def first_line(message: str) -> str:
    """Returns what a TensorFlow error says, without the nodes and traces that stand around it."""
    lines = [line.strip() for line in message.partition("[[")[0].splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no message"
