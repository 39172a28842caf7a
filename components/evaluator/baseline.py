"""Whether the latest blessed model may be compared with: not where it has learned images of today's test."""

import os
from dataclasses import asdict, dataclass

from data.json_files import find_json, write_json

BASELINE_FILE = "baseline.json"


@dataclass(frozen=True)
class Baseline:
    """The model that a new one is compared with.

    Attributes:
        uri: of its artifact.
        trained_on: distinct images of test that trained it or a model that it was warm-started from; None where
            that is not recorded.
        test_images: distinct images of test; None where not recorded.
    """

    uri: str
    trained_on: int | None
    test_images: int | None

    @property
    def comparable(self) -> bool:
        """Says whether gates on a change apply: what it has learned by heart makes it look better than it is."""
        return not self.trained_on

    def describe(self) -> str | None:
        """Says in one line what is wrong with it, for a person; None if nothing is."""
        if self.trained_on is None or self.test_images is None:
            return "the baseline has no record of its training images; whether it has seen test images is not known"
        if self.trained_on:
            return (
                f"baseline not comparable: {self.trained_on:,} of {self.test_images:,} test images trained it; gates "
                "on a change do not apply"
            )
        return None


def check_baseline(model_uri: str, examples_uri: str) -> Baseline:
    """Looks how many images of the test split have trained a model.

    Args:
        model_uri: of the baseline's artifact.
        examples_uri: of the raw examples.
    """
    # TensorFlow is imported only where files are touched; who reads results does not wait for it.
    from data.image_hashes import TRAINING_IMAGES_FILE, find_overlap, read_image_hashes, read_split_hashes

    trained = read_image_hashes(os.path.join(model_uri, TRAINING_IMAGES_FILE))
    splits = read_split_hashes(examples_uri)
    if trained is None or splits is None:
        return Baseline(model_uri, None, None)
    overlap = find_overlap(trained, splits)
    return Baseline(model_uri, overlap.images, overlap.test_images)


def write_baseline(evaluation_uri: str, baseline: Baseline) -> None:
    """Writes what was found into the folder of an evaluation."""
    write_json(os.path.join(evaluation_uri, BASELINE_FILE), asdict(baseline))


def read_baseline(evaluation_uri: str) -> Baseline | None:
    """Returns the baseline of an evaluation, or None without one."""
    found = find_json(os.path.join(evaluation_uri, BASELINE_FILE))
    return found and Baseline(**found)
