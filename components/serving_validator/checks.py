"""The checks: answers of the fresh process against what was computed apart, one finding each."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from components.exported_model.signatures import (
    ALONE,
    CLASSIFYING_SIGNATURES,
    EXPLAIN_SIGNATURE,
    PICTURE_SIGNATURE,
    PIXELS_SIGNATURE,
    SERVING_SIGNATURE,
    SIGNATURES,
    TOP_K,
    TRANSFORM_SIGNATURE,
)
from components.serving_validator.comparison import UnlikeAnswer, first_line, read_answer
from components.serving_validator.findings import Finding
from components.serving_validator.fresh_process import Answer, Answers
from components.serving_validator.probes import BATCH_SIZES, Probe
from components.transform.features import TRANSFORMED_IMAGE_KEY

_PER_CLASS = ("labels", "probabilities")
_REFUSAL = "InvalidArgumentError"


def check_signatures(found: Mapping[str, Mapping[str, Mapping[str, tuple]]], class_count: int) -> Finding:
    """Checks names, types and open batch dimensions of the signatures; further ones do no harm."""
    widths = dict.fromkeys(CLASSIFYING_SIGNATURES, class_count) | dict.fromkeys(
        [SERVING_SIGNATURE, PICTURE_SIGNATURE, PIXELS_SIGNATURE, EXPLAIN_SIGNATURE], min(TOP_K, class_count)
    )
    problems = []
    for name, signature in SIGNATURES.items():
        if name not in found:
            problems.append(f"{name} is missing (there are {', '.join(sorted(found)) or 'none'})")
            continue
        for kind, expected in (("inputs", {signature.argument: signature.dtype}), ("outputs", signature.outputs)):
            types = {key: dtype for key, (dtype, _) in found[name][kind].items()}
            if types != expected:
                problems.append(f"{name} has the {kind} {_list(types)}; {_list(expected)} was expected")
        for kind in ("inputs", "outputs"):
            for key, (_, shape) in found[name][kind].items():
                if shape and shape[0] is not None and name not in ALONE:
                    problems.append(f"{name} takes batches of {shape[0]} only ({key})")
                if key in _PER_CLASS and name in widths and shape and shape[-1] not in (None, widths[name]):
                    problems.append(f"{name} answers {shape[-1]} values in {key}; {widths[name]} were expected")
    return make_finding("signatures", problems, f"{', '.join(SIGNATURES)}: names, types and batches as expected")


def _list(types: Mapping[str, str]) -> str:
    return ", ".join(f"{key} ({dtype})" for key, dtype in sorted(types.items())) or "none"


def check_vocabulary(found: Sequence[str], classes: Sequence[str], check: str = "vocabulary") -> Finding:
    """Compares the names and their order in the model's asset or manifest with Transform's vocabulary."""
    problems = []
    if list(found) != list(classes):
        if sorted(found) == sorted(classes):
            place = next(i for i, (a, b) in enumerate(zip(found, classes, strict=True)) if a != b)
            problems.append(f"the order differs: class {place} is {found[place]!r} and not {classes[place]!r}")
        else:
            other = sorted(set(found) ^ set(classes))
            problems.append(f"{len(found)} classes, and not the {len(classes)} of Transform; such as {other[:3]}")
    return make_finding(check, problems, f"{len(classes)} classes in the order of Transform's vocabulary")


def check_transform(answer: Answer, packed: np.ndarray) -> Finding:
    """Compares decoded and resized images of the export with those of Transform's own graph, bit by bit."""
    images = answer.outputs.get(TRANSFORMED_IMAGE_KEY)
    if images is None:
        return Finding("transform", False, f"{TRANSFORM_SIGNATURE} does not answer: {first_line(answer.message)}")
    # numpy's bytes end at their last byte that is not 0, on both sides.
    expected = packed.astype(np.bytes_)
    different = len(expected) if images.shape != expected.shape else int((images != expected).sum())
    problems = [f"{different} of {len(expected)} images are decoded or resized otherwise than in Transform"]
    return make_finding(
        "transform", problems if different else [], f"{len(expected)} images decoded and resized as in Transform"
    )


class ProbeJudge:
    """Judges the answers to the probes, of all signatures that classify."""

    def __init__(
        self, classes: Sequence[str], tolerance: float, expected: Mapping[str, np.ndarray], answers: Answers
    ) -> None:
        """Keeps what is compared.

        Args:
            classes: Transform's vocabulary.
            tolerance: the largest allowed difference of a probability.
            expected: probe name -> float64 [images, classes].
            answers: of the fresh process; of the signatures that it lacks nothing is judged here.
        """
        self._classes = classes
        self._tolerance = tolerance
        self._expected = expected
        self._signatures = [name for name in CLASSIFYING_SIGNATURES if name in answers.signatures]

    def judge(self, probes: Sequence[Probe], answers: Mapping[tuple[str, str], Answer]) -> Iterator[Finding]:
        """Yields the findings on batches, formats, originals and garbage.

        Args:
            probes: all of them.
            answers: (probe name, signature) -> its answer; not every signature is asked for every probe.
        """
        refused, labels, sizes = [], [], []
        distance, compared = 0.0, 0
        for probe, signature, answer in self._answered(probes, answers, "batches"):
            expected = self._expected[probe.name]
            try:
                served = read_answer(answer, self._classes, len(probe.images))
            except UnlikeAnswer as problem:
                refused.append(f"{probe.name} through {signature} {problem}")
                continue
            compared += len(probe.images)
            sizes.append(len(probe.images))
            distance = max(distance, served.distance(expected))
            if wrong := served.wrong_labels(expected, self._tolerance):
                labels.append(f"{wrong} of {len(probe.images)} images have another label through {signature}")
        if self._signatures:
            shown = ", ".join(map(str, sorted(set(sizes) | set(BATCH_SIZES))))
            yield make_finding("answers", refused, f"finite probabilities for batches of {shown}")
        if compared:
            yield make_finding("labels", labels, f"{compared} answers name the class that was computed apart")
            yield Finding(
                "probabilities",
                distance <= self._tolerance,
                f"at most {distance:.1e} from those computed apart",
                distance,
                self._tolerance,
            )
        for check in ("formats", "originals"):
            answered = list(self._answered(probes, answers, check))
            if answered:
                names = list(dict.fromkeys(probe.name for probe, _, _ in answered))
                problems = [text for item in answered for text in self._differences(*item)]
                yield make_finding(check, problems, ", ".join(names))
        yield from self._judge_garbage(probes, answers)

    def _answered(
        self, probes: Sequence[Probe], answers: Mapping[tuple[str, str], Answer], check: str
    ) -> Iterator[tuple[Probe, str, Answer]]:
        for probe in probes:
            for signature in self._signatures:
                if probe.check == check and (probe.name, signature) in answers:
                    yield probe, signature, answers[probe.name, signature]

    def _differences(self, probe: Probe, signature: str, answer: Answer) -> Iterator[str]:
        try:
            served = read_answer(answer, self._classes, len(probe.images))
        except UnlikeAnswer as problem:
            yield f"{probe.name} through {signature} {problem}"
            return
        if (distance := served.distance(self._expected[probe.name])) > self._tolerance:
            yield f"{probe.name} through {signature} is {distance:.1e} off"

    def _judge_garbage(self, probes: Sequence[Probe], answers: Mapping[tuple[str, str], Answer]) -> Iterator[Finding]:
        problems, told = [], ""
        for probe, signature, answer in self._answered(probes, answers, "garbage"):
            if answer.error is None:
                problems.append(f"{probe.name} got an answer from {signature}")
            elif answer.error != _REFUSAL or not answer.message.strip():
                problems.append(f"{probe.name} gave {answer.error} from {signature}: {first_line(answer.message)}")
            else:
                told = told or first_line(answer.message)
        if self._signatures:
            yield make_finding("garbage", problems, f"refused, and the process goes on; e.g. {told!r}")


def check_bound(check: str, value: float, bound: float | None, message: str) -> Finding:
    """Compares a measured value with its bound, if there is one."""
    passed = bound is None or value <= bound
    return Finding(check, passed, message if passed else f"{message}, more than {bound:g}", value, bound)


def make_finding(check: str, problems: Sequence[str], passed: str) -> Finding:
    """Returns a finding that failed with the first of its problems, or passed with another message."""
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    return Finding(check, not problems, problems[0] + more if problems else passed)
