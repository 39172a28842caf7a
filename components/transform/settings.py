"""Settings of the transform section."""

from typing import Literal

from pydantic import Field

from data.section import Settings


class TransformSettings(Settings):
    """How a decoded image becomes the square uint8 image that the model sees, in training and in serving."""

    image_size: int = Field(default=224, ge=1, le=1024)
    """Height and width of the model's input, in pixels; at least what the backbone needs, 32."""

    aspect: Literal["stretch", "crop", "pad"] = "stretch"
    """What happens to an image that is not square: stretch it, keep its central square, or pad it with black."""

    resize_method: Literal["bilinear", "bicubic", "lanczos3", "area"] = "bilinear"
    """How pixels are interpolated; always anti-aliased when shrinking."""
