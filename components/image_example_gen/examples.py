"""The second Beam job: reads the images again and writes those that were chosen as examples, split by split."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import apache_beam as beam
import tensorflow as tf
from pydantic import TypeAdapter

from components.image_example_gen.compressed_records import WriteCompressed, compress_record
from components.image_example_gen.image_work import ImageWork
from data import features
from data.image_check import CheckedImage, check_header, check_image
from data.json_files import read_json, write_json
from data.originals import write_original
from data.sources.source import Source, SourceImage
from data.splits import Rules

UNREAD_FILE = "unread.json"
"""Beside the rules, where the source could not be read to its end again: the problem. It is told in one line."""

_RULES = TypeAdapter(Rules)


class MakeExamples(ImageWork):
    """`SourceImage` -> its `tf.train.Example`, as a part of a gzipped file, on the output of its split, or nothing."""

    def __init__(self, max_pixels: int, rules_path: str, examples_uri: str, total: int | None = None) -> None:
        """Keeps where the rules lie: with many exceptions they are too large for the job's own description."""
        super().__init__("writing examples", total)
        self._max_pixels = max_pixels
        self._rules_path = rules_path
        self._examples_uri = examples_uri

    def setup(self) -> None:
        """Reads the rules."""
        self._rules = read_rules(self._rules_path)

    def process(self, image: SourceImage) -> Iterator[Any]:
        """See `ImageWork`; the first job has read all, so that what this one cannot read must not be left out."""
        if image.fatal:
            told = ": ".join(filter(None, (image.name, image.problem)))
            write_json(os.path.join(os.path.dirname(self._rules_path), UNREAD_FILE), told)
        yield from super().process(image)

    def work(self, image: SourceImage) -> list[Any]:
        """Makes the example of one image."""
        if image.problem or image.left_out:
            return []
        sha256 = hashlib.sha256(image.encoded).hexdigest()
        split = self._rules.split_of(sha256, image.split, image.group)
        if split is None:
            return []
        # Decoding is most of the work: only what was stored anew is decoded again.
        if sha256 in self._rules.reencoded:
            checked = check_image(image.encoded, self._max_pixels, self._rules.bit_depth)
        else:
            checked = check_header(image.encoded, self._max_pixels)
        if sha256 in self._rules.originals:
            write_original(self._examples_uri, sha256, image.encoded, checked.encoded)
        known: dict[str, bytes | float] = {
            features.WEIGHT_KEY: float(image.weight),
            features.GROUP_KEY: self._rules.key_of(sha256, image.group).encode(),
        }
        image = replace(image, label=self._rules.label_of(sha256, image.label))
        example = make_example(image, checked, sha256, {key: known[key] for key in self._rules.extras})
        stored_format = "png" if checked.reencoded else checked.format
        record = compress_record(example.SerializeToString(deterministic=True), stored_format)
        return [beam.pvalue.TaggedOutput(split, record)]


def make_example(
    image: SourceImage, checked: CheckedImage, sha256: str, extras: Mapping[str, bytes | float]
) -> tf.train.Example:
    """Returns the example that `data.features` describes."""
    values: dict[str, bytes | int | float] = {
        features.IMAGE_KEY: checked.encoded,
        features.LABEL_KEY: image.label.encode(),
        features.NAME_KEY: image.name.encode(),
        features.HEIGHT_KEY: checked.height,
        features.WIDTH_KEY: checked.width,
        features.FORMAT_KEY: checked.format.encode(),
        features.CONTENT_HASH_KEY: sha256.encode(),
        **extras,
    }
    example = tf.train.Example()
    for key, value in values.items():
        feature = example.features.feature[key]
        if isinstance(value, int):
            feature.int64_list.value.append(value)
        elif isinstance(value, float):
            feature.float_list.value.append(value)
        else:
            feature.bytes_list.value.append(value)
    return example


def add_examples(
    pipeline: beam.Pipeline,
    source: Source,
    max_pixels: int,
    rules_path: str,
    examples_uri: str,
    split_dirs: dict[str, str],
    total: int | None = None,
) -> None:
    """Adds the job to a pipeline: `split_dirs` (split -> folder) get gzipped TFRecord files, the artifact originals."""
    examples = (
        pipeline
        | "ReadImages" >> source.read()
        | "MakeExamples"
        >> beam.ParDo(MakeExamples(max_pixels, rules_path, examples_uri, total)).with_outputs(*split_dirs)
    )
    for split, split_dir in split_dirs.items():
        # Without TFX's WriteSplit: its shuffle would keep all image bytes of an in-process run in memory.
        examples[split] | f"Write[{split}]" >> WriteCompressed(os.path.join(split_dir, "data_tfrecord"))


def write_rules(rules: Rules, path: str) -> None:
    """Writes the rules as JSON."""
    write_json(path, _RULES.dump_python(rules, mode="json"))


def read_rules(path: str) -> Rules:
    """Reads what `write_rules` wrote."""
    return _RULES.validate_python(read_json(path))
