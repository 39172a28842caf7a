"""The first Beam job: reads and checks every image, and keeps a line about each."""

import hashlib
import json
import os
from collections.abc import Iterator

import apache_beam as beam
import tensorflow as tf

from components.progress import report_progress
from data.image_check import UnusableImage, needs_reencoding
from data.sources.source import Source, SourceImage
from data.splits import ImageRecord

_PROGRESS_STEP = 500


class CheckImages(beam.DoFn):
    """`SourceImage` -> an `ImageRecord` as a line of JSON."""

    def __init__(self, max_pixels: int) -> None:
        """Keeps the limit: images of more pixels are not decoded."""
        self._max_pixels = max_pixels
        self._checked = 0

    def process(self, image: SourceImage) -> Iterator[str]:
        """Checks one image; a bad one is told by its record, never by an error."""
        yield json.dumps(vars(self._check(image)))
        self._checked += 1
        if self._checked % _PROGRESS_STEP == 0:
            report_progress("checking images", completed=self._checked)

    def _check(self, image: SourceImage) -> ImageRecord:
        if image.problem:
            return ImageRecord(
                image.name, image.label, image.split, sha256="", problem=image.problem, fatal=image.fatal
            )
        sha256 = hashlib.sha256(image.encoded).hexdigest()
        try:
            reencoded = needs_reencoding(image.encoded, self._max_pixels)
        except UnusableImage as error:
            return ImageRecord(image.name, image.label, image.split, sha256, problem=error.reason)
        return ImageRecord(image.name, image.label, image.split, sha256, reencoded=reencoded)


def add_check(pipeline: beam.Pipeline, source: Source, max_pixels: int, records_dir: str) -> None:
    """Adds the job to a pipeline; `read_records` reads what it writes into `records_dir`."""
    (
        pipeline
        | "ReadImages" >> source.read()
        | "CheckImages" >> beam.ParDo(CheckImages(max_pixels))
        | "WriteRecords" >> beam.io.WriteToText(os.path.join(records_dir, "records"))
    )


def read_records(records_dir: str) -> Iterator[ImageRecord]:
    """Yields what `add_check` wrote, in no particular order."""
    for path in tf.io.gfile.glob(os.path.join(records_dir, "records*")):
        with tf.io.gfile.GFile(path) as file:
            for line in file:
                yield ImageRecord(**json.loads(line))
