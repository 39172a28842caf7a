"""The label vocabulary, in alphabetical order.

`tft.vocabulary` orders by frequency, so that a few more images of one class would reorder the probabilities of a
retrained model. This analyzer orders by name: the order changes only when the classes do.
"""

import os
from collections.abc import Iterable

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.beam.experimental import PTransformAnalyzer

UNKNOWN_LABEL = -1
"""The index of a class that does not occur in train."""


def apply_label_vocabulary(labels: tf.Tensor, name: str) -> tf.Tensor:
    """Computes the vocabulary of the analysed split and maps labels to their positions in it.

    Args:
        labels: string [batch], class names in UTF-8.
        name: what `TFTransformOutput.vocabulary_by_name` is to find the vocabulary by.

    Returns:
        int64 [batch]: positions in the alphabetical vocabulary (byte order), `UNKNOWN_LABEL` for other labels.
    """
    (vocabulary_file,) = tft.experimental.ptransform_analyzer(
        inputs=[labels],
        ptransform=_WriteSortedVocabulary(name),
        output_dtypes=[tf.string],
        output_shapes=[[]],
        output_asset_default_values=[b"default_label"],
        name="label_vocabulary",
    )
    tft.annotate_asset(name, name)
    return tft.apply_vocabulary(labels, vocabulary_file, default_value=UNKNOWN_LABEL)


class _UnionFn(beam.CombineFn):
    """Combines batches of labels into the set of distinct labels: constant memory however many the images."""

    def create_accumulator(self) -> set[bytes]:
        return set()

    def add_input(self, accumulator: set[bytes], batch: tuple[np.ndarray]) -> set[bytes]:
        accumulator.update(batch[0].tolist())
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[set[bytes]]) -> set[bytes]:
        return set().union(*accumulators)

    def extract_output(self, accumulator: set[bytes]) -> list[bytes]:
        return sorted(accumulator)


class _WriteSortedVocabulary(PTransformAnalyzer):
    """Writes the distinct labels, one a line and sorted, to a file and returns its path."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def expand(self, batches: beam.PCollection) -> tuple[beam.PCollection]:
        path = os.path.join(self.base_temp_dir, self._name)
        return (batches | "Union" >> beam.CombineGlobally(_UnionFn()) | "Write" >> beam.Map(_write_lines, path),)


def _write_lines(labels: list[bytes], path: str) -> np.ndarray:
    """Writes labels to a file, one a line, and returns the path as TFT wants it.

    Raises:
        ValueError: a label that a text file with one label a line cannot hold.
    """
    for label in labels:
        if not label or b"\n" in label or b"\r" in label:
            raise ValueError(f"the label {label!r} is empty or holds a line break; rename the class")
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(b"".join(label + b"\n" for label in labels))
    return np.array(path)
