"""Tiny classifiers and examples for tests of what comes after training: every probability is the test's own choice."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tfx.types import standard_artifacts

from components.transform.features import TRANSFORMED_LABEL_KEY
from data.features import IMAGE_KEY, LABEL_KEY


def softmax(logits: tf.Tensor) -> tf.Tensor:
    """Computes float32 probabilities in float64.

    In float32 the last bit follows from an example's place in its batch: a CPU computes what fills its registers by
    another routine than the rest. Two nearly equal probabilities then change places.
    """
    return tf.cast(tf.nn.softmax(tf.cast(logits, tf.float64)), tf.float32)


class _TinyClassifier(tf.Module):
    """Takes an Example's image bytes for float32 logits of the classes, and weighs them."""

    def __init__(self, vocabulary_path: str, weights: np.ndarray, least: float | None) -> None:
        super().__init__()
        self._least = least
        initializer = tf.lookup.TextFileInitializer(
            vocabulary_path,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        self.table = tf.lookup.StaticHashTable(initializer, -1)
        self.weights = tf.Variable(weights.astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serving_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        image = tf.io.parse_example(examples, {IMAGE_KEY: tf.io.FixedLenFeature([], tf.string)})[IMAGE_KEY]
        logits = tf.reshape(tf.io.decode_raw(image, tf.float32), [-1, self.weights.shape[0]])
        probabilities = softmax(logits @ self.weights)
        if self._least is None:
            return {"probabilities": probabilities}
        decided = tf.reduce_max(probabilities, axis=-1) >= self._least
        return {"probabilities": probabilities, "decision": tf.where(decided, "some class", "")}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def transform_features(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        label = tf.io.parse_example(examples, {LABEL_KEY: tf.io.FixedLenFeature([], tf.string)})[LABEL_KEY]
        return {TRANSFORMED_LABEL_KEY: self.table.lookup(label)}


def make_model(
    root: Path, class_names: Sequence[str], weights: np.ndarray, id: int = 1, least: float | None = None
) -> standard_artifacts.Model:
    """Exports a classifier whose logits are those in the image times the weights, float [logits, classes].

    With `least` it decides of images from this probability on.
    """
    vocabulary_path = root / "vocabulary" / "label"
    vocabulary_path.parent.mkdir(parents=True)
    vocabulary_path.write_text("".join(f"{name}\n" for name in class_names), encoding="utf-8")
    module = _TinyClassifier(str(vocabulary_path), weights, least)
    signatures = {"serving_examples": module.serving_examples, "transform_features": module.transform_features}
    tf.saved_model.save(module, str(root / "Format-Serving"), signatures=signatures)
    model = standard_artifacts.Model()
    model.uri, model.id = str(root), id
    return model


def make_examples(root: Path, labels: Sequence[str], logits: np.ndarray) -> standard_artifacts.Examples:
    """Writes a `test` split with the given labels and logits, float32 [images, logits], and a `train` split of junk."""
    for split, count in (("test", len(labels)), ("train", 1)):
        folder = root / f"Split-{split}"
        folder.mkdir(parents=True)
        with tf.io.TFRecordWriter(os.path.join(folder, "data-00000-of-00001.gz"), "GZIP") as writer:
            for label, row in zip(labels[:count], logits[:count].astype(np.float32), strict=True):
                values = {LABEL_KEY: label.encode(), IMAGE_KEY: row.tobytes() if split == "test" else b"junk"}
                features = {
                    key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for key, value in values.items()
                }
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    examples = standard_artifacts.Examples()
    examples.uri, examples.split_names = str(root), '["train", "test"]'
    return examples
