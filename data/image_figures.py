"""The figures of each image, by its content: 32 bytes an image, for who asks whether a class can be told by them."""

import io
import os
from array import array
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from data.image_statistics import SCALES

IMAGE_FIGURES_FILE = "image_figures.npz"
"""In an `examples` artifact, raw: of the images that are used."""


class ImageFigures:
    """Collects figures, and writes them into one file."""

    def __init__(self) -> None:
        self._images, self._figures = array("Q"), array("f")

    def add(self, sha256: str, figures: Sequence[float]) -> None:
        """Adds an image: its content's SHA-256, hexadecimal, and the figures of `measure_picture`."""
        self._images.append(int(sha256[:16], 16))
        self._figures.extend(figures)

    def write(self, folder: str) -> None:
        """Writes `IMAGE_FIGURES_FILE` into a local or remote folder, each content once."""
        images, first = np.unique(np.frombuffer(self._images, np.uint64), return_index=True)
        figures = np.frombuffer(self._figures, np.float32).reshape(-1, len(SCALES))[first]
        content = io.BytesIO()
        np.savez(content, images=images, figures=figures)
        with tf.io.gfile.GFile(os.path.join(folder, IMAGE_FIGURES_FILE), "wb") as file:
            file.write(content.getvalue())


def read_image_figures(folder: str, sha256s: Sequence[str]) -> dict[str, np.ndarray] | None:
    """Returns figure -> float32 [images], of images by their hashes; NaN where one is not known.

    None where there is no file, as in examples of an older version.
    """
    path = os.path.join(folder, IMAGE_FIGURES_FILE)
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path, "rb") as file, np.load(io.BytesIO(file.read()), allow_pickle=False) as saved:
        images, figures = saved["images"], saved["figures"]
    wanted = np.array([int(sha256[:16] or "0", 16) for sha256 in sha256s], np.uint64)
    if not len(images):
        return {name: np.full(len(wanted), np.nan, np.float32) for name in SCALES}
    places = np.minimum(np.searchsorted(images, wanted), len(images) - 1)
    found = np.where((images[places] == wanted)[:, None], figures[places], np.float32(np.nan))
    return dict(zip(SCALES, found.T, strict=True))
