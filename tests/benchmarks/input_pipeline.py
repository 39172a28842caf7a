"""Feeding the Trainer at 224 pixels: our transformed examples against float32 image lists.

    python -m tests.benchmarks.input_pipeline [--images 4000]

The same images, random crops of scikit-learn's two photographs, are written twice as gzipped TFRecords, in four files
each: as the Trainer's transformed examples, and as the float lists of TFX's image examples. The alternative is parsed
as `tf.data`'s guide shows it, autotuned; ours is what `open_split` gives: from the records, of a split too large for
memory and disk; unpacked on the disk; and in memory. Epochs are read in turn, shuffled, in batches of 32; nothing is
trained.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from components.trainer.image_cache import unpack
from components.trainer.inputs import ArraySplit, open_split
from components.trainer.record_split import RecordSplit
from components.transform.features import TRANSFORMED_IMAGE_KEY, TRANSFORMED_LABEL_KEY, pack_image
from tests.benchmarks.whole_process import describe, describe_machine

BATCH_SIZE = 32
FILES = 4
V5E_IMAGES_PER_SECOND = 2125
"""What one v5e chip cannot exceed: VGG16, all blocks trained, the table in docs/vertex_ai.md divided by four chips."""


def make_images(count: int, size: int) -> np.ndarray:
    """Returns uint8 [count, size, size, 3], crops of photographs with an area of 10 to 100 % of the largest square."""
    from sklearn.datasets import load_sample_images

    photos = load_sample_images().images
    random = np.random.default_rng(0)
    images = np.empty([count, size, size, 3], np.uint8)
    for number in range(count):
        photo = photos[number % len(photos)]
        side = int(min(photo.shape[:2]) * np.sqrt(random.uniform(0.1, 1.0)))
        top, left = (int(random.integers(extent - side + 1)) for extent in photo.shape[:2])
        crop = photo[top : top + side, left : left + side]
        images[number] = np.clip(tf.image.resize(crop, [size, size], antialias=True).numpy().round(), 0, 255)
    return images


def write_examples(folder: Path, images: np.ndarray) -> None:
    """Writes `packed-*.gz` and `floats-*.gz`."""
    for kind in ("packed", "floats"):
        for shard in range(FILES):
            path = str(folder / f"{kind}-{shard}.gz")
            with tf.io.TFRecordWriter(path, tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
                for number in range(shard, len(images), FILES):
                    writer.write(_make_example(kind, images[number], number % 10))


def _make_example(kind: str, image: np.ndarray, label: int) -> bytes:
    if kind == "packed":
        packed = tf.train.BytesList(value=[pack_image(tf.constant(image)).numpy()])
        pixels = tf.train.Feature(bytes_list=packed)
    else:
        pixels = tf.train.Feature(float_list=tf.train.FloatList(value=image.astype(np.float32).ravel()))
    labels = tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
    features = tf.train.Features(feature={TRANSFORMED_IMAGE_KEY: pixels, TRANSFORMED_LABEL_KEY: labels})
    return tf.train.Example(features=features).SerializeToString()


def read_float_lists(folder: Path, size: int) -> tf.data.Dataset:
    """The named alternative: float lists, parsed and autotuned as `tf.data`'s guide shows it."""
    spec = {
        TRANSFORMED_IMAGE_KEY: tf.io.FixedLenFeature([size, size, 3], tf.float32),
        TRANSFORMED_LABEL_KEY: tf.io.FixedLenFeature([], tf.int64),
    }
    files = sorted(map(str, folder.glob("floats-*.gz")))
    records = tf.data.TFRecordDataset(files, compression_type="GZIP", num_parallel_reads=tf.data.AUTOTUNE)
    batches = records.shuffle(1000).batch(BATCH_SIZE)
    parsed = batches.map(lambda batch: tf.io.parse_example(batch, spec), num_parallel_calls=tf.data.AUTOTUNE)
    return parsed.prefetch(tf.data.AUTOTUNE)


def count_images_per_second(dataset: tf.data.Dataset) -> float:
    """Reads one epoch."""
    started, count = time.monotonic(), 0
    for batch in dataset:
        count += int(_first(batch).shape[0])
    return count / (time.monotonic() - started)


def _first(batch: Any) -> tf.Tensor:
    return batch[TRANSFORMED_IMAGE_KEY] if isinstance(batch, dict) else batch[0]


def main() -> None:
    """Prints images/s of the three, and their ratios epoch by epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, size = Path(name), arguments.image_size
        write_examples(folder, make_images(arguments.images, size))
        files = sorted(map(str, folder.glob("packed-*.gz")))
        started = time.monotonic()
        images, labels = unpack(files, size, "train")
        unpacked = time.monotonic() - started
        splits = {
            "records": RecordSplit(files, size, BATCH_SIZE),
            "unpacked": ArraySplit(images, labels, BATCH_SIZE),
            "memory": open_split(files, size, BATCH_SIZE),
        }
        lists: list[float] = []
        ours: dict[str, list[float]] = {key: [] for key in splits}
        for epoch in range(arguments.epochs):
            lists.append(count_images_per_second(read_float_lists(folder, size)))
            for key, split in splits.items():
                ours[key].append(count_images_per_second(split.epoch(epoch)))
    print(f"machine                       {describe_machine()}")
    print(f"images                        {arguments.images} of {size} px, unpacked once in {unpacked:.1f} s")
    print(f"float32 lists, images/s       {describe(lists)}")
    for key, speeds in ours.items():
        ratios = [speed / floats for speed, floats in zip(speeds, lists, strict=True)]
        share = statistics.median(speeds) / V5E_IMAGES_PER_SECOND
        print(f"{key + ', images/s':<29} {describe(speeds)}, {share:.2f} of a v5e chip's ceiling")
        print(f"{key + ' / float32 lists':<29} {describe(ratios)}")


if __name__ == "__main__":
    main()
