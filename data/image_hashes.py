"""Which images a split holds and a model has learned from, so that nobody is judged on what trained them.

An image is the first 8 bytes of its content's SHA-256: 10 MB for ImageNet's 1.3 million images, and among them and
50,000 others two that share those bytes by chance once in 280 million times.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from data.features import SPLITS

TRAINING_IMAGES_FILE = "training_images.bin"
"""In a `model` artifact: the images of train and eval, and those of the models that it was warm-started from."""

_DTYPE = np.dtype("<u8")


@dataclass(frozen=True)
class Overlap:
    """What of the test split has trained a model.

    Attributes:
        images: distinct images of test that trained it.
        test_images: distinct images of test.
    """

    images: int
    test_images: int

    def __str__(self) -> str:
        """Says it in words."""
        return f"{self.images:,} of {self.test_images:,} test images trained it"


def make_image_hashes(sha256s: Iterable[str]) -> np.ndarray:
    """Returns uint64 [distinct images], sorted, of hexadecimal SHA-256s."""
    return np.unique(np.array([int(sha256[:16], 16) for sha256 in sha256s], np.uint64))


def split_hashes_file(split: str) -> str:
    """Returns the name of the file with a split's images, in an `examples` artifact, raw or transformed."""
    return f"image_hashes-{split}.bin"


def write_image_hashes(hashes: np.ndarray, path: str) -> None:
    """Writes uint64 [images], sorted, as they are, little-endian, to a local or `gs://` path."""
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(hashes.astype(_DTYPE).tobytes())


def read_image_hashes(path: str) -> np.ndarray | None:
    """Reads what `write_image_hashes` wrote; None where there is no such file."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return np.frombuffer(file.read(), _DTYPE).astype(np.uint64)
    except tf.errors.NotFoundError:
        return None


def read_split_hashes(examples_uri: str) -> dict[str, np.ndarray] | None:
    """Returns the images of each split of an `examples` artifact, or None where they are not recorded."""
    found = {
        split: hashes
        for split in SPLITS
        if (hashes := read_image_hashes(os.path.join(examples_uri, split_hashes_file(split)))) is not None
    }
    return found if len(found) == len(SPLITS) else None


def find_overlap(trained: np.ndarray, splits: Mapping[str, np.ndarray]) -> Overlap:
    """Counts the images of test that have trained a model.

    An image that is in today's train or eval as well does not count: with `data.duplicates` keep every model of these
    splits learns it, so that it favours none of them.

    Args:
        trained: uint64 [images], what the model has learned from.
        splits: each split's images.
    """
    only_test = np.setdiff1d(splits["test"], np.union1d(splits["train"], splits["eval"]), assume_unique=True)
    return Overlap(len(np.intersect1d(only_test, trained, assume_unique=True)), len(splits["test"]))
