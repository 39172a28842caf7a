"""What the probabilities of the transfer benchmark say: rows, pooled figures, and what issue 11 asks of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.stats

from components.evaluator.definitions import CALIBRATION_BINS, EPSILON, Answers, make_figures
from components.report_gen.wilson import wilson_interval

DRAWS = 1000


@dataclass(frozen=True)
class Judged:
    """One contender on the test images of one set.

    Attributes:
        labels: int64 [images].
        probabilities: float32 [images, classes].
        seconds: to the model, see `transfer_contenders`.
        peak_gib: the largest resident set until then.
        temperature: that was folded into the model's head, None where none was.
        whole: whether all epochs were trained.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    seconds: float
    peak_gib: float
    temperature: float | None = None
    whole: bool = True

    @cached_property
    def figures(self) -> dict[str, float]:
        """Returns accuracy, log_loss and ece as the report defines them."""
        sums = Answers(self.labels, self.probabilities).sum_terms()
        return {name: float(value) for name, value in make_figures(sums, ("accuracy", "log_loss", "ece")).items()}

    @cached_property
    def correct(self) -> np.ndarray:
        """Returns bool [images]."""
        return self.probabilities.argmax(axis=1) == self.labels

    @property
    def errors(self) -> int:
        """Returns how many images are answered wrongly."""
        return int((~self.correct).sum())

    @property
    def log_loss_before(self) -> float:
        """Returns the log loss without the temperature: the probabilities are a softmax of logits divided by it."""
        if self.temperature is None:
            return self.figures["log_loss"]
        logits = self.temperature * np.log(np.clip(self.probabilities.astype(np.float64), 1e-45, None))
        before = np.exp(logits - logits.max(axis=1, keepdims=True))
        before /= before.sum(axis=1, keepdims=True)
        mine = before[np.arange(len(self.labels)), self.labels]
        return float(-np.log(np.clip(mine, EPSILON, 1 - EPSILON)).mean())


class Requirement(NamedTuple):
    """What is asked, what was measured, and whether it is reached; None where nothing was measured."""

    asked: str
    measured: str
    reached: bool | None


Cells = Mapping[str, Mapping[str, Judged]]
"""Contender to set to what was judged."""


def paired_difference(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Returns the difference in accuracy and its standard error, of bool [images] of the same images."""
    differences = ours.astype(np.float64) - theirs.astype(np.float64)
    error = differences.std(ddof=1) / math.sqrt(len(differences)) if len(differences) > 1 else 0.0
    return float(differences.mean()), float(error)


def count_wins(ours: np.ndarray, theirs: np.ndarray) -> tuple[int, int, float]:
    """Returns images that only we and only they answer rightly, and McNemar's exact two-sided p."""
    wins, losses = int((ours & ~theirs).sum()), int((~ours & theirs).sum())
    return wins, losses, float(scipy.stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def calibration_error(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Returns the expected calibration error, float64 [draws], as the Evaluator defines it.

    Args:
        confidence: float [images], the probability of the most probable class.
        correct: bool [draws, images].
    """
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    member = (bins[:, None] == np.arange(CALIBRATION_BINS)).astype(np.float64)
    return np.abs((correct - confidence.astype(np.float64)) @ member).sum(axis=1) / len(confidence)


def calibration_bound(probabilities: np.ndarray, draws: int = DRAWS) -> float:
    """Returns what the calibration error of labels drawn from the probabilities themselves exceeds in 5 % of draws."""
    confidence = probabilities.max(axis=1)
    drawn = np.random.default_rng(11).random([draws, len(confidence)]) < confidence
    return float(np.quantile(calibration_error(confidence, drawn), 0.95))


def describe_row(judged: Judged) -> str:
    """Returns one contender on one set as text."""
    images = len(judged.labels)
    low, high = wilson_interval(images - judged.errors, images) or (math.nan, math.nan)
    figures = judged.figures
    return (
        f"accuracy {figures['accuracy']:.3f} ({low:.3f} to {high:.3f}), log loss {figures['log_loss']:.3f}, "
        f"ECE {figures['ece']:.3f} (bound {calibration_bound(judged.probabilities):.3f}), "
        f"{judged.seconds:7.1f} s, {judged.peak_gib:.2f} GiB"
    )


def shared_sets(cells: Cells, *names: str) -> list[str]:
    """Returns the sets on which all of these contenders were judged."""
    return sorted(set.intersection(*(set(cells.get(name, ())) for name in names)))


def pool(judged: Sequence[Judged]) -> dict[str, float]:
    """Returns images, errors, log_loss (over all images, after and before the temperature) and seconds of several."""
    images = np.array([len(one.labels) for one in judged])
    return {
        "images": float(images.sum()),
        "errors": float(sum(one.errors for one in judged)),
        "log_loss": float(images @ [one.figures["log_loss"] for one in judged] / images.sum()),
        "log_loss_before": float(images @ [one.log_loss_before for one in judged] / images.sum()),
        "seconds": sum(one.seconds for one in judged),
    }


def describe_pair(cells: Cells, ours: str, theirs: str) -> list[str]:
    """Returns wins and losses by McNemar and paired differences, set by set and pooled, as lines."""
    lines = []
    sets = shared_sets(cells, ours, theirs)
    pairs = {name: (cells[ours][name].correct, cells[theirs][name].correct) for name in sets}
    if sets:
        pairs["pooled"] = tuple(np.concatenate(part) for part in zip(*pairs.values(), strict=True))  # type: ignore[assignment]
    for name, (mine, other) in pairs.items():
        wins, losses, p = count_wins(mine, other)
        difference, error = paired_difference(mine, other)
        lines.append(
            f"{ours} against {theirs}, {name}: {wins} wins, {losses} losses, p {p:.3f}; "
            f"accuracy {difference:+.3f} (paired standard error {error:.3f})"
        )
    return lines


def _at_most_ratio(cells: Cells, what: str, ours: str, theirs: str, limit: float) -> Requirement:
    asked = f"{ours}: {what.replace('_', ' ')} at most {limit:.3g} of those of {theirs}"
    sets = shared_sets(cells, ours, theirs)
    if not sets:
        return Requirement(asked, "not measured", None)
    mine, other = (pool([cells[contender][name] for name in sets])[what] for contender in (ours, theirs))
    ratio = mine / other if other else (0.0 if not mine else math.inf)
    if other == mine == 0:
        return Requirement(asked, f"none of either, {len(sets)} sets", True)
    reached = ratio <= limit
    return Requirement(asked, f"{mine:.4g} / {other:.4g} = {ratio:.3f}, {len(sets)} sets", reached)


def _not_below(cells: Cells, ours: str, theirs: str) -> Requirement:
    asked = f"{ours}: on no set more than 2 paired standard errors below {theirs}"
    worst = []
    for name in shared_sets(cells, ours, theirs):
        difference, error = paired_difference(cells[ours][name].correct, cells[theirs][name].correct)
        worst.append((difference + 2 * error, difference, error, name))
    if not worst:
        return Requirement(asked, "not measured", None)
    margin, difference, error, name = min(worst)
    return Requirement(asked, f"nearest: {difference:+.3f}, error {error:.3f}, {name}", margin >= 0)


def _above_on_each(cells: Cells, ours: str, theirs: str) -> Requirement:
    asked = f"{ours}: more accurate than {theirs} on each set"
    sets = shared_sets(cells, ours, theirs)
    if not sets:
        return Requirement(asked, "not measured", None)
    errors = {name: (cells[ours][name].errors, cells[theirs][name].errors) for name in sets}
    # Nothing is above a contender without an error.
    below = [name for name, (mine, other) in errors.items() if mine >= other and other]
    text = ", ".join(f"{name} {mine} against {other} errors" for name, (mine, other) in errors.items())
    return Requirement(asked, text, not below)


def _at_least(cells: Cells, ours: str, theirs: str) -> Requirement:
    asked = f"{ours}: pooled, at least as accurate as {theirs}"
    sets = [name for name in shared_sets(cells, ours, theirs) if cells[theirs][name].whole]
    if not sets:
        return Requirement(asked, "not measured", None)
    mine, other = (pool([cells[contender][name] for name in sets])["errors"] for contender in (ours, theirs))
    below = [name for name in sets if cells[ours][name].errors > cells[theirs][name].errors]
    text = f"{mine:.0f} against {other:.0f} errors, {len(sets)} sets; below on {', '.join(below) or 'none'}"
    return Requirement(asked, text, mine <= other)


def _temperature_helps(cells: Cells, ours: str) -> Requirement:
    asked = f"{ours}: pooled log loss after the temperature not above that before"
    judged = [one for one in cells.get(ours, {}).values() if one.temperature is not None]
    if not judged:
        return Requirement(asked, "no temperature is recorded", None)
    pooled = pool(judged)
    text = f"{pooled['log_loss']:.4f} after, {pooled['log_loss_before']:.4f} before, {len(judged)} sets"
    return Requirement(asked, text, pooled["log_loss"] <= pooled["log_loss_before"])


def _calibrated(cells: Cells, ours: str) -> Requirement:
    asked = f"{ours}: ECE within what its own probabilities give (95 %) on all sets but one"
    judged = cells.get(ours, {})
    if not judged:
        return Requirement(asked, "not measured", None)
    beyond = [name for name, one in judged.items() if one.figures["ece"] > calibration_bound(one.probabilities)]
    text = f"{len(judged) - len(beyond)} of {len(judged)} sets; beyond: {', '.join(beyond) or 'none'}"
    return Requirement(asked, text, len(beyond) <= min(1, len(judged) - 1))


def judge_requirements(cells: Cells) -> list[Requirement]:
    """Returns each requirement of issue 11 on photographs, with what was measured."""
    return [
        _at_most_ratio(cells, "errors", "quick", "regression", 0.9),
        _at_most_ratio(cells, "log_loss", "quick", "regression", 0.85),
        _not_below(cells, "quick", "regression"),
        _above_on_each(cells, "quick", "guide-frozen"),
        _at_most_ratio(cells, "seconds", "quick", "guide-frozen", 1 / 20),
        _at_most_ratio(cells, "errors", "balanced", "quick", 0.95),
        _not_below(cells, "balanced", "quick"),
        _at_most_ratio(cells, "seconds", "balanced", "quick", 3.0),
        _at_least(cells, "balanced-128", "guide-128"),
        _at_most_ratio(cells, "seconds", "quick-128", "guide-128", 1 / 20),
        _at_most_ratio(cells, "seconds", "balanced-128", "guide-128", 1 / 4),
        *(_temperature_helps(cells, ours) for ours in ("quick", "balanced")),
        *(_calibrated(cells, ours) for ours in ("quick", "balanced")),
    ]


PAIRS = (
    ("quick", "regression"),
    ("quick", "guide-frozen"),
    ("balanced", "quick"),
    ("balanced-128", "guide-128"),
    ("quick-128", "guide-128"),
)


def describe(cells: Cells) -> list[str]:
    """Returns the whole account as lines: rows, pooled figures, pairs, requirements."""
    lines = []
    for name in sorted({name for judged in cells.values() for name in judged}):
        size = next(len(judged[name].labels) for judged in cells.values() if name in judged)
        lines += ["", f"{name} ({size} test images)"]
        lines += [
            f"  {contender:<13} {describe_row(judged[name])}" for contender, judged in cells.items() if name in judged
        ]
    lines += ["", "pooled over the sets"]
    for contender, judged in cells.items():
        if judged:
            pooled = pool(list(judged.values()))
            lines.append(
                f"  {contender:<13} {pooled['errors']:.0f} errors of {pooled['images']:.0f}, log loss "
                f"{pooled['log_loss']:.3f}, {pooled['seconds']:.0f} s, {len(judged)} sets"
            )
    lines += [""] + [line for pair in PAIRS for line in describe_pair(cells, *pair)]
    lines += ["", "asked | measured | reached"]
    reached = {True: "yes", False: "NO", None: "-"}
    lines += [f"{one.asked} | {one.measured} | {reached[one.reached]}" for one in judge_requirements(cells)]
    return lines
