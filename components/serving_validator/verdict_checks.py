"""Checks of what the export decides: `decision` and `unknown_score`, against the manifest's rule, computed apart."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from components.exported_model.decision import UNDECIDED, DecisionRule
from components.exported_model.signatures import DECISION, UNKNOWN_SCORE
from components.serving_validator.checks import make_finding
from components.serving_validator.findings import Finding
from components.serving_validator.fresh_process import Answer

_SCORE_TOLERANCE = 1e-2
"""Of 1 and of the score: a difference of sums of hundreds of squares in float32."""


@dataclass
class VerdictJudge:
    """Collects what differs, answer by answer.

    Attributes:
        classes: Transform's vocabulary.
        rule: of the manifest.
        tolerance: the largest allowed difference of a probability: so near a threshold either side is right.
    """

    classes: Sequence[str]
    rule: DecisionRule
    tolerance: float
    _compared: int = 0
    _problems: dict[str, list[str]] = field(default_factory=lambda: {DECISION: [], UNKNOWN_SCORE: []})

    def judge(self, name: str, answer: Answer, probabilities: np.ndarray, scores: np.ndarray) -> None:
        """Compares one answer.

        Args:
            name: of what was sent and to which signature.
            answer: of the export; one that lacks an output is not judged here.
            probabilities: float64 [images, classes], computed apart.
            scores: float64 [images], as well.
        """
        decisions, found = answer.outputs.get(DECISION), answer.outputs.get(UNKNOWN_SCORE)
        if decisions is None or found is None or decisions.shape != scores.shape or found.shape != scores.shape:
            return  # The findings on signatures and answers tell.
        self._compared += len(scores)
        if not np.all(np.abs(found - scores) <= _SCORE_TOLERANCE * np.maximum(1.0, scores)):
            worst = int(np.argmax(np.abs(found - scores)))
            text = f"{name} is {found[worst]:.3g} of an image whose score is {scores[worst]:.3g}"
            self._problems[UNKNOWN_SCORE].append(text)
        ranked, rows = np.sort(probabilities, axis=1), np.arange(len(scores))
        likeliest = probabilities.argmax(axis=1)
        thresholds = np.asarray(self.rule.thresholds)[likeliest]
        near = np.abs(probabilities[rows, likeliest] - thresholds) <= self.tolerance
        near |= ranked[:, -1] - ranked[:, -2] <= 2 * self.tolerance
        near |= self.rule.refuse_unknown & (np.abs(scores - 1.0) <= _SCORE_TOLERANCE)
        decides = self.rule.decides(probabilities, scores)
        for row in np.flatnonzero(~near):
            expected = self.classes[likeliest[row]] if decides[row] else UNDECIDED
            if decisions[row].decode(errors="replace") != expected:
                given = decisions[row].decode(errors="replace")
                self._problems[DECISION].append(f"{name} is {given!r} where {expected!r} follows from the manifest")

    def findings(self) -> Iterator[Finding]:
        """Yields the findings."""
        passed = {DECISION: "follow from the manifest's rule", UNKNOWN_SCORE: "are those computed apart"}
        for check, problems in self._problems.items():
            yield make_finding(check, problems, f"{self._compared} of {self._compared} {passed[check]}")


def judge_verdicts(
    judge: VerdictJudge,
    expected: Mapping[str, tuple[np.ndarray, np.ndarray]],
    answers: Mapping[tuple[str, str], Answer],
) -> Iterator[Finding]:
    """Yields the findings on all answers to probes whose probabilities and scores are known.

    Args:
        judge: new.
        expected: probe name -> probabilities and scores.
        answers: (probe name, signature) -> its answer.
    """
    for (name, signature), answer in answers.items():
        if name in expected:
            judge.judge(f"{name} through {signature}", answer, *expected[name])
    yield from judge.findings()
