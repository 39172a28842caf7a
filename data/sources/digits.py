"""The embedded default: the handwritten digits that come with scikit-learn."""

import hashlib
import io
from collections.abc import Iterator
from importlib import metadata

import apache_beam as beam
import numpy as np
from PIL import Image

from data.settings import DataSettings
from data.sources.reading import ReadInOrder
from data.sources.source import SourceImage


class DigitsSource:
    """1,797 digits of 43 people, 8 x 8 pixels of 17 grey levels; classes `0` to `9`, no declared splits.

    Source: the test part of Alpaydin & Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI.
    """

    def __init__(self, _: DataSettings) -> None:
        """Keeps nothing: it reads no setting."""

    def fingerprint(self) -> str:
        """See `Source`; the images change only with scikit-learn."""
        return hashlib.sha256(f"digits of scikit-learn {metadata.version('scikit-learn')}".encode()).hexdigest()

    def prepare(self) -> list[str]:
        """See `Source`: nothing to do."""
        return []

    def read(self) -> beam.PTransform:
        """See `Source`."""
        return ReadInOrder(_read_digits)


def _read_digits() -> Iterator[SourceImage]:
    from sklearn.datasets import load_digits  # Here: its import takes a second that only this source needs to pay.

    digits = load_digits()
    for i, (grey, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        buffer = io.BytesIO()
        Image.fromarray(np.rint(grey * (255 / 16)).astype(np.uint8)).save(buffer, "PNG")
        yield SourceImage(f"digits/{i:04}.png", str(label), None, buffer.getvalue())
