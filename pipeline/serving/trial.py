"""Tries a model before it answers anybody: whether it answers sanely, and in which batches fastest."""

import io
import math
import time
from collections.abc import Sequence

import numpy as np
from PIL import Image

from components.exported_model.loaded import LoadedModel, ModelAnswer

_SIZES = (1, 2, 4, 8, 16, 32, 64)
_LEAST_GAIN = 1.05
"""A larger batch makes each of its images wait longer, so it must answer at least 5 % more of them a second."""
_MOST_CALL_SECONDS = 1.0
"""Of a batch, which is what a picture waits for that comes just after it began."""
_MEASURE_SECONDS = 0.3
_SLACK = 1e-3
"""How far a sum of float32 probabilities is from 1 at most, as the ServingValidator's check has it."""


class FailedTrial(Exception):
    """A model's answer to a made-up picture that no model gives; the message is one line."""


def make_picture(side: int = 96) -> bytes:
    """Returns a made-up photograph as JPEG, always the same."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
    buffer = io.BytesIO()
    coarse.resize((side * 4 // 3, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def probe(model: LoadedModel) -> None:
    """Has a model answer a made-up picture by the way of every other one; its first calls are its slowest, too.

    Raises:
        FailedTrial: the answer is not sane.
    """
    prepared = model.prepare(make_picture(), max_pixels=10**6)
    for count in (1, 2):
        for answer in model.answer([prepared] * count):
            _check(answer, model.manifest.classes if model.manifest else None)


def _check(answer: ModelAnswer, classes: Sequence[str] | None) -> None:
    values = answer.probabilities
    if not all(map(math.isfinite, values)):
        raise FailedTrial("a made-up picture got probabilities that are no finite numbers")
    if min(values) < 0 or sum(values) > 1 + _SLACK or (len(values) == len(classes or ()) and sum(values) < 1 - _SLACK):
        raise FailedTrial(f"a made-up picture got probabilities that sum to {sum(values):.4f}")
    if list(values) != sorted(values, reverse=True):
        raise FailedTrial("a made-up picture's likeliest class is not the first")
    if classes is not None and (unknown := set(answer.labels) - set(classes)):
        raise FailedTrial(f"a made-up picture got the label {min(unknown)!r}, which its manifest does not name")
    if answer.decision and answer.decision not in answer.labels:
        raise FailedTrial(f"a made-up picture got the decision {answer.decision!r}, which is none of its labels")
    if answer.unknown_score is not None and not math.isfinite(answer.unknown_score):
        raise FailedTrial("a made-up picture got an unknown_score that is no finite number")


def measure_batch(model: LoadedModel) -> tuple[int, float]:
    """Returns the batch in which a model answers most images a second, and how many; takes a few seconds."""
    prepared = model.prepare(make_picture(), max_pixels=10**6)
    best, rate = 1, 0.0
    for size in _SIZES:
        batch = [prepared] * size
        model.answer(batch)  # TensorFlow's kernels choose their ways by the shape.
        seconds = min(_time_calls(model, batch))  # Whatever else the machine does makes a call slower, none faster.
        if size / seconds > rate * _LEAST_GAIN:
            best, rate = size, size / seconds
        if seconds * 2 > _MOST_CALL_SECONDS:
            break
    return best, rate


def _time_calls(model: LoadedModel, batch: Sequence[np.ndarray | bytes]) -> list[float]:
    """Returns the seconds of at least two calls."""
    seconds: list[float] = []
    while len(seconds) < 2 or sum(seconds) < _MEASURE_SECONDS:
        start = time.perf_counter()
        model.answer(batch)
        seconds.append(time.perf_counter() - start)
    return seconds


def warm(model: LoadedModel, batch_size: int) -> None:
    """Answers one batch of the size that most will have."""
    model.answer([model.prepare(make_picture(), max_pixels=10**6)] * batch_size)
