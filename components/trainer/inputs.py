"""The Trainer's input: transformed Examples as batches of uint8 images and labels."""

from collections.abc import Sequence

import tensorflow as tf

from components.transform.features import (
    TRANSFORMED_FEATURE_SPEC,
    TRANSFORMED_IMAGE_KEY,
    TRANSFORMED_LABEL_KEY,
    unpack_images,
)

# Both bounds count packed bytes, so that memory does not grow with the data or the image size.
_CACHE_BYTES = 256 * 2**20
_SHUFFLE_BYTES = 256 * 2**20

# Parsing gives 56,000 images/s a thread at 32 pixels, so that few threads do.
_PARALLEL_CALLS = 4
_PREFETCHED_BATCHES = 4


def make_dataset(
    file_patterns: Sequence[str],
    image_size: int,
    batch_size: int,
    *,
    shuffle_seed: int | None = None,
    drop_remainder: bool = False,
) -> tf.data.Dataset:
    """Reads one split.

    Args:
        file_patterns: globs of gzipped TFRecord files of transformed Examples.
        image_size: height and width in pixels.
        batch_size: images in a batch, over all replicas.
        shuffle_seed: None reads in the order of the files; else each epoch has another order that follows from it.
        drop_remainder: leave out the last images that do not fill a batch (where shapes must be static).

    Returns:
        Batches of (uint8 [batch, image_size, image_size, 3], int64 [batch]).
    """
    files = sorted(tf.io.gfile.glob(list(file_patterns)))
    records = tf.data.TFRecordDataset(files, compression_type="GZIP", num_parallel_reads=min(len(files), 8) or None)
    if sum(tf.io.gfile.stat(file).length for file in files) <= _CACHE_BYTES:
        # Inflating gzip takes longer than all else here; the records of a small split fit in memory.
        records = records.cache()
    if shuffle_seed is not None:
        buffer_size = max(_SHUFFLE_BYTES // (image_size * image_size * 3), 1000)
        records = records.shuffle(buffer_size, seed=shuffle_seed, reshuffle_each_iteration=True)

    def parse(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = tf.io.parse_example(batch, TRANSFORMED_FEATURE_SPEC)
        return unpack_images(features[TRANSFORMED_IMAGE_KEY], image_size), features[TRANSFORMED_LABEL_KEY]

    batches = records.batch(batch_size, drop_remainder=drop_remainder)
    parse = tf.autograph.experimental.do_not_convert(parse)
    # Autotuning is off, hence the numbers. Its thread sleeps for up to 10 s, and deleting an iterator, as `fit` does
    # after each epoch, waits for it: epochs of 6.6 s took 10.2 or 20.5 s.
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.map(parse, num_parallel_calls=_PARALLEL_CALLS).prefetch(_PREFETCHED_BATCHES).with_options(options)
