"""Settings of the drift section: how far the training images may move from those of the blessed model."""

from typing import Annotated

from pydantic import Field

from data.section import Settings

Distance = Annotated[float, Field(gt=0, le=1)]


class DriftThresholds(Settings):
    """The largest distance of each statistic of `train` that is no drift: 0 is the same, 1 has nothing in common.

    The distance is the Jensen-Shannon divergence with logarithms of base 2, less what two draws from the same images
    could differ by chance. Two bell curves are 0.1 apart when one is shifted by three quarters of its standard
    deviation.
    """

    labels: Distance = 0.1
    """Of the shares of the classes."""
    brightness: Distance = 0.1
    """Of the mean luma of an image."""
    contrast: Distance = 0.1
    """Of the standard deviation of the luma."""
    sharpness: Distance = 0.1
    """Of the variance of the luma's Laplacian."""
    colour: Distance = 0.1
    """Of the colourfulness."""
    size: Distance = 0.1
    """Of the number of pixels."""
    aspect: Distance = 0.1
    """Of width by height."""


class DriftSettings(Settings):
    """What counts as drift against the blessed model's images, and whether it blocks the push."""

    gate: bool = False
    """Whether a model whose images have drifted is not pushed; without it the drift is only told."""

    thresholds: DriftThresholds = DriftThresholds()
