"""The images that are sent: real ones of `test`, the same in every encoding, originals, colours, and garbage."""

import contextlib
import hashlib
import heapq
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import tensorflow as tf
from PIL import Image

from data.bit_depth import WHOLE
from data.features import IMAGE_KEY
from data.image_check import check_image
from data.picture import MOST_PIXELS, UnusableImage, picture_of

BATCH_SIZES = (1, 2, 33)
_READ_AT_MOST = 500
_ORIENTATION_TAG, _TURNED_LEFT = 0x0112, 6
_SHOWN_SIDE = 256


@dataclass(frozen=True)
class Probe:
    """A batch that is sent to both serving signatures.

    Attributes:
        name: of the batch, for messages and as the key of its answers; no other probe has it.
        check: the finding that it belongs to.
        images: encoded, as a client sends them.
        expected: encoded images whose Transform and classification the answer must equal; None for garbage, which must
            be refused.
        examples: serialised Examples, where they are not made from `images`.
    """

    name: str
    check: Literal["batches", "formats", "originals", "colours", "garbage"]
    images: tuple[bytes, ...]
    expected: tuple[bytes, ...] | None
    examples: tuple[bytes, ...] | None = None


def read_examples(split_dir: str, count: int) -> list[bytes]:
    """Returns serialised Examples of a split, the same ones in every run, drawn from its first 500.

    Args:
        split_dir: local or remote folder of gzipped TFRecord files.
        count: how many; where there are fewer, they come again.

    Raises:
        ValueError: there is none.
    """
    files = sorted(tf.io.gfile.glob(f"{split_dir}/*"))
    records = tf.data.TFRecordDataset(files, compression_type="GZIP").take(max(count, _READ_AT_MOST))
    # By their hashes: the first ones are often all of one class.
    found = heapq.nsmallest(
        count, (record.numpy() for record in records), key=lambda record: hashlib.sha256(record).digest()
    )
    if not found:
        raise ValueError(f"{split_dir} holds no examples")
    return list(itertools.islice(itertools.cycle(found), count))


def image_of(example: bytes) -> bytes:
    """Returns the encoded image of a serialised Example."""
    return tf.train.Example.FromString(example).features.feature[IMAGE_KEY].bytes_list.value[0]


def make_example(image: bytes) -> bytes:
    """Returns a serialised Example that holds an image and nothing else, as a client would send it."""
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
    return tf.train.Example(features=tf.train.Features(feature={IMAGE_KEY: feature})).SerializeToString()


def make_probes(
    examples: Sequence[bytes], originals: Sequence[tuple[bytes, bytes]] = (), bit_depth: int = WHOLE
) -> list[Probe]:
    """Returns all probes in the order in which they are sent.

    Args:
        examples: serialised Examples of the test split.
        originals: original files that the pipeline stores as a PNG, each with the image that it made of it.
        bit_depth: of the model, see `Manifest`.
    """
    batches = list(_make_batches(examples))
    picture = _small_picture(map(image_of, examples))
    probes = [
        *batches,
        *_make_formats(picture),
        *_make_originals(picture, bit_depth),
        *(
            Probe(f"original file {number}", "originals", (as_client(original, bit_depth),), (stored,))
            for number, (original, stored) in enumerate(originals, 1)
        ),
        _make_colours(),
        *_make_garbage(picture),
    ]
    assert len({probe.name for probe in probes}) == len(probes)
    return probes


def as_client(encoded: bytes, bit_depth: int = WHOLE) -> bytes:
    """Returns what a client sends for a file, as `pipeline.predict` does: a PNG for one that is turned or WebP."""
    return check_image(encoded, MOST_PIXELS, bit_depth).encoded


def _make_batches(examples: Sequence[bytes]) -> Iterator[Probe]:
    sizes = itertools.chain(BATCH_SIZES, itertools.repeat(BATCH_SIZES[-1]))
    supply = itertools.cycle(examples)
    sent = 0
    for number, size in enumerate(sizes, 1):
        if sent >= len(examples) and number > len(BATCH_SIZES):
            return
        batch = tuple(itertools.islice(supply, size))
        images = tuple(image_of(example) for example in batch)
        yield Probe(f"batch {number}, of {size}", "batches", images, images, batch)
        sent += size


def _small_picture(images: Iterable[bytes]) -> Image.Image:
    """Returns the first image that can be read as RGB, not larger than it need be to be encoded in seven ways.

    Raises:
        ValueError: there is none.
    """
    for encoded in images:
        with contextlib.suppress(UnusableImage):
            picture = picture_of(encoded)
            picture.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
            return picture
    raise ValueError("no image of the test split can be read")


def _make_formats(picture: Image.Image) -> Iterator[Probe]:
    grey = picture.convert("L")
    for name, encoded in {
        "JPEG": _encode(picture, "JPEG"),
        "PNG": _encode(picture, "PNG"),
        "GIF": _encode(picture, "GIF"),
        "BMP": _encode(picture, "BMP"),
        "a greyscale JPEG": _encode(grey, "JPEG"),
        "a greyscale PNG": _encode(grey, "PNG"),
    }.items():
        yield Probe(name, "formats", (encoded,), (encoded,))


def _make_originals(picture: Image.Image, bit_depth: int) -> Iterator[Probe]:
    """Yields files that clients convert before they send them, with the picture that a person sees in them."""
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = _TURNED_LEFT
    turned = _encode(picture, "JPEG", exif=exif)
    upright = _encode(Image.open(io.BytesIO(turned)).transpose(Image.Transpose.ROTATE_270), "PNG")
    yield Probe("an EXIF-rotated JPEG", "originals", (as_client(turned),), (upright,))
    webp = _encode(picture, "WEBP", lossless=True)
    yield Probe("a WebP", "originals", (as_client(webp),), (_encode(picture, "PNG"),))
    grey = picture.convert("L")
    values = np.asarray(grey).astype(np.uint16) * 257 >> WHOLE - bit_depth
    deep = as_client(_encode(Image.fromarray(values), "PNG"), bit_depth)
    yield Probe("a 16-bit PNG", "originals", (deep,), (_encode(grey, "PNG"),))


def _make_colours() -> Probe:
    """Returns pictures of which each channel differs, dark and light, wider than high: those of `test` may be grey."""
    height, width = 96, 160
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [np.sin(9 * columns + 4 * rows) / 2 + 0.5, rows * columns, 1 - columns]
    images = []
    for order in ((0, 1, 2), (2, 0, 1)):
        for lightness in (0.35, 1.0):
            pixels = 255 * lightness * np.stack([waves[i] for i in order], axis=-1)
            images.append(_encode(Image.fromarray(pixels.round().astype(np.uint8)), "PNG"))
    return Probe("coloured pictures", "colours", tuple(images), tuple(images))


def _make_garbage(picture: Image.Image) -> Iterator[Probe]:
    jpeg = _encode(picture, "JPEG")
    for name, encoded in {
        "text": b"this is not an image",
        "no bytes": b"",
        "half a JPEG": jpeg[: len(jpeg) // 2],
        "a WebP that no client converted": _encode(picture, "WEBP", lossless=True),
    }.items():
        yield Probe(name, "garbage", (encoded,), None)
    yield Probe("an image after garbage", "formats", (jpeg,), (jpeg,))


def _encode(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()
