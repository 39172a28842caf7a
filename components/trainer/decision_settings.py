"""Settings of the decision section: when the exported model answers by itself, and when a person should look."""

from typing import Annotated

from pydantic import Field

from data.section import Settings

Precision = Annotated[float, Field(ge=0.5, lt=1.0)]


class DecisionSettings(Settings):
    """What the model's `decision` promises; its `labels` and `probabilities` are the same whatever is set here."""

    target_precision: Precision | dict[str, Precision] | None = None
    """The share of its decisions that must be right: one number over all, or one by class, as {cat: 0.99}; of classes
    that are not named every answer is a decision. Where it cannot be shown, nothing is decided. Null: every answer."""

    confidence: float = Field(default=0.95, ge=0.5, lt=1.0)
    """How sure the choice must be of a target, over all draws of `eval`: 0.95 misses it in one of twenty at most."""

    unknown_share: float = Field(default=0.05, gt=0.0, le=0.5)
    """The share of images like those of `eval` whose `unknown_score` is above 1."""

    refuse_unknown: bool | None = None
    """Whether nothing is decided of an image whose `unknown_score` is above 1. Null: if a target is set, since what was
    shown on `eval` holds for images like those of `eval` alone."""
