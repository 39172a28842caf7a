"""Settings of the trainer section."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from components.trainer.backbones import BACKBONES, BackboneName
from data.settings import Settings


class TrainerSettings(Settings):
    """What is trained, from which weights, in which phases: first the head alone, then blocks of the backbone."""

    backbone: BackboneName = "vgg16"
    """The convolutional network below the head."""

    weights: str = Field(default="imagenet", min_length=1)
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

    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Share of the pooled features that are dropped in training."""

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

    head_epochs: int = Field(default=1, ge=0)
    """Epochs of the first phase: the backbone is frozen, only the head learns."""

    head_learning_rate: float = Field(default=1e-3, gt=0.0, le=1.0)
    """The optimizer's rate in the first phase."""

    fine_tune_epochs: int = Field(default=4, ge=0)
    """Epochs of the second phase: the head and the last blocks learn."""

    fine_tune_learning_rate: float = Field(default=1e-4, gt=0.0, le=1.0)
    """The optimizer's rate in the second phase."""

    fine_tune_blocks: int = Field(default=1, ge=0)
    """How many of the backbone's blocks (4 to 6, VGG16 has 5) learn in the second phase, counted from the head."""

    early_stopping_patience: int = Field(default=3, ge=1)
    """A phase ends after so many epochs in a row without a lower loss on `eval`."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """`adam`; `adamw`, whose weight decay is decoupled from the gradient; `sgd` with Nesterov momentum 0.9."""

    weight_decay: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of a kernel, times the rate, that each step takes off it (`adamw`, `sgd`); biases and norms
    do not decay."""

    gradient_clip_norm: float | None = Field(default=None, gt=0.0)
    """Gradients whose norm over all variables is larger are scaled down to it; null leaves them alone."""

    warmup_steps: int = Field(default=0, ge=0)
    """Over so many first steps of a phase the rate rises linearly to what the cosine over its epochs says."""

    layer_decay: float = Field(default=1.0, gt=0.0, le=1.0)
    """In the second phase each block learns at this share of the rate of the block above it; the head at the rate."""

    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the target that is spread evenly over all classes, in training."""

    ema_momentum: float | None = Field(default=None, gt=0.0, lt=1.0)
    """Share of its past that a moving average of the weights keeps at each step; the averages are then what is
    evaluated, chosen and exported. Null keeps none. Not for backbones with batch norms that start from random
    weights."""

    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs an example of train by how rare its class is there, so that all classes weigh the same."""

    random_flip: bool = False
    """Mirrors half of the training images left to right."""

    random_crop_area: float = Field(default=1.0, gt=0.0, le=1.0)
    """Cuts a rectangle of at least this share of each training image and resizes it; 1 leaves images whole."""

    trivial_augment: float = Field(default=0.0, ge=0.0, le=1.0)
    """Changes each training image in light, contrast, colour or geometry, by a random strength up to this share of
    the strongest; 0 does not."""

    mixup_alpha: float = Field(default=0.0, ge=0.0)
    """Blends training images and their labels in pairs, in a share from Beta(alpha, alpha); 0 does not."""

    cutmix_alpha: float = Field(default=0.0, ge=0.0)
    """Puts a rectangle of another training image into each, its area from Beta(alpha, alpha); 0 does not. With
    `mixup_alpha` too, each has half of the steps."""

    feature_cache: Literal["auto", "off"] = "auto"
    """`auto` computes what the frozen backbone makes of each image once, where the first phase has more than one epoch
    and nothing augments the images, and trains the head on that; `off` computes it anew in each epoch."""

    feature_cache_views: int = Field(default=0, ge=0)
    """Where the images are augmented: keeps the features of so many augmented versions of each image, and the epochs
    of the first phase, two or more, take turns; 0 augments anew in each epoch, at the full price."""

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

    @property
    def augments(self) -> bool:
        """Whether anything changes single images of train."""
        return self.random_flip or self.random_crop_area < 1.0 or self.trivial_augment > 0.0

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
    def _check_phases(self) -> "TrainerSettings":
        if self.head_epochs + self.fine_tune_epochs == 0:
            raise ValueError("head_epochs and fine_tune_epochs are both 0: nothing would be trained; raise one of them")
        if self.weight_decay and self.optimizer == "adam":
            raise ValueError(
                f"weight_decay is {self.weight_decay:g}, which adam does not decouple from the gradient; "
                "set optimizer to adamw or sgd, or weight_decay to 0"
            )
        if self.fine_tune_epochs > 0 and self.fine_tune_blocks == 0:
            raise ValueError(
                f"fine_tune_epochs is {self.fine_tune_epochs} but fine_tune_blocks is 0; "
                f"set fine_tune_blocks to 1..{len(BACKBONES[self.backbone].blocks)}, or fine_tune_epochs to 0 to train "
                "the head alone"
            )
        return self

    @model_validator(mode="after")
    def _check_views(self) -> "TrainerSettings":
        if not self.feature_cache_views:
            return self
        mistakes = {
            "feature_cache is off": self.feature_cache == "off",
            "nothing augments the images (random_flip, random_crop_area, trivial_augment)": not self.augments,
            "mixup_alpha and cutmix_alpha mix images anew in each step": bool(self.mixup_alpha or self.cutmix_alpha),
            f"head_epochs is {self.head_epochs}, and the cache serves two or more": self.head_epochs < 2,
        }
        for reason, found in mistakes.items():
            if found:
                raise ValueError(
                    f"feature_cache_views is {self.feature_cache_views}, but {reason}; set feature_cache_views to 0"
                )
        return self

    @model_validator(mode="after")
    def _check_blocks(self) -> "TrainerSettings":
        blocks = len(BACKBONES[self.backbone].blocks)
        if self.fine_tune_blocks > blocks:
            raise ValueError(
                f"trainer.fine_tune_blocks is {self.fine_tune_blocks}, but {self.backbone} has {blocks} blocks; "
                f"use 0..{blocks}"
            )
        return self
