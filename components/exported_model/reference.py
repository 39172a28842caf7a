"""What a model met on test, in histograms: what it is compared with when other images come.

A pushed model carries it, so that whoever watches what comes in needs neither the images nor the run.
"""

import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from components.exported_model.signatures import UNKNOWN_SCORE
from data.image_statistics import SCALES, Scale
from data.json_files import find_json, write_json

REFERENCE_FILE = "reference.json"
"""In a `predictions` artifact, and in `assets.extra` of a pushed model: a `Profile` of the test split."""

PUSHED_REFERENCE_FILE = f"assets.extra/{REFERENCE_FILE}"
"""The same, relative to a pushed SavedModel."""

CONFIDENCE = "confidence"

PROFILE_SCALES: Mapping[str, Scale] = {
    **SCALES,
    CONFIDENCE: Scale(0.0, 1.0, 100, "largest probability"),
    UNKNOWN_SCORE: Scale(0.0, 4.0, 80, "how unlike the images of train, above 1 unknown"),
}
"""All figures of an image: how it looks, and what the model says of it. Their bins are the same for all data."""


@dataclass
class Profile:
    """Images and what a model says of them, as counts.

    Attributes:
        images: how many.
        classes: predicted class -> images.
        histograms: figure, a key of `PROFILE_SCALES` -> images in each bin of its `Scale`; all are 0 where it is not
            known of any, and together they may be fewer than `images`.
    """

    images: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    histograms: dict[str, list[int]] = field(
        default_factory=lambda: {name: [0] * scale.bins for name, scale in PROFILE_SCALES.items()}
    )

    def add(self, label: str, figures: Mapping[str, float | None]) -> None:
        """Counts an image with its predicted class and those of its figures that are known."""
        self.images += 1
        self.classes[label] += 1
        for name, scale in PROFILE_SCALES.items():
            if (value := figures.get(name)) is not None:
                self.histograms[name][scale.bin_of(value)] += 1

    def problems(self, known_classes: Collection[str]) -> list[str]:
        """Returns what does not fit together in it, one line each."""
        found = []
        if not self.images or self.classes.total() != self.images:
            found.append(f"{self.classes.total():,} predicted classes of {self.images:,} images")
        if strangers := sorted(self.classes.keys() - set(known_classes)):
            found.append(f"a predicted class {strangers[0]!r} that the model has not")
        for name, scale in PROFILE_SCALES.items():
            counts = self.histograms.get(name, [])
            if len(counts) != scale.bins:
                found.append(f"a histogram of {name} with {len(counts)} bins; {scale.bins} were expected")
            elif sum(counts) not in (0, self.images):
                found.append(f"a histogram of {name} that counts {sum(counts):,} of {self.images:,} images")
        if not sum(self.histograms.get(CONFIDENCE, [])):
            found.append(f"no histogram of {CONFIDENCE}")
        return found


def write_profile(profile: Profile, path: str) -> None:
    """Writes a profile as JSON, local or remote; the most frequent class comes first."""
    content = {
        "images": profile.images,
        "classes": dict(sorted(profile.classes.items(), key=lambda item: (-item[1], item[0]))),
        "histograms": profile.histograms,
    }
    write_json(path, content)


def read_profile(path: str) -> Profile | None:
    """Returns what `write_profile` wrote, or None where there is none."""
    content = find_json(path)
    return content and Profile(content["images"], Counter(content["classes"]), content["histograms"])


def read_reference(saved_model_path: str) -> Profile | None:
    """Returns what a pushed model carries; None in one of before there was any, or that was not pushed."""
    return read_profile(os.path.join(saved_model_path, PUSHED_REFERENCE_FILE))
