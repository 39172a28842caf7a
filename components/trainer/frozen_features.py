"""What the Trainer leaves for whoever judges labels: the features that it solved the head on, and whose they are.

Float16, which halves the file: bfloat16, in which features may be computed, has fewer bits. At most `MOST_IMAGES`
images, which are 200 MiB where there are 2,048 features.
"""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from components.exported_model.weights import weight_key
from components.trainer.backbones import pooled_blocks
from components.trainer.batches import read_records
from components.trainer.model import ImageClassifier
from components.trainer.solving import Features, SolvedHead
from components.transform.features import FINGERPRINT_KEY, TRANSFORMED_FEATURE_SPEC, TRANSFORMED_LABEL_KEY

FROZEN_FEATURES_FILE, FROZEN_WEIGHTS_FILE = "frozen_features.npz", "frozen_weights.npz"
"""In the `model_run` artifact: `FrozenFeatures`, and the backbone's weights as they were when these were computed, of
those that the exported model has otherwise."""

MOST_IMAGES = 50_000
"""Of train and eval together."""

_READ_RECORDS = 1024


@dataclass(frozen=True)
class FrozenFeatures:
    """What the exported model's pooling makes of train and eval, in no order that means anything.

    Attributes:
        features: float16 [images, features], not standardised.
        fingerprints: int64 [images], of `components.transform.features.fingerprint`.
        depths: channels of each depth, from the image to the head.
        pooling: of the head that was solved, a `Pooling`.
        strength: of the penalty that was chosen for them.
    """

    features: np.ndarray
    fingerprints: np.ndarray
    depths: tuple[int, ...]
    pooling: str
    strength: float


def write_frozen_features(
    folder: str, features: Features, solved: SolvedHead, files: tuple[Sequence[str], Sequence[str]]
) -> None:
    """Leaves the features of train and eval, each image as it is, in a local or `gs://` folder; not of too many.

    Args:
        folder: of the `model_run` artifact.
        features: that the head was solved on.
        solved: the head.
        files: patterns of the transformed Examples of train and of eval, which `features` came from.
    """
    labels = features.train_labels, features.eval_labels
    if sum(map(len, labels)) > MOST_IMAGES:
        return
    depths = features.depths[-pooled_blocks(solved.pooling) :]
    rows, prints = [], []
    for values, known, patterns in zip((features.train, features.eval), labels, files, strict=True):
        found, found_labels = _read_fingerprints(patterns)
        if not np.array_equal(found_labels, known):
            raise AssertionError("the features are not in the order of the examples")
        rows.append(values[: len(known), -sum(depths) :].astype(np.float16))
        prints.append(found)
    _write_arrays(
        os.path.join(folder, FROZEN_FEATURES_FILE),
        features=np.concatenate(rows),
        fingerprints=np.concatenate(prints),
        depths=np.array(depths),
        pooling=np.array(solved.pooling),
        strength=np.array(solved.strength),
    )


def read_frozen_features(folder: str) -> FrozenFeatures | None:
    """Returns what `write_frozen_features` left in a `model_run` artifact, None where there is nothing."""
    arrays = _read_arrays(os.path.join(folder, FROZEN_FEATURES_FILE))
    if arrays is None:
        return None
    depths = tuple(int(depth) for depth in arrays["depths"])
    pooling, strength = str(arrays["pooling"]), float(arrays["strength"])
    return FrozenFeatures(arrays["features"], arrays["fingerprints"], depths, pooling, strength)


def keep_weights(model: ImageClassifier) -> dict[str, np.ndarray]:
    """Returns a copy of a backbone's weights by their keys in an export."""
    return {weight_key(weight): weight.numpy() for weight in model.get_layer("backbone").weights}


def write_frozen_weights(folder: str, kept: dict[str, np.ndarray], model: ImageClassifier) -> None:
    """Leaves those of the kept weights that the model has otherwise by now."""
    now = keep_weights(model)
    changed = {key: weight for key, weight in kept.items() if not np.array_equal(weight, now[key])}
    _write_arrays(os.path.join(folder, FROZEN_WEIGHTS_FILE), **changed)


def read_frozen_weights(folder: str) -> dict[str, np.ndarray]:
    """Returns the weights by key; none where the exported model's backbone is the frozen one."""
    return _read_arrays(os.path.join(folder, FROZEN_WEIGHTS_FILE)) or {}


def _read_fingerprints(patterns: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns fingerprints and labels of the images that train knows, in the order of `Split.in_order`."""
    spec = {
        FINGERPRINT_KEY: tf.io.FixedLenFeature([], tf.int64),
        TRANSFORMED_LABEL_KEY: TRANSFORMED_FEATURE_SPEC[TRANSFORMED_LABEL_KEY],
    }
    prints, labels = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for records in read_records(sorted(tf.io.gfile.glob(list(patterns)))).batch(_READ_RECORDS):
        parsed = {key: value.numpy() for key, value in tf.io.parse_example(records, spec).items()}
        known = parsed[TRANSFORMED_LABEL_KEY] >= 0
        prints.append(parsed[FINGERPRINT_KEY][known])
        labels.append(parsed[TRANSFORMED_LABEL_KEY][known])
    return np.concatenate(prints), np.concatenate(labels)


def _write_arrays(path: str, **arrays: np.ndarray) -> None:
    content = io.BytesIO()
    np.savez(content, **arrays)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(content.getvalue())


def _read_arrays(path: str) -> dict[str, np.ndarray] | None:
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path, "rb") as file, np.load(io.BytesIO(file.read()), allow_pickle=False) as saved:
        return {key: saved[key] for key in saved.files}
