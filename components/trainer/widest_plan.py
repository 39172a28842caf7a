"""What a recipe may come to before anybody has counted the images: its widest training step."""

from collections.abc import Sequence
from typing import Literal

from components.trainer.backbones import count_features
from components.trainer.recipes import Facts, KnownWeights, Plan, resolve_recipe
from components.trainer.settings import TrainerSettings

_TRIED_IMAGES = tuple(10**power for power in range(2, 8))
"""A recipe fine-tunes no few images, and solves the head on no more than memory holds: somewhere between, and beyond,
its steps are widest."""


def plan_widest(
    asked: TrainerSettings,
    image_size: int,
    class_count: int,
    images: int | None = None,
    shares: tuple[float, float] = (0.1, 0.1),
    device: Literal["cpu", "gpu", "tpu"] = "cpu",
) -> Plan:
    """Returns the plan whose steps train the most: the most blocks, and then rather a head that is stepped, too.

    Args:
        asked: the recipe, and what is set beside it.
        image_size: height and width in pixels.
        class_count: of as many images each.
        images: of all splits; None tries all orders of magnitude.
        shares: of them that are eval and test.
        device: kind of what trains.
    """
    plans = [
        resolve_recipe(asked, _make_facts(asked, image_size, class_count, count, shares, device))
        for count in ((images,) if images is not None else _TRIED_IMAGES)
    ]
    return max(plans, key=lambda plan: (_learning_blocks(plan), plan.settings.head != "solved"))


def _learning_blocks(plan: Plan) -> int:
    return plan.settings.fine_tune_blocks if plan.settings.fine_tune_epochs else 0


def _make_facts(
    asked: TrainerSettings,
    image_size: int,
    class_count: int,
    images: int,
    shares: Sequence[float],
    device: Literal["cpu", "gpu", "tpu"],
) -> Facts:
    judging, testing = (round(images * share) for share in shares)
    known: KnownWeights = "file" if asked.weights not in ("none", "auto", "imagenet") else "imagenet"
    return Facts(
        train_counts=_spread(images - judging - testing, class_count),
        eval_counts=_spread(judging, class_count),
        image_size=image_size,
        device=device,
        hosts=1,
        backbone=asked.backbone,
        weights="none" if asked.weights == "none" else known,
        features=count_features(asked.backbone, asked.pooling),
    )


def _spread(images: int, class_count: int) -> tuple[int, ...]:
    each, more = divmod(images, class_count)
    return tuple(each + (number < more) for number in range(class_count))
