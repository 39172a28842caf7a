"""The first Beam job: reads and checks every image, and keeps a line about each."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace

import apache_beam as beam
import tensorflow as tf

from components.progress import report_progress
from data.bit_depth import BIT_DEPTHS, WHOLE, least_bit_depth
from data.features import SPLITS
from data.image_check import is_stored_anew
from data.image_statistics import SplitStatistics, measure_picture
from data.picture import UnusableImage, read_picture
from data.sources.source import Source, SourceImage
from data.splits import ImageRecord, Rules

PROGRESS_STEP = 500


class CheckImages(beam.DoFn):
    """`SourceImage` -> an `ImageRecord`, and a usable image's figures by bit depth, as a line of JSON."""

    def __init__(self, max_pixels: int, total: int | None = None) -> None:
        """Keeps the limit: images of more pixels are not decoded; and how many there are, where that is known."""
        self._max_pixels, self._total = max_pixels, total
        self._checked = 0

    def process(self, image: SourceImage) -> Iterator[str]:
        """Checks one image; a bad one is told by its record, never by an error."""
        record, figures = self._check(image)
        yield json.dumps({"record": vars(record), "figures": figures})
        self._checked += 1
        if self._checked % PROGRESS_STEP == 0:
            report_progress("checking images", completed=self._checked, total=self._total)

    def _check(self, image: SourceImage) -> tuple[ImageRecord, dict[str, tuple[float, ...]] | None]:
        known = {
            name: getattr(image, name) for name in ("name", "label", "split", "problem", "fatal", "group", "weight")
        }
        record = ImageRecord(**known, sha256="")
        if image.problem:
            return record, None
        record = replace(record, sha256=hashlib.sha256(image.encoded).hexdigest())
        try:
            picture = read_picture(image.encoded, self._max_pixels)
        except UnusableImage as error:
            return replace(record, problem=error.reason), None
        record = replace(record, reencoded=is_stored_anew(image.encoded, picture), peak=picture.peak)
        # How many bits count is known when all images were seen.
        least = WHOLE if picture.peak is None else least_bit_depth(picture.peak)
        depths = [depth for depth in BIT_DEPTHS if depth >= least]
        return record, {str(depth): measure_picture(picture.at(depth)) for depth in depths}


def add_check(
    pipeline: beam.Pipeline, source: Source, max_pixels: int, records_dir: str, total: int | None = None
) -> None:
    """Adds the job to a pipeline; `read_records` reads what it writes into `records_dir`."""
    (
        pipeline
        | "ReadImages" >> source.read()
        | "CheckImages" >> beam.ParDo(CheckImages(max_pixels, total))
        | "WriteRecords" >> beam.io.WriteToText(os.path.join(records_dir, "records"))
    )


def read_records(records_dir: str) -> Iterator[ImageRecord]:
    """Yields what `add_check` wrote, in no particular order."""
    return (record for record, _ in _read_lines(records_dir))


def collect_statistics(records_dir: str, rules: Rules) -> dict[str, SplitStatistics]:
    """Returns the statistics of each split's images, from what `add_check` wrote: read again, and not kept meanwhile.

    Args:
        records_dir: that of `add_check`.
        rules: which image is in which split.
    """
    statistics = {split: SplitStatistics() for split in SPLITS}
    for record, figures in _read_lines(records_dir):
        if figures is not None and (split := rules.split_of(record.sha256, record.split)):
            depth = WHOLE if record.peak is None else rules.bit_depth
            statistics[split].add(record.label, figures[str(depth)])
    return statistics


def _read_lines(records_dir: str) -> Iterator[tuple[ImageRecord, dict[str, list[float]] | None]]:
    for path in tf.io.gfile.glob(os.path.join(records_dir, "records*")):
        with tf.io.gfile.GFile(path) as file:
            for line in file:
                values = json.loads(line)
                yield ImageRecord(**values["record"]), values["figures"]
