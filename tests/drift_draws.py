"""Draws of a reference and of scored images from one pool: how often drift is found that is there, or is not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from components.exported_model.reference import CONFIDENCE, Profile
from data.image_statistics import SCALES, measure_picture
from pipeline.scoring.drift import find_drift

DRAWS, SCORED = 100, 500


@dataclass(frozen=True)
class Pool:
    """Images that a model has not learned from, and what it says of them.

    Attributes:
        figures: shift, `none`, `brighter` or `blurred` -> of each image as it then is.
        labels: predicted class of each.
        confidences: of each.
    """

    figures: dict[str, list[tuple[float, ...]]]
    labels: Sequence[str]
    confidences: Sequence[float]

    def profile(self, places: np.ndarray, shift: str = "none") -> Profile:
        """Counts the images at some places."""
        counted = Profile()
        for place in places:
            figures = dict(zip(SCALES, self.figures[shift][place], strict=True))
            counted.add(self.labels[place], {**figures, CONFIDENCE: self.confidences[place]})
        return counted


def brighten(picture: Image.Image) -> Image.Image:
    """Returns a picture with each channel times 1.3."""
    return picture.point([min(255, round(value * 1.3)) for value in range(256)] * 3)


def blur(picture: Image.Image) -> Image.Image:
    """Returns a picture blurred with a standard deviation of 2 pixels."""
    return picture.filter(ImageFilter.GaussianBlur(2))


SHIFTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "none": lambda picture: picture,
    "brighter": brighten,
    "blurred": blur,
}


def measure_shifts(pictures: Sequence[Image.Image]) -> dict[str, list[tuple[float, ...]]]:
    """Returns the figures of a `Pool`."""
    return {name: [measure_picture(shift(picture)) for picture in pictures] for name, shift in SHIFTS.items()}


def count_alarms(pool: Pool, reference_images: int, random: np.random.Generator, draws: int = DRAWS) -> dict[str, int]:
    """Returns shift -> draws in which drift of what was shifted is found; of `none`, of anything.

    Each draw divides the pool anew: reference and scored images never share one. Where a class is three times as
    frequent, its images are drawn with replacement.
    """
    questions = {"none": None, "brighter": "images", "blurred": "images", "tripled": "classes"}
    found = dict.fromkeys(questions, 0)
    classes = sorted(set(pool.labels))
    for _ in range(draws):
        order = random.permutation(len(pool.labels))
        reference = pool.profile(order[:reference_images])
        rest = order[reference_images:]
        tripled = random.choice(classes)
        weights = np.array([3.0 if pool.labels[place] == tripled else 1.0 for place in rest])
        drawn = random.choice(rest, SCORED, p=weights / weights.sum())
        for shift, question in questions.items():
            is_tripled = shift == "tripled"
            scored = pool.profile(drawn) if is_tripled else pool.profile(rest[:SCORED], shift)
            tests = find_drift(reference, scored)
            found[shift] += any(test.drifted and question in (None, test.question) for test in tests)
    return found
