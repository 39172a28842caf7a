"""What `trainer.recipe` comes to: from what is known of the images, the machine and the weights, to settings.

The order of its parts is that of Kumar et al. 2022 ("Fine-tuning can distort pretrained features"): first the head
alone, solved on what the frozen backbone knows, then fine-tuning from there, at a small rate. That steps, and not
epochs, are what to count, and that they follow from how many images there are, is BiT's rule (Kolesnikov et al. 2020,
section 3.3); rates that fall from block to block towards the image are those of ULMFiT (Howard & Ruder 2018, section
3.2).
"""

from dataclasses import dataclass
from typing import Literal

from components.trainer.backbones import BACKBONES, Pooling, forward_operations
from components.trainer.settings import ResolvedSettings, TrainerSettings

KnownWeights = Literal["imagenet", "file", "warm start", "none"]

FEWEST_TO_JUDGE = 60
"""Images of eval below which they cannot tell whether fine-tuning helped."""

SOLVER_BYTES = 2 * 2**30
"""Of features and logits in float64 beyond which the head is not solved but stepped."""

_BUDGET = {"quick": 1.0, "balanced": 3.0, "best": 30.0}
HEAD_STEPS = 20_000
"""Of a head that is stepped on standardised features. On CIFAR-10 (8,000 images, batches of 32) its loss and penalty
were 1.2e-3 above the optimum after 3,000 and 1e-4 after 10,000."""

HEAD_RATE = 0.03
"""Of its Adam: at 0.01 it is 1.6e-2 above after 3,000 steps; 0.1 is no better. Batches of 256 take the same."""

_MOST_HEAD_EPOCHS = 100  # each judges eval and may write a checkpoint
_MOST_EPOCHS = {"balanced": 12, "best": 30}
_FEWEST_EPOCHS = 2
_MOST_SOLVER_WORK = 100 * 60 * 4  # solves, iterations, and operations on each number of features x classes
_MOST_VIEWS = {"quick": 0, "balanced": 1, "best": 4}


@dataclass(frozen=True)
class Facts:
    """What a recipe decides from.

    Attributes:
        train_counts: images of train by class.
        eval_counts: images of eval by class.
        image_size: height and width in pixels.
        device: kind of what trains.
        hosts: machines that train together.
        backbone: a key of `BACKBONES`.
        weights: what the backbone starts from; `none` knows nothing.
        features: what the widest pooling has.
    """

    train_counts: tuple[int, ...]
    eval_counts: tuple[int, ...]
    image_size: int
    device: Literal["cpu", "gpu", "tpu"]
    hosts: int
    backbone: str
    weights: KnownWeights
    features: int

    @property
    def train_images(self) -> int:
        """Images of train."""
        return sum(self.train_counts)

    @property
    def eval_images(self) -> int:
        """Images of eval whose class train knows."""
        return sum(self.eval_counts)


@dataclass(frozen=True)
class Plan:
    """What a recipe came to.

    Attributes:
        settings: of which none is null.
        poolings: what the head may read; the images decide.
        passes: times that the whole network runs over an image of train or eval, forward; a training step counts what
            it computes.
        reasons: lines for a person.
        blends: whether a solved head may be the mean with a discriminant's.
        choosing_share: of train that chooses a solved head's strength and pooling: as much as takes no longer than the
            feature pass.
    """

    settings: ResolvedSettings
    poolings: tuple[Pooling, ...]
    passes: float
    reasons: tuple[str, ...]
    blends: bool = False
    choosing_share: float = 1.0


def resolve_recipe(asked: TrainerSettings, facts: Facts) -> Plan:
    """Decides what the settings leave open.

    Args:
        asked: what is set in them wins.
        facts: of the images, machine and weights.
    """
    if asked.recipe == "manual":
        settings = ResolvedSettings.model_validate(asked.set_values())
        return Plan(settings, (settings.pooling,), 0.0, ())
    chosen: dict[str, object] = {"head_epochs": 0, "dropout": 0.0, "fine_tune_epochs": 0, "fine_tune_blocks": 0}
    views = _choose_views(asked, facts)
    poolings = (asked.pooling,) if asked.pooling else BACKBONES[facts.backbone].pooling
    solved = _can_solve(facts, views)
    how = "solved" if solved else "stepped on standardised features"
    read = " or ".join(poolings)
    lines = [
        f"recipe {asked.recipe}: {facts.train_images:,} train and {facts.eval_images:,} eval images, "
        f"{len(facts.train_counts)} classes; head {how} on {read}{_describe_views(views)}"
    ]
    if not solved:
        views, poolings = 0, poolings[-1:]
        head_epochs = _choose_head_epochs(asked.batch_size, facts)
        chosen |= {"head_epochs": head_epochs, "head_learning_rate": HEAD_RATE}
    fine_tuning, reason = _choose_fine_tuning(asked, facts, views)
    chosen |= fine_tuning
    if not solved:  # its loss, too, is at its lowest at the end
        chosen["early_stopping_patience"] = max(head_epochs, asked.fine_tune_epochs or 0, *_MOST_EPOCHS.values())
    chosen |= {"feature_cache_views": views, "pooling": poolings[-1], "head": "solved" if solved else "standardised"}
    learns_eval = {"learn_from_eval": solved and _learns_from_eval(asked)}
    settings = ResolvedSettings.model_validate({**chosen, **asked.set_values(), **learns_eval})
    if reason:
        lines.append(reason)
    passes = _feature_passes(asked, facts, views)
    cached = not settings.augments and facts.device != "tpu"  # off there, so that preflight judges what trains
    passes += settings.fine_tune_epochs * _epoch_passes(facts, settings.fine_tune_blocks, cached=cached)
    return Plan(
        settings,
        poolings,
        passes,
        tuple(lines),
        blends=solved and asked.recipe != "quick",
        choosing_share=_share_that_chooses(facts, views),
    )


def _choose_head_epochs(batch_size: int, facts: Facts) -> int:
    """Returns the epochs of a head that is stepped on standardised features: as many steps, whatever the images."""
    steps = max(1, -(-facts.train_images // batch_size))
    # Hosts of a TPU keep no features: each epoch runs the whole network.
    most = 10 if facts.device == "tpu" and facts.hosts > 1 else _MOST_HEAD_EPOCHS
    return min(most, max(1, round(HEAD_STEPS / steps)))


def _can_solve(facts: Facts, views: int) -> bool:
    numbers = facts.train_images * ((1 + views) * facts.features + 2 * len(facts.train_counts))
    return facts.hosts == 1 and numbers * 8 <= SOLVER_BYTES


def _share_that_chooses(facts: Facts, views: int) -> float:
    """Returns the share by arithmetic, not by the clock: the same images must give the same model."""
    per_image = _MOST_SOLVER_WORK * facts.features * len(facts.train_counts) * (1 + views)
    return min(1.0, forward_operations(facts.backbone, facts.image_size) / per_image)


def _choose_views(asked: TrainerSettings, facts: Facts) -> int:
    if asked.feature_cache_views is not None:
        return asked.feature_cache_views
    views = _MOST_VIEWS[asked.recipe]
    while views and not _can_solve(facts, views):
        views -= 1
    return views


def _learns_from_eval(asked: TrainerSettings) -> bool:
    return asked.recipe != "quick" if asked.learn_from_eval is None else asked.learn_from_eval


def _describe_views(views: int) -> str:
    return "" if not views else " and mirrored views" if views == 1 else f" and {views} mirrored and cropped views"


def _feature_passes(asked: TrainerSettings, facts: Facts, views: int) -> float:
    return (1 + views) * facts.train_images + (1 + views * _learns_from_eval(asked)) * facts.eval_images


def _epoch_passes(facts: Facts, blocks: int, *, cached: bool) -> float:
    """Returns forward passes of the whole network, over single images, that an epoch of fine-tuning comes to.

    A step that trains a layer computes three products in place of one.
    """
    learning = _learning_share(facts, blocks)
    frozen = 0.0 if cached else 1.0 - learning
    return facts.train_images * (frozen + 3.0 * learning) + facts.eval_images * (frozen + learning)


def _learning_share(facts: Facts, blocks: int) -> float:
    return sum(BACKBONES[facts.backbone].block_shares[-blocks:]) if blocks else 0.0


def _choose_fine_tuning(asked: TrainerSettings, facts: Facts, views: int) -> tuple[dict[str, object], str]:
    """Returns the settings of the second phase, and in words why they are so."""
    blocks_in_all = len(BACKBONES[facts.backbone].blocks)
    once = facts.train_images + facts.eval_images
    if asked.fine_tune_epochs is None:
        if asked.recipe == "quick":
            return {}, ""
        if facts.weights == "none" and asked.recipe == "balanced":
            return {}, "no fine-tuning: what starts from random weights would need all blocks and far more time"
        if facts.eval_images < FEWEST_TO_JUDGE and asked.recipe == "balanced":
            return {}, (
                f"no fine-tuning: {facts.eval_images:,} eval images cannot judge it ({FEWEST_TO_JUDGE} can; raise "
                "data.eval_share)"
            )
    if asked.fine_tune_epochs == 0:
        return {}, ""
    best = asked.recipe == "best" or facts.weights == "none"
    blocks = asked.fine_tune_blocks or (blocks_in_all if best else 1)
    augments = bool(best and not asked.augmentation_is_set())
    # A TPU, which caches nothing, gets as many: there the steps are not what takes the time.
    cached = not (augments or asked.with_literal_defaults().augments)
    budget = _BUDGET[asked.recipe] * once - _feature_passes(asked, facts, views)
    epochs = int(budget / _epoch_passes(facts, blocks, cached=cached)) if once else 0
    epochs = min(epochs, _MOST_EPOCHS.get(asked.recipe, 1))
    if asked.fine_tune_epochs is None and epochs < _FEWEST_EPOCHS:
        return {}, f"no fine-tuning: {_FEWEST_EPOCHS} epochs would take the run over its budget; best has more"
    epochs = asked.fine_tune_epochs or epochs
    steps = epochs * max(1, -(-facts.train_images // asked.batch_size))
    rate = 1e-4 if facts.weights == "none" else 2e-4 if blocks == 1 else 3e-5
    chosen: dict[str, object] = {
        "fine_tune_epochs": epochs,
        "fine_tune_blocks": blocks,
        "fine_tune_learning_rate": rate,
        "early_stopping_patience": epochs,  # the rate is at its lowest, and the loss too, at the end
        "warmup_steps": max(1, steps // 10),
        "layer_decay": 0.7 if blocks > 1 else 1.0,
        "gradient_clip_norm": 1.0,
    }
    if augments:
        chosen |= {"random_flip": True, "random_crop_area": 0.5}
    kind = "all blocks" if blocks == blocks_in_all else f"the last {blocks} blocks" if blocks > 1 else "the last block"
    return chosen, f"then up to {epochs} epochs of {kind}; what eval does not prefer is not shipped"
