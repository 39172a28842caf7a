"""Small pictures for the page, as data URIs under one budget of bytes, the most wanted first."""

import base64
import io
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image
from tfx.types import Artifact

from components.predictor.executor import read_records
from data.features import IMAGE_KEY
from data.picture import UnusableImage, picture_of

_SIDE = 112
"""Pixels of a thumbnail's longer side; smaller images stay as they are."""
_QUALITY = 78
_READ_BATCH = 64

ImageKey = tuple[str, int]
"""Split, and position in it in the order of the files."""


def load_images(examples: Artifact, wanted: Iterable[ImageKey]) -> dict[ImageKey, bytes]:
    """Reads the encoded bytes of single images in one pass over each split that has some of them."""
    by_split: dict[str, set[int]] = {}
    for split, position in wanted:
        by_split.setdefault(split, set()).add(position)
    found: dict[ImageKey, bytes] = {}
    for split, positions in by_split.items():
        start, last = 0, max(positions)
        for records in read_records([examples], split, _READ_BATCH):
            count = int(records.shape[0])
            here = [i for i in range(count) if start + i in positions]
            if here:
                spec = {IMAGE_KEY: tf.io.FixedLenFeature([], tf.string)}
                encoded = tf.io.parse_example(tf.gather(records, here), spec)[IMAGE_KEY].numpy()
                found.update({(split, start + i): image for i, image in zip(here, encoded, strict=True)})
            start += count
            if start > last:
                break
    return found


def make_thumbnails(
    examples: Artifact, wanted: Sequence[ImageKey], budget_bytes: int
) -> tuple[dict[str, str], dict[ImageKey, bytes]]:
    """Makes thumbnails until the budget is spent.

    Args:
        examples: raw Examples.
        wanted: the most wanted first; repetitions count once.
        budget_bytes: of all data URIs together.

    Returns:
        "split:position" to a data URI; and the original bytes of these images.
    """
    unique = list(dict.fromkeys(wanted))
    # The smallest data URI has about 200 bytes: no more images than that are read.
    unique = unique[: budget_bytes // 200]
    originals = load_images(examples, unique)
    thumbnails: dict[str, str] = {}
    spent = 0
    shown: dict[ImageKey, bytes] = {}
    for key in unique:
        try:
            uri = make_data_uri(originals[key])
        except UnusableImage:
            continue  # It costs its own thumbnail, not the report.
        spent += len(uri)
        if spent > budget_bytes:
            break
        thumbnails[f"{key[0]}:{key[1]}"] = uri
        shown[key] = originals[key]
    return thumbnails, shown


def make_data_uri(encoded: bytes, side: int = _SIDE) -> str:
    """Shrinks an example's image to `side` pixels, as JPEG or PNG, whichever is smaller; errors as `picture_of`."""
    picture = picture_of(encoded, least_side=2 * side)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    files = []
    for format, options in (("jpeg", {"quality": _QUALITY}), ("png", {"optimize": True})):
        buffer = io.BytesIO()
        picture.save(buffer, format, **options)
        files.append((len(buffer.getvalue()), format, buffer.getvalue()))
    _, format, content = min(files)
    return f"data:image/{format};base64,{base64.b64encode(content).decode()}"


def make_heat_uri(heat: np.ndarray) -> str:
    """Makes an overlay of a heat map, float [height, width] in 0..1: a tiny PNG that the browser blows up smoothly.

    Its colours run from a transparent blue to yellow, which colour-blind people tell apart as well.
    """
    stops = np.array([0.0, 0.35, 0.7, 1.0])
    colours = np.array([[13, 8, 135, 0], [126, 3, 168, 90], [240, 100, 60, 150], [252, 230, 37, 185]], float)
    pixels = np.stack([np.interp(heat, stops, colours[:, i]) for i in range(4)], axis=-1).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
