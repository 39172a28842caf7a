"""What single images are, over all splits: names, labels, contents; and what a frozen backbone makes of them."""

from dataclasses import dataclass
from itertools import chain

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tf_keras
from tfx.types import Artifact

from components.exported_model.manifest import read_manifest
from components.exported_model.weights import weight_key
from components.predictor.executor import TEST_SPLIT, read_records
from components.predictor.predictions import Predictions
from components.progress import report_progress
from components.trainer.export import load_classifier
from components.trainer.frozen_features import FrozenFeatures, read_frozen_features, read_frozen_weights
from components.trainer.transform_graph import TransformGraph
from components.transform.features import TRANSFORMED_IMAGE_KEY, fingerprint, unpack_images
from data import features
from data.features import SPLITS

_READ_BATCH = 256
_EMBED_BATCH = 16
_TEXT = tf.io.FixedLenFeature([], tf.string, "")
_NUMBER = tf.io.FixedLenFeature([], tf.int64, 0)
_SPEC = {
    features.IMAGE_KEY: tf.io.FixedLenFeature([], tf.string),
    features.LABEL_KEY: _TEXT,
    features.NAME_KEY: _TEXT,
    features.CONTENT_HASH_KEY: _TEXT,
    features.FORMAT_KEY: _TEXT,
    features.HEIGHT_KEY: _NUMBER,
    features.WIDTH_KEY: _NUMBER,
    features.GROUP_KEY: _TEXT,
}


@dataclass(frozen=True)
class LabelledImages:
    """Images of all splits, in the order of the splits and of their files.

    Attributes:
        splits: of each image.
        positions: int64 [images], in the split.
        hashes: SHA-256 of the original files, hexadecimal; empty where the examples hold none.
        names: where they came from.
        labels: class names.
        groups: empty where an image belongs to none.
        formats: of the original files.
        pixels: int64 [images].
        file_bytes: int64 [images], of what the examples hold.
        fingerprints: int64 [images], of `components.transform.features.fingerprint`.
    """

    splits: list[str]
    positions: np.ndarray
    hashes: list[str]
    names: list[str]
    labels: list[str]
    groups: list[str]
    formats: list[str]
    pixels: np.ndarray
    file_bytes: np.ndarray
    fingerprints: np.ndarray

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.splits)


def read_labelled_images(examples: Artifact) -> LabelledImages:
    """Reads raw Examples of all splits; of the images it keeps fingerprint and size."""
    columns: dict[str, list[np.ndarray]] = {key: [] for key in (*_SPEC, "fingerprint", "bytes")}
    splits: list[str] = []
    positions: list[np.ndarray] = []
    for split in (split for split in SPLITS if split in examples.split_names):
        count = 0
        for records in read_records([examples], split, _READ_BATCH):
            parsed = tf.io.parse_example(records, _SPEC)
            image = parsed[features.IMAGE_KEY]
            columns["fingerprint"].append(fingerprint(image).numpy())
            columns["bytes"].append(tf.strings.length(image).numpy())
            for key in _SPEC:
                if key != features.IMAGE_KEY:
                    columns[key].append(parsed[key].numpy())
            count += int(records.shape[0])
        splits += [split] * count
        positions.append(np.arange(count))

    def texts(key: str) -> list[str]:
        return [value.decode("utf-8", "replace") for value in chain.from_iterable(columns[key])]

    def numbers(key: str) -> np.ndarray:
        return np.concatenate(columns[key]).astype(np.int64) if columns[key] else np.zeros(0, np.int64)

    return LabelledImages(
        splits,
        np.concatenate(positions) if positions else np.zeros(0, np.int64),
        texts(features.CONTENT_HASH_KEY),
        texts(features.NAME_KEY),
        texts(features.LABEL_KEY),
        texts(features.GROUP_KEY),
        texts(features.FORMAT_KEY),
        numbers(features.HEIGHT_KEY) * numbers(features.WIDTH_KEY),
        numbers("bytes"),
        numbers("fingerprint"),
    )


@dataclass(frozen=True)
class JoinedFeatures:
    """Features of those images that have some.

    Attributes:
        rows: int64 [n], which images.
        features: float16 [n, features].
        frozen: what the Trainer left.
    """

    rows: np.ndarray
    features: np.ndarray
    frozen: FrozenFeatures


def join_features(
    images: LabelledImages,
    examples: Artifact,
    predictions: Predictions,
    model_uri: str,
    model_run_uri: str,
    transform_graph_uri: str | None,
) -> JoinedFeatures | None:
    """Adds test's features to those of train and eval that the Trainer left; None where it left none.

    The exported model gave test's already, where its backbone is the frozen one; a fine-tuned one is given back the
    weights that it had, and runs over test once more.
    """
    frozen = read_frozen_features(model_run_uri)
    if frozen is None:
        return None
    width, test = sum(frozen.depths), predictions.embeddings
    if (changed := read_frozen_weights(model_run_uri)) or test is None:
        if transform_graph_uri is None:
            return None
        test = _embed_test(examples, model_uri, transform_graph_uri, changed)
    test_rows = np.flatnonzero(np.array(images.splits) == TEST_SPLIT)
    if test.shape != (len(test_rows), width):
        return None
    order = np.argsort(frozen.fingerprints, kind="stable")
    known = frozen.fingerprints[order]
    others = np.flatnonzero(np.array(images.splits) != TEST_SPLIT)
    places = np.minimum(np.searchsorted(known, images.fingerprints[others]), len(known) - 1)
    found = known[places] == images.fingerprints[others]
    rows = np.concatenate([others[found], test_rows])
    return JoinedFeatures(
        rows, np.concatenate([frozen.features[order[places[found]]], test.astype(np.float16)]), frozen
    )


def _embed_test(
    examples: Artifact, model_uri: str, transform_graph_uri: str, changed: dict[str, np.ndarray]
) -> np.ndarray:
    manifest = read_manifest(model_uri)
    assert manifest is not None, "who left features has written one"
    model = load_classifier(model_uri, manifest)
    for weight in model.get_layer("backbone").weights:
        if (kept := changed.get(weight_key(weight))) is not None:
            weight.assign(kept)
    embedder = tf_keras.Model(model.input, model.get_layer("head").input)
    graph = TransformGraph(tft.TFTransformOutput(transform_graph_uri))
    found = []
    done = 0
    for records in read_records([examples], TEST_SPLIT, _EMBED_BATCH):
        raw = graph.parse(records, [features.IMAGE_KEY])
        packed = graph.apply(raw)[TRANSFORMED_IMAGE_KEY]
        found.append(embedder(unpack_images(packed, manifest.image_size), training=False).numpy())
        done += len(found[-1])
        report_progress("features of test", completed=done)
    return np.concatenate(found) if found else np.zeros([0, embedder.output_shape[-1]], np.float32)
