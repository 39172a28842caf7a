"""Checks of the signatures that take pixels, not files: decoded pictures, model inputs, where the evidence lies."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from components.exported_model.signatures import (
    ALONE,
    EXPLAIN_SIGNATURE,
    PICTURE_SIGNATURE,
    PIXELS_SIGNATURE,
    RESIZE_SIGNATURE,
    SIGNATURES,
)
from components.serving_validator.checks import make_finding
from components.serving_validator.comparison import UnlikeAnswer, first_line, read_answer
from components.serving_validator.findings import Finding
from components.serving_validator.fresh_process import Answer, Call
from components.serving_validator.probes import BATCH_SIZES, Probe
from data.picture import MOST_PIXELS, read_picture

_EVIDENCE_TOLERANCE = 0.01
"""Of 0..1. Sums in another order: at most 2e-5 was measured; a map of another class or layer is 0.3 and more off."""

_CHECKS = {
    RESIZE_SIGNATURE: "pictures",
    PICTURE_SIGNATURE: "pictures",
    PIXELS_SIGNATURE: "pixels",
    EXPLAIN_SIGNATURE: "explain",
}
"""Signature -> its finding."""


@dataclass(frozen=True)
class ArrayProbe:
    """One call of a signature that takes pixels.

    Attributes:
        name: of the call, for messages.
        call: what is asked.
        probabilities: float64 [images, classes], that the answer must equal; None where it has none.
        outputs: further outputs by name, [images, ...], and how far they may be off.
    """

    name: str
    call: Call
    probabilities: np.ndarray | None
    outputs: Mapping[str, tuple[np.ndarray, float]] = field(default_factory=dict)


def make_array_probes(
    probes: Sequence[Probe],
    images: Mapping[str, np.ndarray],
    probabilities: Mapping[str, np.ndarray],
    explain: Callable[[np.ndarray], np.ndarray],
    bit_depth: int,
) -> list[ArrayProbe]:
    """Returns the calls: small batches of `test`, originals and colours, one by one as pictures, together as pixels.

    Args:
        probes: of files.
        images: probe name -> Transform's images, uint8 [images, image_size, image_size, 3].
        probabilities: probe name -> float64 [images, classes].
        explain: images -> float32 [images, rows, columns], the evidence that is expected.
        bit_depth: of the model, see `Manifest`.
    """
    made = []
    for probe in probes:
        if probe.name not in images:
            continue
        pixels, expected = images[probe.name], probabilities[probe.name]
        small = len(pixels) < BATCH_SIZES[-1]
        if probe.check in ("batches", "originals", "colours") and small:
            for number, encoded in enumerate(probe.images):
                # As the commands and the server do it, not as TensorFlow does.
                picture = np.asarray(read_picture(encoded, MOST_PIXELS).at(bit_depth))
                name, row = f"image {number + 1} of {probe.name}", slice(number, number + 1)
                made.append(_probe(name, RESIZE_SIGNATURE, picture, None, pixels=(pixels[number], 0.0)))
                made.append(_probe(name, PICTURE_SIGNATURE, picture, expected[row]))
        if probe.check in ("batches", "colours") and small:
            made.append(_probe(probe.name, PIXELS_SIGNATURE, pixels, expected))
            evidence = explain(pixels), _EVIDENCE_TOLERANCE
            made.append(_probe(probe.name, EXPLAIN_SIGNATURE, pixels, expected, evidence=evidence))
    return made


def _probe(
    name: str, signature: str, sent: np.ndarray, expected: np.ndarray | None, **outputs: tuple[np.ndarray, float]
) -> ArrayProbe:
    items = (sent,) if signature in ALONE else tuple(sent)
    call = Call(signature, SIGNATURES[signature].argument, items, signature in ALONE)
    return ArrayProbe(name, call, expected, outputs)


def check_arrays(
    probes: Sequence[ArrayProbe], answers: Sequence[Answer], classes: Sequence[str], tolerance: float
) -> Iterator[Finding]:
    """Yields a finding for pictures, one for pixels and one for the evidence.

    Args:
        probes: that were sent.
        answers: theirs, in the same order.
        classes: Transform's vocabulary.
        tolerance: the largest allowed difference of a probability.
    """
    problems: dict[str, list[str]] = {check: [] for check in _CHECKS.values()}
    counts = dict.fromkeys(problems, 0)
    for probe, answer in zip(probes, answers, strict=True):
        check = _CHECKS[probe.call.signature]
        counts[check] += len(probe.call.items)
        problem = _compare(probe, answer, classes, tolerance)
        if problem:
            problems[check].append(f"{probe.call.signature}: {probe.name} {problem}")
    passed = {
        "pictures": "decoded pictures become the images that Transform makes of their files, and get their answers",
        "pixels": "model inputs get the answers of their files",
        "explain": "model inputs get their answers, and the evidence lies where it was computed apart",
    }
    for check, found in problems.items():
        yield make_finding(check, found, f"{counts[check]} {passed[check]}")


def _compare(probe: ArrayProbe, answer: Answer, classes: Sequence[str], tolerance: float) -> str | None:
    """Returns what is wrong with an answer, None if nothing is."""
    if probe.probabilities is not None:
        try:
            served = read_answer(answer, classes, len(probe.probabilities))
        except UnlikeAnswer as problem:
            return str(problem)
        if (distance := served.distance(probe.probabilities)) > tolerance:
            return f"is {distance:.1e} off"
    elif answer.error is not None:
        return f"was refused: {first_line(answer.message)}"
    for name, (expected, bound) in probe.outputs.items():
        found = answer.outputs.get(name)
        if found is None or found.shape != expected.shape:
            shape = "nothing" if found is None else f"the shape {list(found.shape)}"
            return f"has {shape} in {name}; {list(expected.shape)} was expected"
        off = np.abs(found.astype(np.float64) - expected.astype(np.float64))
        if not np.all(off <= bound):
            return f"differs in {np.count_nonzero(~(off <= bound)):,} of {off.size:,} values of {name}"
    return None
