"""Settings of the data section, and the base class of every section."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Base of all settings: frozen, typed, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)


class DataSettings(Settings):
    """Where the labelled images come from, how they are checked and how they are split."""

    source: Literal["digits", "image_folder", "cifar10", "tfrecords"] = "digits"
    """The kind of source."""
