"""What the images of a split look like, in histograms with fixed bins: comparable between runs, and small.

Taken while an image is checked, which decodes it anyway. The bins are the same for all data, so that two files can be
compared without the images.
"""

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from data.json_files import find_json, write_json

IMAGE_STATISTICS_FILE = "image_statistics.json"
"""In an `examples` artifact, raw or transformed, and in a `model` artifact: split -> `SplitStatistics`."""

_LARGEST_SIDE = 128
_LEAST_SHARPNESS = 1e-6


@dataclass(frozen=True)
class Scale:
    """The bins of one figure: equally wide, and what lies beyond falls into the first or the last.

    Attributes:
        low: where the first bin begins.
        high: where the last one ends.
        bins: how many.
        meaning: what the figure is, with its unit.
    """

    low: float
    high: float
    bins: int
    meaning: str

    def bin_of(self, value: float) -> int:
        """Returns the bin of a value."""
        return min(max(int((value - self.low) / (self.high - self.low) * self.bins), 0), self.bins - 1)


SCALES = {
    "brightness": Scale(0.0, 1.0, 20, "mean luma, 0 black, 1 white"),
    "contrast": Scale(0.0, 0.5, 20, "standard deviation of the luma"),
    "sharpness": Scale(-6.0, 1.5, 30, "logarithm (base 10) of the variance of the luma's Laplacian"),
    "colour": Scale(0.0, 1.0, 20, "colourfulness, 0 grey"),
    "size": Scale(0.0, 14.0, 28, "logarithm (base 2) of the side of a square of as many pixels"),
    "aspect": Scale(-3.0, 3.0, 24, "logarithm (base 2) of width by height"),
}
"""The figures of an image, in the order in which `measure_picture` returns them."""


def measure_picture(picture: Image.Image) -> tuple[float, ...]:
    """Measures one image as a person sees it; a large one is measured on a smaller copy.

    Args:
        picture: RGB.

    Returns:
        A value for each of `SCALES`.

    Sources: sharpness, Pech-Pacheco et al. 2000, Diatom autofocusing in brightfield microscopy (variance of the
    Laplacian); colourfulness, Hasler & Süsstrunk 2003, Measuring colourfulness in natural images, equation 7, of
    channels from 0 to 1.
    """
    width, height = picture.size
    shrink = max(width, height) / _LARGEST_SIDE
    if shrink > 1:
        smaller = max(1, round(width / shrink)), max(1, round(height / shrink))
        picture = picture.resize(smaller, Image.Resampling.BOX)
    red, green, blue = np.moveaxis(np.asarray(picture, np.float32) / 255, -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    padded = np.pad(luma, 1, mode="edge")
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * luma
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    spread = math.hypot(red_green.std(), yellow_blue.std())
    colourfulness = spread + 0.3 * math.hypot(red_green.mean(), yellow_blue.mean())
    return (
        float(luma.mean()),
        float(luma.std()),
        math.log10(max(float(laplacian.var()), _LEAST_SHARPNESS)),
        colourfulness,
        math.log2(width * height) / 2,
        math.log2(width / height),
    )


@dataclass
class SplitStatistics:
    """The images of one split.

    Attributes:
        images: how many.
        labels: class -> images.
        histograms: figure -> images in each bin of its `Scale`.
        sums: figure -> sum over the images; divided by `images` it is the mean.
    """

    images: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    histograms: dict[str, list[int]] = field(
        default_factory=lambda: {name: [0] * scale.bins for name, scale in SCALES.items()}
    )
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SCALES, 0.0))

    def add(self, label: str, figures: Sequence[float]) -> None:
        """Counts an image with its figures, from `measure_picture`."""
        self.images += 1
        self.labels[label] += 1
        for (name, scale), value in zip(SCALES.items(), figures, strict=True):
            self.histograms[name][scale.bin_of(value)] += 1
            self.sums[name] += value

    def mean(self, name: str) -> float | None:
        """Returns the mean of a figure, None without images."""
        return self.sums[name] / self.images if self.images else None


def write_image_statistics(statistics: dict[str, SplitStatistics], folder: str) -> None:
    """Writes `IMAGE_STATISTICS_FILE` into a local or remote folder."""
    content: dict[str, Any] = {split: vars(of_split) for split, of_split in statistics.items()}
    write_json(os.path.join(folder, IMAGE_STATISTICS_FILE), content)


def read_image_statistics(folder: str) -> dict[str, SplitStatistics] | None:
    """Returns what `write_image_statistics` wrote, or None where there is none, as in a model of an older version."""
    content = find_json(os.path.join(folder, IMAGE_STATISTICS_FILE))
    return content and {
        split: SplitStatistics(of["images"], Counter(of["labels"]), of["histograms"], of["sums"])
        for split, of in content.items()
    }


def copy_image_statistics(source: str, target: str) -> None:
    """Copies the file between folders, local or remote, if it is there."""
    if tf.io.gfile.exists(path := os.path.join(source, IMAGE_STATISTICS_FILE)):
        tf.io.gfile.makedirs(target)
        tf.io.gfile.copy(path, os.path.join(target, IMAGE_STATISTICS_FILE), overwrite=True)
