"""Settings of the transform section, and their way to the Trainer, which exports what does the same in serving."""

import os
from typing import Literal

from pydantic import Field

from data.json_files import read_json, write_json
from data.section import Settings

_FILE = "transform_settings.json"


class TransformSettings(Settings):
    """How a decoded image becomes the square uint8 image that the model sees, in training and in serving."""

    image_size: int = Field(default=224, ge=1, le=1024)
    """Height and width of the model's input, in pixels; at least what the backbone needs, 32."""

    aspect: Literal["stretch", "crop", "pad"] = "stretch"
    """What happens to an image that is not square: stretch it, keep its central square, or pad it with black."""

    resize_method: Literal["bilinear", "bicubic", "lanczos3", "area"] = "bilinear"
    """How pixels are interpolated; always anti-aliased when shrinking."""


def write_transform_settings(settings: TransformSettings, transformed_uri: str) -> None:
    """Writes beside transformed examples, in a local or remote folder, what they were made with."""
    write_json(os.path.join(transformed_uri, _FILE), settings.model_dump())


def read_transform_settings(transformed_uri: str) -> TransformSettings:
    """Returns what `write_transform_settings` wrote."""
    return TransformSettings.model_validate(read_json(os.path.join(transformed_uri, _FILE)))
