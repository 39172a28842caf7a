"""What can be known of a source's images before a run: from its listing, seconds of reading, and a sample of them."""

import hashlib
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import tensorflow as tf

from data import gfile
from data.bit_depth import WHOLE
from data.decode import decode_image
from data.image_check import check_image, is_stored_anew
from data.image_record import ImageRecord
from data.image_statistics import measure_picture
from data.picture import UnusableImage, read_picture
from data.settings import DataSettings
from data.sources.reading import ReadInOrder, are_images, list_references, parts_of
from data.sources.relabelled import relabel
from data.sources.source import Source, SourceImage

SAMPLE = 64
_READ_SECONDS, _CHECK_SECONDS = 20.0, 15.0


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        records: of the images that the listing names, or that were read; where their bytes were not, their names'
            hash stands for the content's. Those of the sample tell their problems.
        images: how many there are, an estimate where not all of them are named.
        contents_known: whether all bytes were read: splits, copies and conflicts are then those of a run.
        encoded_bytes: of all images, the sample's average where they are not known.
        sampled: images that were decoded.
        bad: (name, reason) of those of them that cannot be used.
        check_seconds: of an image, for reading and checking it.
        write_seconds: of an image, for reading it again and writing its example.
        transform_seconds: of an image, for decoding and resizing it.
        stored_bytes: of an image's example.
        transformed_bytes: of an image as the Trainer reads it, compressed.
    """

    records: list[ImageRecord]
    images: int
    contents_known: bool
    encoded_bytes: float
    sampled: int
    bad: list[tuple[str, str]]
    check_seconds: float
    write_seconds: float
    transform_seconds: float
    stored_bytes: float
    transformed_bytes: float


def survey_source(
    source: Source,
    settings: DataSettings,
    resize: Callable[[tf.Tensor], tf.Tensor],
    read_seconds: float = _READ_SECONDS,
) -> Survey:
    """Lists, reads for a while, and decodes a sample; writes nothing.

    Args:
        source: whose `prepare` was called.
        settings: of the data section.
        resize: uint8 [height, width, 3] -> uint8 [image_size, image_size, 3].
        read_seconds: how long bytes are read for at most; the first `SAMPLE` images always are.
    """
    parts = [(read, list_references(read)) for read in parts_of(source.read())]
    listed = [references for _, references in parts if references is not None]
    references = [reference for some in listed for reference in some]
    named = len(listed) == len(parts) and all(map(are_images, listed))
    records: list[ImageRecord] = []
    sample: list[SourceImage] = []
    seen_bytes, whole = 0, True
    deadline = time.monotonic() + read_seconds
    for number, image in enumerate(image for part in parts for image in _read_images(*part)):
        if number >= SAMPLE and time.monotonic() > deadline:
            whole = False
            break
        records.append(_record(image))
        seen_bytes += len(image.encoded)
        if len(sample) < SAMPLE and not image.problem and not image.left_out:
            sample.append(image)
    seen = len(records)
    images = seen
    if not whole and named:
        records += [_unread(reference, settings.labels) for reference in references[seen:]]
        images = len(references)
    elif not whole:
        images = max(seen, _estimate_images(references, seen, seen_bytes))
    costs = _measure(sample, settings, resize)
    problems = dict(costs.pop("bad"))
    return Survey(
        records=[
            replace(record, problem=problems[record.name]) if record.name in problems and not record.problem else record
            for record in records
        ],
        images=images,
        contents_known=whole,
        encoded_bytes=seen_bytes / max(1, seen) * images,
        bad=list(problems.items()),
        **costs,
    )


def _read_images(read: Any, references: Sequence[Any] | None) -> Iterator[SourceImage]:
    if isinstance(read, ReadInOrder):
        yield from read.read_fn()
    for reference in references or ():
        yield from read.read_fn(reference)


def _record(image: SourceImage) -> ImageRecord:
    known = {field.name: getattr(image, field.name) for field in fields(image) if field.name != "encoded"}
    return ImageRecord(**known, sha256=hashlib.sha256(image.encoded).hexdigest() if not image.problem else "")


def _unread(reference: Any, labels: Mapping[str, str | None]) -> ImageRecord:
    """Returns the record of an image that only the listing tells of: its name's hash is as random as its content's."""
    known = {name: getattr(reference, name) for name in ("label", "split", "problem", "group", "weight")}
    record = _record(relabel(SourceImage(reference.path, encoded=b"", **known), labels))
    return record if record.problem else replace(record, sha256=hashlib.sha256(reference.path.encode()).hexdigest())


def _estimate_images(references: Sequence[Any] | None, seen: int, seen_bytes: int) -> int:
    """Returns how many images there are, from the sizes of the files that hold them."""
    sizes = [gfile.stat(reference.path).length for reference in references or ()]
    return round(sum(sizes) / max(1, seen_bytes) * seen)


def _measure(
    sample: Sequence[SourceImage], settings: DataSettings, resize: Callable[[tf.Tensor], tf.Tensor]
) -> dict[str, Any]:
    """Does to the sample what ImageExampleGen and Transform do to each image, and times it."""
    bad, seconds, stored, packed = [], {"check": 0.0, "write": 0.0, "transform": 0.0}, 0, 0
    started, done = time.monotonic(), 0
    transform = tf.function(lambda encoded: resize(decode_image(encoded)), [tf.TensorSpec([], tf.string)])
    for image in sample:
        if done and time.monotonic() - started > _CHECK_SECONDS:
            break
        before = time.monotonic()
        try:
            picture = read_picture(image.encoded, settings.max_pixels)
            is_stored_anew(image.encoded, picture)
            measure_picture(picture.at(WHOLE))
        except UnusableImage as error:
            bad.append((image.name, error.reason))
            done += 1
            continue
        checked = time.monotonic()
        example = check_image(image.encoded, settings.max_pixels).encoded
        zlib.compress(example)
        written = time.monotonic()
        pixels = transform(example).numpy()
        if done == len(bad):  # It was traced.
            written, pixels = time.monotonic(), transform(example).numpy()
        compressed = zlib.compress(pixels.tobytes())
        seconds["check"] += checked - before
        seconds["write"] += written - checked
        seconds["transform"] += time.monotonic() - written
        stored, packed, done = stored + len(example), packed + len(compressed), done + 1
    good = max(1, done - len(bad))
    return {
        "sampled": done,
        "bad": bad,
        **{f"{name}_seconds": spent / good for name, spent in seconds.items()},
        "stored_bytes": stored / good,
        "transformed_bytes": packed / good,
    }
