"""Settings of the trainer section."""

from typing import Literal

from pydantic import Field, model_validator

from components.trainer.backbones import BACKBONES, BackboneName
from data.settings import Settings


class TrainerSettings(Settings):
    """What is trained, from which weights, in which phases: first the head alone, then blocks of the backbone."""

    backbone: BackboneName = "vgg16"
    """The convolutional network below the head."""

    weights: str = Field(default="imagenet", min_length=1)
    """Where the backbone starts: `imagenet`, `none` (random), `auto` (ImageNet's where they can be had within
    seconds, else random) or the path of a Keras HDF5 weights file."""

    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Share of the pooled features that are dropped in training."""

    batch_size: int = Field(default=32, ge=1, le=65536)
    """Images in a training step, over all replicas."""

    head_epochs: int = Field(default=1, ge=0)
    """Epochs of the first phase: the backbone is frozen, only the head learns."""

    head_learning_rate: float = Field(default=1e-3, gt=0.0, le=1.0)
    """Adam's rate in the first phase."""

    fine_tune_epochs: int = Field(default=4, ge=0)
    """Epochs of the second phase: the head and the last blocks learn."""

    fine_tune_learning_rate: float = Field(default=1e-4, gt=0.0, le=1.0)
    """Adam's rate in the second phase."""

    fine_tune_blocks: int = Field(default=1, ge=0)
    """How many of the backbone's blocks (4 to 6, VGG16 has 5) learn in the second phase, counted from the head."""

    early_stopping_patience: int = Field(default=3, ge=1)
    """A phase ends after so many epochs in a row without a lower loss on `eval`."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of training; `auto` is bfloat16 where the CPU or TPU has it. The exported model is float32."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the initial weights, the order of the images and dropout."""

    @model_validator(mode="after")
    def _check_phases(self) -> "TrainerSettings":
        if self.head_epochs + self.fine_tune_epochs == 0:
            raise ValueError("head_epochs and fine_tune_epochs are both 0: nothing would be trained; raise one of them")
        if self.fine_tune_epochs > 0 and self.fine_tune_blocks == 0:
            raise ValueError(
                f"fine_tune_epochs is {self.fine_tune_epochs} but fine_tune_blocks is 0; "
                f"set fine_tune_blocks to 1..{len(BACKBONES[self.backbone].blocks)}, or fine_tune_epochs to 0 to train "
                "the head alone"
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
