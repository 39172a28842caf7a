"""Runs the candidate, and the baseline where there is a comparable one, over the test split, batch by batch."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tfx.types import Artifact, artifact_utils

from components.exported_model.manifest import read_classes, read_manifest, saved_model_path
from components.exported_model.reference import CONFIDENCE, REFERENCE_FILE, Profile, write_profile
from components.exported_model.signatures import DECISION, EMBED_SIGNATURE, EXAMPLES_SIGNATURE, UNKNOWN_SCORE
from components.image_example_gen.summary import count_images
from components.predictor.predictions import PredictionsWriter
from components.progress import report_progress
from components.record_batches import images_at_once
from components.transform.label_vocabulary import UNKNOWN_LABEL
from data.features import CONTENT_HASH_KEY, FORMAT_KEY, HEIGHT_KEY, LABEL_KEY, NAME_KEY, WIDTH_KEY
from data.image_statistics import read_image_statistics

PREDICTIONS_KEY = "predictions"
TEST_SPLIT = "test"

_USUAL_SIZE = 224
_TEXT = tf.io.FixedLenFeature([], tf.string, "")
_NUMBER = tf.io.FixedLenFeature([], tf.int64, 0)
_SPEC = {
    LABEL_KEY: tf.io.FixedLenFeature([], tf.string),
    NAME_KEY: _TEXT,
    CONTENT_HASH_KEY: _TEXT,
    HEIGHT_KEY: _NUMBER,
    WIDTH_KEY: _NUMBER,
    FORMAT_KEY: _TEXT,
}
PredictFn = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def write_predictions(examples: Artifact, model: Artifact, baseline_model: Artifact | None, folder: str) -> None:
    """Writes `predictions.parquet` and `reference.json`; memory holds one batch: the predictions grow on disk.

    Args:
        examples: raw Examples with a `test` split.
        model: that is asked.
        baseline_model: the latest blessed model; left out where its classes are others, or in another order.
        folder: of the predictions, local or remote.
    """
    path = saved_model_path(model)
    manifest = read_manifest(path)
    batch_size = images_at_once(manifest.image_size if manifest else _USUAL_SIZE)
    class_names, predict = read_classes(path), _load(path, EMBED_SIGNATURE)
    predict_baseline = None
    if baseline_model and read_classes(baseline := saved_model_path(baseline_model)) == class_names:
        predict_baseline = _load(baseline, EXAMPLES_SIGNATURE)
    indices = {name: index for index, name in enumerate(class_names)}
    profile = Profile()
    tf.io.gfile.makedirs(folder)
    done, total = 0, count_images(examples.uri, [TEST_SPLIT])
    with PredictionsWriter(folder, class_names) as writer:
        for records in read_records([examples], TEST_SPLIT, batch_size):
            outputs = predict(records)
            embeddings = outputs.get("embeddings")
            parsed = {key: value.numpy() for key, value in tf.io.parse_example(records, _SPEC).items()}
            labels = _decode(parsed[LABEL_KEY])
            probabilities = outputs["probabilities"].numpy()
            scores = outputs[UNKNOWN_SCORE].numpy() if UNKNOWN_SCORE in outputs else None
            for place, row in enumerate(probabilities):
                told = {CONFIDENCE: float(row.max()), UNKNOWN_SCORE: None if scores is None else float(scores[place])}
                profile.add(class_names[int(row.argmax())], told)
            writer.write(
                {
                    "file_name": _decode(parsed[NAME_KEY]),
                    "content_sha256": _decode(parsed[CONTENT_HASH_KEY]),
                    "label": labels,
                    "label_index": [indices.get(label, UNKNOWN_LABEL) for label in labels],
                    "height": parsed[HEIGHT_KEY],
                    "width": parsed[WIDTH_KEY],
                    "format": _decode(parsed[FORMAT_KEY]),
                    "probabilities": probabilities,
                    "decision": _decode(outputs[DECISION].numpy()) if DECISION in outputs else None,
                    "unknown_score": scores,
                    "embedding": None if embeddings is None else embeddings.numpy(),
                    "baseline_probabilities": (
                        predict_baseline(records)["probabilities"].numpy() if predict_baseline else None
                    ),
                }
            )
            done += len(labels)
            report_progress("predicting", completed=done, total=total)
    if looks := (read_image_statistics(examples.uri) or {}).get(TEST_SPLIT):
        profile.histograms.update(looks.histograms)
    write_profile(profile, os.path.join(folder, REFERENCE_FILE))


def read_records(examples: list[Artifact], split: str, batch_size: int) -> Iterator[tf.Tensor]:
    """Yields serialised Examples of a split, string [at most batch_size], files in the order of their names."""
    folder = artifact_utils.get_split_uri(examples, split)
    files = sorted(tf.io.gfile.glob(os.path.join(folder, "*")))
    compression = "GZIP" if all(file.endswith(".gz") for file in files) else ""
    yield from tf.data.TFRecordDataset(files, compression_type=compression).batch(batch_size).prefetch(2)


def _load(path: str, preferred_signature: str) -> PredictFn:
    """Returns a model's function from serialised Examples to probabilities and maybe embeddings."""
    # The function keeps the loaded object alive, whose variables it needs.
    loaded = tf.saved_model.load(path)
    name = preferred_signature if preferred_signature in loaded.signatures else EXAMPLES_SIGNATURE
    signature = loaded.signatures[name]

    def predict(records: tf.Tensor, loaded: Any = loaded) -> dict[str, tf.Tensor]:
        return signature(examples=records)

    return predict


def _decode(values: np.ndarray) -> list[str]:
    return [value.decode("utf-8", "replace") for value in values]
