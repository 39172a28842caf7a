"""The first Beam job: reads and checks every image, and keeps a line about each."""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from typing import Any

import apache_beam as beam
import tensorflow as tf

from components.image_example_gen.alike import encode_descriptor
from components.image_example_gen.image_work import ImageWork
from data.bit_depth import BIT_DEPTHS, WHOLE, least_bit_depth
from data.features import SPLITS
from data.image_check import is_stored_anew
from data.image_figures import ImageFigures
from data.image_record import ImageRecord
from data.image_statistics import SplitStatistics, measure_picture
from data.picture import UnusableImage, read_picture
from data.sources.source import Source, SourceImage
from data.splits import Rules


class CheckImages(ImageWork):
    """`SourceImage` -> an `ImageRecord`, and a usable image's figures by bit depth, as a line of JSON."""

    def __init__(self, max_pixels: int, total: int | None = None, describes: bool = False) -> None:
        """Keeps what is asked of it.

        Args:
            max_pixels: the limit.
            total: how many images there are, where that is known.
            describes: whether near duplicates are looked for.
        """
        super().__init__("checking images", total)
        self._max_pixels, self._describes = max_pixels, describes

    def work(self, image: SourceImage) -> list[str]:
        """Checks one image; a bad one is told by its record, never by an error."""
        record, found = self._check(image)
        return [json.dumps({"record": asdict(record), "figures": None, **found})]

    def _check(self, image: SourceImage) -> tuple[ImageRecord, dict[str, Any]]:
        known = {field.name: getattr(image, field.name) for field in fields(image) if field.name != "encoded"}
        record = ImageRecord(**known, sha256="")
        if image.problem or image.left_out:
            return record, {}
        record = replace(record, sha256=hashlib.sha256(image.encoded).hexdigest())
        try:
            picture = read_picture(image.encoded, self._max_pixels)
        except UnusableImage as error:
            return replace(record, problem=error.reason), {}
        record = replace(record, reencoded=is_stored_anew(image.encoded, picture), peak=picture.peak)
        # How many bits count is known when all images were seen.
        least = WHOLE if picture.peak is None else least_bit_depth(picture.peak)
        depths = [depth for depth in BIT_DEPTHS if depth >= least]
        found: dict[str, Any] = {"figures": {str(depth): measure_picture(picture.at(depth)) for depth in depths}}
        if self._describes:
            found["descriptor"] = encode_descriptor(image.encoded, picture, least)
        return record, found


def add_check(
    pipeline: beam.Pipeline,
    source: Source,
    max_pixels: int,
    records_dir: str,
    total: int | None = None,
    describes: bool = False,
) -> None:
    """Adds the job to a pipeline, whose lines `read_records` and, of images that it describes, `find_alike` read."""
    (
        pipeline
        | "ReadImages" >> source.read()
        | "CheckImages" >> beam.ParDo(CheckImages(max_pixels, total, describes))
        | "WriteRecords" >> beam.io.WriteToText(os.path.join(records_dir, "records"))
    )


def read_records(records_dir: str) -> Iterator[ImageRecord]:
    """Yields what `add_check` wrote, in no particular order."""
    return (record for record, _ in _read_lines(records_dir))


def collect_statistics(records_dir: str, rules: Rules, kept: ImageFigures) -> dict[str, SplitStatistics]:
    """Returns the statistics of each split's images, from what `add_check` wrote: read again, and not kept meanwhile.

    Args:
        records_dir: that of `add_check`.
        rules: which image is in which split.
        kept: gets the figures of each image.
    """
    statistics = {split: SplitStatistics() for split in SPLITS}
    for record, figures in _read_lines(records_dir):
        if figures is not None and (split := rules.split_of(record.sha256, record.split, record.group)):
            depth = WHOLE if record.peak is None else rules.bit_depth
            statistics[split].add(rules.label_of(record.sha256, record.label), figures[str(depth)])
            kept.add(record.sha256, figures[str(depth)])
    return statistics


def _read_lines(records_dir: str) -> Iterator[tuple[ImageRecord, dict[str, list[float]] | None]]:
    for path in tf.io.gfile.glob(os.path.join(records_dir, "records*")):
        with tf.io.gfile.GFile(path) as file:
            for line in file:
                values = json.loads(line)
                record = values["record"]
                # The same few texts in each of a million lines.
                shared = {name: sys.intern(record[name]) for name in ("label", "split", "group") if record[name]}
                yield ImageRecord(**{**record, **shared}), values["figures"]
