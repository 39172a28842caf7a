"""Settings of the trainer section."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from components.trainer.backbones import BACKBONES, BackboneName, Pooling, pooled_blocks
from data.section import Settings, absolute_unless

RecipeName = Literal["quick", "balanced", "best", "manual"]


class TrainerSettings(Settings):
    """What is trained, from which weights, and by which recipe; what is null, the recipe decides."""

    recipe: RecipeName = "manual"
    """How much time training may take. `quick` solves the head on what the frozen backbone makes of each image;
    `balanced` goes on from there with views and, where `eval` can judge it, fine-tuning, in at most three times the
    time; `best` in ten times. All three follow from the images at hand; what is set here wins over them. `manual`
    trains head and blocks step by step, with the values named below where a setting is null."""

    backbone: BackboneName = "vgg16"
    """The convolutional network below the head."""

    weights: Annotated[str, absolute_unless("imagenet", "none", "auto")] = Field(default="imagenet", min_length=1)
    """Where the backbone starts: `imagenet`, `none` (random), `auto` (ImageNet's where they can be had within
    seconds, else random) or the path of a Keras HDF5 weights file."""

    weights_mirror: str | None = None
    """A folder, `https://...` or `gs://...`, that ImageNet's weights are downloaded from in place of Keras's address
    (`weights` is `imagenet` or `auto`): Keras's files under their own names, each checked by Keras's hash of it.
    Setting or changing it re-runs nothing."""

    weights_head: Literal["load", "drop"] = "load"
    """What becomes of the head in a file of `weights`: `load` takes it, and its classes must be as many as those of the
    images, in alphabetical order; `drop` starts from a new one."""

    warm_start: Literal["none", "blessed"] = "none"
    """`blessed` goes on from the latest blessed model: its backbone, and its rows of the head by class name, in place
    of `weights`. A base of another backbone, or one that images of today's test trained, is refused, said so, and
    `weights` are used. On this machine a base learned from other images than today's, so that an unchanged run is
    unchanged; on Vertex AI each run goes on from the last."""

    pooling: Pooling | None = None
    """What the head reads: `last`, the averages over the image of the last block's channels (`manual`); `roots-N`, the
    square roots of those of the last N blocks, side by side."""

    dropout: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Share of the pooled features that are dropped in training (`manual`: 0.2)."""

    strategy: Literal["auto", "tpu", "mirrored", "multi_worker", "one_device"] = "auto"
    """Where training runs: `tpu`; `mirrored`, on all GPUs of this machine; `multi_worker`, on the machines that
    `TF_CONFIG` names; `one_device`; or `auto`: a TPU if this machine has one, else its GPUs, else its CPU."""

    tpu: str = Field(default="local", min_length=1)
    """For `strategy` tpu: `local` is that of this machine (a TPU VM, Colab), else a TPU's name or address."""

    batch_size: int = Field(default=32, ge=1, le=65536)
    """Images in a training step, over all replicas: a multiple of their number."""

    learning_rate_batch_size: int | None = Field(default=None, ge=1)
    """The batch that both rates are meant for: with another `batch_size` they are multiplied by the ratio of the two
    (`sgd`) or by its square root (`adam`, `adamw`). Null takes the rates as they are."""

    head_epochs: int | None = Field(default=None, ge=0)
    """Epochs of the first phase: the backbone is frozen, only the head learns (`manual`: 1)."""

    head_learning_rate: float | None = Field(default=None, gt=0.0, le=1.0)
    """The optimizer's rate in the first phase (`manual`: 0.001)."""

    fine_tune_epochs: int | None = Field(default=None, ge=0)
    """Epochs of the second phase: the head and the last blocks learn (`manual`: 4)."""

    fine_tune_learning_rate: float | None = Field(default=None, gt=0.0, le=1.0)
    """The optimizer's rate in the second phase (`manual`: 0.0001)."""

    fine_tune_blocks: int | None = Field(default=None, ge=0)
    """How many of the backbone's blocks (VGG16 has 5) learn in the second phase, from the head (`manual`: 1)."""

    early_stopping_patience: int | None = Field(default=None, ge=1)
    """A phase ends after so many epochs in a row without a lower loss on `eval` (`manual`: 3)."""

    optimizer: Literal["adam", "adamw", "sgd"] | None = None
    """`adam` (`manual`); `adamw`, its weight decay decoupled from the gradient; `sgd` with Nesterov momentum 0.9."""

    weight_decay: float | None = Field(default=None, ge=0.0, le=1.0)
    """Share of a kernel, times the rate, that each step takes off it (`adamw`, `sgd`); biases and norms
    do not decay (`manual`: 0)."""

    gradient_clip_norm: float | None = Field(default=None, gt=0.0)
    """Gradients whose norm over all variables is larger are scaled down to it; `manual` leaves them alone."""

    warmup_steps: int | None = Field(default=None, ge=0)
    """Over so many first steps of a phase the rate rises linearly to what the cosine over its epochs says
    (`manual`: 0)."""

    layer_decay: float | None = Field(default=None, gt=0.0, le=1.0)
    """In the second phase each block learns at this share of the rate of the block above it; the head at the rate
    (`manual`: 1)."""

    label_smoothing: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Share of the target that is spread evenly over all classes, in training (`manual`: 0)."""

    ema_momentum: float | None = Field(default=None, gt=0.0, lt=1.0)
    """Share of its past that a moving average of the weights keeps at each step; the averages are then what is
    evaluated, chosen and exported; `manual` keeps none. Not for batch norms that start from random weights."""

    learn_from_eval: bool | None = None
    """Solves a solved head that is shipped once more, on train and `eval` together, once `eval` has judged it
    (`balanced` and `best`: true, where memory lets the head be solved)."""

    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs an example of train by how rare its class is there, so that all classes weigh the same."""

    random_flip: bool | None = None
    """Mirrors half of the training images left to right (`manual`: false)."""

    random_crop_area: float | None = Field(default=None, gt=0.0, le=1.0)
    """Cuts a rectangle of at least this share of each training image and resizes it; 1 leaves images whole
    (`manual`)."""

    trivial_augment: float | None = Field(default=None, ge=0.0, le=1.0)
    """Changes each training image in light, contrast, colour or geometry, by a random strength up to this share of
    the strongest; 0 does not (`manual`)."""

    mixup_alpha: float | None = Field(default=None, ge=0.0)
    """Blends training images and their labels in pairs, in a share from Beta(alpha, alpha); 0 does not (`manual`)."""

    cutmix_alpha: float | None = Field(default=None, ge=0.0)
    """Puts a rectangle of another training image into each, its area from Beta(alpha, alpha); 0 does not. With
    `mixup_alpha` too, each has half of the steps (`manual`: 0)."""

    feature_cache: Literal["auto", "off"] = "auto"
    """`auto` computes what the frozen backbone makes of each image once, where the first phase has more than one epoch
    and nothing augments the images, and trains the head on that; `off` computes it anew in each epoch."""

    feature_cache_views: int | None = Field(default=None, ge=0)
    """Features of so many changed versions of each image are kept, too. A solved head learns from all of them
    (mirrored and cropped, where nothing is said about that); with `manual`, where the images are augmented, the epochs
    of the first phase, two or more, take turns, and 0 (`manual`) augments anew in each epoch, at the full price."""

    steps_per_execution: Literal["auto"] | Annotated[int, Field(ge=1, le=65536)] = "auto"
    """Training steps in one call of the device, after which losses are read, progress is shown and checkpoints are
    written; `auto` does as many as take a quarter of a second. What is learnt does not depend on it."""

    image_cache: Literal["auto", "off"] = "auto"
    """`auto` unpacks a split that memory cannot hold once into a temporary file (in `TMPDIR`, if half of what is free
    there is enough), and reads that in each epoch; `off` unpacks it anew in each epoch."""

    checkpoint_every_steps: int = Field(default=0, ge=0)
    """A killed run goes on from its last checkpoint, written after so many steps; 0 writes by time alone."""

    checkpoint_every_seconds: float = Field(default=30.0, gt=0.0)
    """Seconds after which a checkpoint is written, whatever the steps."""

    deterministic: bool = False
    """Makes every operation add up in a fixed order, so that runs on the same devices end with the same bits, killed
    in between or not; somewhat slower."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of training; `auto` is bfloat16 on a TPU, and where a CPU or GPU has it the faster of both, measured
    in at most 3 % of the expected time and 10 s, or taken from a table where training is too short for that or is
    `deterministic`. The exported model is float32."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the initial weights, the order of the images, dropout and augmentation."""

    @field_validator("weights_mirror")
    @classmethod
    def _check_mirror(cls, mirror: str | None) -> str | None:
        # http too: the hash tells whether a file is Keras's. No query: the file's name is appended.
        if mirror is not None and not re.fullmatch(r"(https|http|gs)://[^/?#\s][^?#\s]*|file:///[^?#\s]*", mirror):
            raise ValueError(
                f"trainer.weights_mirror is {mirror!r}, which is no address of a folder; use https://HOST/FOLDER, "
                "gs://BUCKET/FOLDER or null (http:// and file:// work, too)"
            )
        return mirror

    @model_validator(mode="after")
    def _check(self) -> "TrainerSettings":
        if mistake := _find_mistake(self, self.with_literal_defaults()):
            raise ValueError(mistake)
        return self

    def with_literal_defaults(self) -> "ResolvedSettings":
        """Returns the settings with what `manual` takes for each that is null."""
        return ResolvedSettings.model_construct(**{**_LITERAL, **self.set_values()})

    def augmentation_is_set(self) -> bool:
        """Tells whether the user said anything about how training images are changed."""
        return (self.random_flip, self.random_crop_area, self.trivial_augment) != (None, None, None)

    def set_values(self) -> dict[str, Any]:
        """Returns the settings that are not null."""
        return {name: value for name, value in self.model_dump().items() if value is not None}


class ResolvedSettings(TrainerSettings):
    """Settings of which none is left to a recipe: what the Trainer's code reads.

    Attributes:
        head: how the head learns in the first phase: `stepped` with the optimizer; `solved` to the optimum of a
            logistic regression; `standardised`, step by step on standardised features, where a solver would need too
            much memory.
    """

    pooling: Pooling = "last"
    dropout: float = 0.2
    head_epochs: int = 1
    head_learning_rate: float = 1e-3
    fine_tune_epochs: int = 4
    fine_tune_learning_rate: float = 1e-4
    fine_tune_blocks: int = 1
    early_stopping_patience: int = 3
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    weight_decay: float = 0.0
    warmup_steps: int = 0
    layer_decay: float = 1.0
    label_smoothing: float = 0.0
    random_flip: bool = False
    random_crop_area: float = 1.0
    trivial_augment: float = 0.0
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    feature_cache_views: int = 0
    learn_from_eval: bool = False
    head: Literal["stepped", "solved", "standardised"] = "stepped"

    @property
    def augments(self) -> bool:
        """Whether anything changes single images of train."""
        return self.random_flip or self.random_crop_area < 1.0 or self.trivial_augment > 0.0


_LITERAL = {name: field.default for name, field in ResolvedSettings.model_fields.items()}

RECIPE_DECIDES = frozenset(ResolvedSettings.__annotations__) & frozenset(TrainerSettings.model_fields)
"""Settings that a recipe decides where they are null."""

STEPPED_HEAD_ONLY = ("dropout", "head_epochs", "head_learning_rate", "label_smoothing", "mixup_alpha", "cutmix_alpha")
"""Settings of which a head that is solved knows nothing."""


def _find_mistake(asked: TrainerSettings, settings: ResolvedSettings) -> str | None:
    """Tells which settings do not go together; `settings` has `manual`'s values in place of nulls."""
    blocks, solved = len(BACKBONES[asked.backbone].blocks), asked.recipe != "manual"
    if settings.weight_decay and settings.optimizer == "adam":
        return (
            f"weight_decay is {settings.weight_decay:g}, which adam does not decouple from the gradient; "
            "set optimizer to adamw or sgd, or weight_decay to 0"
        )
    if settings.fine_tune_blocks > blocks:
        return (
            f"trainer.fine_tune_blocks is {settings.fine_tune_blocks}, but {asked.backbone} has {blocks} blocks; "
            f"use 0..{blocks}"
        )
    if pooled_blocks(settings.pooling) > blocks:
        return f"trainer.pooling is {settings.pooling}, but {asked.backbone} has {blocks} blocks"
    steps = asked if solved else settings
    if steps.fine_tune_epochs and steps.fine_tune_blocks == 0:
        return (
            f"fine_tune_epochs is {steps.fine_tune_epochs} but fine_tune_blocks is 0; set fine_tune_blocks to "
            f"1..{blocks}, or fine_tune_epochs to 0 to train the head alone"
        )
    if solved and not isinstance(asked, ResolvedSettings):
        stepped = [name for name in STEPPED_HEAD_ONLY if getattr(asked, name) is not None]
        if stepped:
            return (
                f"trainer.{stepped[0]} is {getattr(asked, stepped[0])}, but with recipe {asked.recipe} the head is "
                f"solved, not stepped, and does not read it; set recipe=manual, or {stepped[0]} to null"
            )
        if asked.feature_cache == "off":
            return (
                f"trainer.feature_cache is off, but recipe {asked.recipe} solves the head on features that are "
                "computed once; set recipe=manual, or feature_cache to auto"
            )
    elif asked.learn_from_eval and not solved:
        return (
            "trainer.learn_from_eval is true, but with recipe manual the head is stepped, not solved; set recipe to "
            "quick, balanced or best, or learn_from_eval to null"
        )
    return None if solved else _find_mistake_of_steps(settings)


def _find_mistake_of_steps(settings: ResolvedSettings) -> str | None:
    if settings.head_epochs + settings.fine_tune_epochs == 0:
        return "head_epochs and fine_tune_epochs are both 0: nothing would be trained; raise one of them"
    if not settings.feature_cache_views:
        return None
    mistakes = {
        "feature_cache is off": settings.feature_cache == "off",
        "nothing augments the images (random_flip, random_crop_area, trivial_augment)": not settings.augments,
        "mixup_alpha and cutmix_alpha mix images anew in each step": settings.mixup_alpha + settings.cutmix_alpha > 0,
        f"head_epochs is {settings.head_epochs}, and the cache serves two or more": settings.head_epochs < 2,
    }
    for reason, found in mistakes.items():
        if found:
            return f"feature_cache_views is {settings.feature_cache_views}, but {reason}; set feature_cache_views to 0"
    return None
