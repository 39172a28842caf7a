"""Images that two splits share but for their bytes: resaved, resized, cropped a little, a frame later.

See `data.near_duplicates`. Copies byte for byte are ImageExampleGen's business.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tfx.types import Artifact

from components.predictor.executor import read_records
from components.progress import report_progress
from components.report_gen.mistakes import LISTED
from data.features import IMAGE_KEY, LABEL_KEY, NAME_KEY, SPLITS
from data.near_duplicates import LEAST_COSINE, VALUES, describe_image

_MOST_IMAGES = 100_000
"""Of all splits together, `test` and `eval` first: reading 1.3 million photographs would take an hour."""
_BLOCK = 1024
_READ_RECORDS = 32
"""Held up to five times: as read ahead, as parsed, and as bytes for the threads."""
_THREADS = 2


@dataclass(frozen=True)
class Descriptors:
    """One split's images.

    Attributes:
        vectors: float32 [images, 300], of length 1; 0 for an image of one colour, or unreadable, like no other.
        names: of the files.
        labels: class names.
    """

    vectors: np.ndarray
    names: list[str]
    labels: list[str]


def find_near_duplicates(examples: Artifact) -> dict[str, Any]:
    """Compares `test` with `eval` and `train`, and `eval` with `train`.

    Returns:
        `pairs`: the likest first, each `{"first": [split, position], "second": ..., "names", "labels", "cosine"}`;
        `count` of all of them by "test and train" etc.; `compared` images by split, fewer than there are where there
        are more than 100,000; `least_cosine`.
    """
    order = [split for split in reversed(SPLITS) if split in examples.split_names]
    left = _MOST_IMAGES
    descriptors: dict[str, Descriptors] = {}
    for split in order:
        report_progress(f"looking for near duplicates in {split}")
        descriptors[split] = _describe(examples, split, left)
        left -= len(descriptors[split].names)
    pairs: list[tuple[float, tuple[str, int], tuple[str, int]]] = []
    counts: dict[str, int] = {}
    for i, first in enumerate(order):
        for second in order[i + 1 :]:
            found = _compare(descriptors[first].vectors, descriptors[second].vectors)
            counts[f"{first} and {second}"] = len(found)
            pairs += [(cosine, (first, a), (second, b)) for cosine, a, b in found]
    pairs.sort(key=lambda pair: -pair[0])
    return {
        "least_cosine": LEAST_COSINE,
        "count": counts,
        "compared": {split: len(descriptors[split].names) for split in order},
        "complete": left > 0,
        "pairs": [
            {
                "first": list(a),
                "second": list(b),
                "names": [descriptors[split].names[position] for split, position in (a, b)],
                "labels": [descriptors[split].labels[position] for split, position in (a, b)],
                "cosine": round(cosine, 4),
            }
            for cosine, a, b in pairs[:LISTED]
        ],
    }


def _describe(examples: Artifact, split: str, most: int) -> Descriptors:
    spec = {
        IMAGE_KEY: tf.io.FixedLenFeature([], tf.string),
        LABEL_KEY: tf.io.FixedLenFeature([], tf.string),
        NAME_KEY: tf.io.FixedLenFeature([], tf.string, ""),
    }
    vectors: list[np.ndarray] = []
    names: list[str] = []
    labels: list[str] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for records in read_records([examples], split, _READ_RECORDS):
            if len(names) >= most:
                break
            parsed = {key: value.numpy() for key, value in tf.io.parse_example(records, spec).items()}
            vectors.append(np.stack(list(pool.map(describe_image, parsed[IMAGE_KEY]))))
            names += [name.decode("utf-8", "replace") for name in parsed[NAME_KEY]]
            labels += [label.decode("utf-8", "replace") for label in parsed[LABEL_KEY]]
    empty = np.zeros([0, VALUES], np.float32)
    return Descriptors(np.concatenate(vectors)[:most] if vectors else empty, names[:most], labels[:most])


def _compare(first: np.ndarray, second: np.ndarray) -> list[tuple[float, int, int]]:
    """Returns (cosine, position, position) of every pair that is alike, block by block so that memory stays small."""
    found = []
    for a in range(0, len(first), _BLOCK):
        for b in range(0, len(second), 8 * _BLOCK):
            cosines = first[a : a + _BLOCK] @ second[b : b + 8 * _BLOCK].T
            for i, j in np.argwhere(cosines >= LEAST_COSINE):
                found.append((float(cosines[i, j]), int(a + i), int(b + j)))
    return found
