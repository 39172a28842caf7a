"""What was trained, what of it was shipped and why, in words: for the page and the model card."""

from collections.abc import Iterator
from typing import Any

from components.report_gen.numbers import format_number

SOLVE = "solve"
"""The phase of a solved head, whose one row has epoch 0: before the first step."""


def pooling_text(training: dict[str, Any]) -> str:
    """Returns what the head reads; records of old runs do not say, and read the last block."""
    pooling = training.get("pooling", "last")
    if pooling == "last":
        return "averaged features of the last block"
    depth = int(pooling.rpartition("-")[2])
    blocks = "the last block" if depth == 1 else f"the last {depth} blocks"
    return f"square roots of averaged features of {blocks}"


def stepped_epochs(training: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the rows of the history that steps made."""
    return [row for row in training["history"] if row.get("phase") != SOLVE]


def phases_text(training: dict[str, Any]) -> str:
    """Returns the phases in order, each with its epochs."""
    epochs: dict[str, int] = {}
    for row in training["history"]:
        epochs[row.get("phase", "")] = epochs.get(row.get("phase", ""), 0) + 1
    return ", ".join(
        f"{phase} (the head, before any step)" if phase == SOLVE else f"{phase} ({count} epoch{'s' * (count != 1)})"
        for phase, count in epochs.items()
    )


def recipe_lines(training: dict[str, Any]) -> Iterator[str]:
    """Yields the recipe and its reasons, as the screen said them; nothing for `manual`."""
    reasons = (training.get("recipe") or {}).get("reasons") or ()
    if reasons:
        yield "; ".join(reasons)


def shipped_text(training: dict[str, Any]) -> str:
    """Returns which state of the training was shipped, and what decided that."""
    best, offers = training["best"], training.get("offers") or []
    loss = format_number(_known(best["eval_loss"]))
    if best["phase"] == SOLVE:
        text = f"the solved head (loss on eval {loss})"
        if offers:
            nearest = _offer_text(max(offers, key=_gain))
            text += f"; none of {len(offers)} epochs after it won by more than the noise: {nearest} at best"
        if training.get("learned_from_eval"):
            text += "; then solved once more, on train and eval together"
        return text
    text = f"epoch {best['epoch']} of {best['phase']}"
    won = [offer for offer in offers if offer["won"]]
    if won:
        return f"{text}, which won by more than the noise of its images: {_offer_text(won[-1])}; loss on eval {loss}"
    return f"{text}, with the lowest loss on eval ({loss})"


def temperature_text(training: dict[str, Any]) -> str | None:
    """Returns what the shipped head was divided by; None where it is as it was trained."""
    temperature = training.get("temperature")
    if temperature is None or temperature == 1.0:
        return None
    return f"its logits were divided by a temperature of {temperature:.3g}, so that it is as sure as it is right"


def solved_text(training: dict[str, Any]) -> str | None:
    """Returns how the head was solved; None where it was not."""
    solved = (training.get("recipe") or {}).get("solved")
    if not solved:
        return None
    shrinkage = solved.get("shrinkage")
    kind = f"L2-regularised logistic regression of strength {solved['strength']:.3g}"
    if shrinkage is not None:
        kind = f"the mean of an {kind} and a linear discriminant analysis of shrinkage {shrinkage:.3g}"
    return (
        f"head solved: {kind}, chosen on "
        f"{solved['chosen_on']} in {solved['solves']} solves (log loss {format_number(_known(solved['choice_loss']))})"
    )


def _offer_text(offer: dict[str, Any]) -> str:
    gain, noise = _known(offer["gain"]), _known(offer["noise"])
    return f"log loss {'?' if gain is None else f'{-gain:+.4f}'}, noise {format_number(noise)}"


def _gain(offer: dict[str, Any]) -> float:
    gain = _known(offer["gain"])
    return float("-inf") if gain is None else gain


def _known(value: float | None) -> float | None:
    """Returns a number, or None for NaN too: where there were no images of eval."""
    return value if value is not None and value == value else None
