"""The Trainer's input: a split as batches, in an order that follows from the seed and the epoch alone."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from components.transform.features import (
    TRANSFORMED_FEATURE_SPEC,
    TRANSFORMED_IMAGE_KEY,
    TRANSFORMED_LABEL_KEY,
    unpack_images,
)

# Both bounds count packed bytes, so that memory does not grow with the data or the image size.
_MEMORY_BYTES = 512 * 2**20
_SHUFFLE_BYTES = 256 * 2**20

# Parsing gives 56,000 images/s a thread at 32 pixels, so that few threads do.
_PARALLEL_CALLS = 4
_PREFETCHED_BATCHES = 4
_READ_RECORDS = 1024

Augment = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""(uint8 images [batch, ...], int32 seed [2] of the step) -> images of the same shape and type."""


class Split(Protocol):
    """What the training loop reads; images or features, from memory or from disk."""

    batch_size: int
    seed: int
    drop_remainder: bool

    @property
    def augmented(self) -> bool:
        """Whether the same example differs between epochs."""

    def count_labels(self, class_count: int) -> np.ndarray:
        """Returns int64 [class_count], how many examples each class has."""

    def epoch(self, epoch: int, first_step: int = 0) -> tf.data.Dataset:
        """Batches (inputs [n, ...], int64 labels [n], float32 weights [n]) of one epoch, from one of its steps on.

        The order is a function of (seed, epoch), so that a step always holds the same examples.
        """

    def in_order(self) -> tf.data.Dataset:
        """All examples once, the last batch filled up with examples of weight 0."""


class ArraySplit:
    """A split in memory: each epoch is a permutation of all examples, and any step of it is reached at once."""

    def __init__(
        self,
        inputs: np.ndarray | tf.Tensor,
        labels: np.ndarray,
        batch_size: int,
        *,
        seed: int = 0,
        drop_remainder: bool = False,
        decode: Callable[[tf.Tensor], tf.Tensor] | None = None,
        augment: Augment | None = None,
    ) -> None:
        """Holds the examples.

        Args:
            inputs: [examples, ...]; an `np.memmap` is read from disk batch by batch.
            labels: int64 [examples]; -1 is an unknown class and weighs nothing.
            batch_size: examples in a batch, over all replicas.
            seed: of the order and of augmentation.
            drop_remainder: leave out of an epoch what does not fill a batch (where shapes must be static).
            decode: maps a batch of `inputs` to what the model reads.
            augment: changes the decoded inputs of an epoch, not those in order.
        """
        self.batch_size = batch_size
        self.labels = np.asarray(labels, np.int64)
        self._inputs = inputs
        self.seed, self.drop_remainder = seed, drop_remainder
        self._decode, self._augment = decode, augment

    @property
    def augmented(self) -> bool:
        """See `Split`."""
        return self._augment is not None

    def epoch(self, epoch: int, first_step: int = 0) -> tf.data.Dataset:
        """See `Split`."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.labels))
        indices = tf.data.Dataset.from_tensor_slices(order[first_step * self.batch_size :])
        batches = self._gather(indices.batch(self.batch_size, drop_remainder=self.drop_remainder))
        return _finish(batches, self._augment and _make_augment(self._augment, self.seed, epoch, first_step))

    def in_order(self) -> tf.data.Dataset:
        """See `Split`."""
        indices = tf.data.Dataset.range(len(self.labels)).batch(self.batch_size)
        return _finish(_pad(self._gather(indices), self.batch_size))

    def count_labels(self, class_count: int) -> np.ndarray:
        """See `Split`."""
        return np.bincount(self.labels[self.labels >= 0], minlength=class_count)

    def _gather(self, indices: tf.data.Dataset) -> tf.data.Dataset:
        labels = tf.constant(self.labels)
        if isinstance(self._inputs, np.memmap):
            stored = self._inputs

            def read(batch: tf.Tensor) -> tf.Tensor:
                rows = tf.numpy_function(lambda index: np.asarray(stored[index]), [batch], stored.dtype)
                return tf.ensure_shape(rows, [batch.shape[0], *stored.shape[1:]])
        else:
            inputs = tf.convert_to_tensor(self._inputs)

            def read(batch: tf.Tensor) -> tf.Tensor:
                return tf.gather(inputs, batch)

        @tf.autograph.experimental.do_not_convert
        def gather(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            found = read(batch)
            return _weigh(self._decode(found) if self._decode else found, tf.gather(labels, batch))

        return indices.map(gather, num_parallel_calls=_PARALLEL_CALLS)


class RecordSplit:
    """A split too large for memory: files in another order each epoch, and a shuffle buffer over their records."""

    def __init__(
        self,
        files: Sequence[str],
        image_size: int,
        batch_size: int,
        *,
        seed: int = 0,
        drop_remainder: bool = False,
        augment: Augment | None = None,
    ) -> None:
        """Reads nothing yet; arguments as in `open_split`."""
        self.batch_size = batch_size
        self._files, self._image_size = sorted(files), image_size
        self.seed, self.drop_remainder, self._augment = seed, drop_remainder, augment

    @property
    def augmented(self) -> bool:
        """See `Split`."""
        return self._augment is not None

    def epoch(self, epoch: int, first_step: int = 0) -> tf.data.Dataset:
        """See `Split`. The records before `first_step` are read again, but not parsed."""
        random = np.random.default_rng([self.seed, epoch])
        records = _read_records([self._files[number] for number in random.permutation(len(self._files))])
        buffer_size = max(_SHUFFLE_BYTES // (self._image_size**2 * 3), 1000)
        records = records.shuffle(buffer_size, seed=int(random.integers(1, 2**62)), reshuffle_each_iteration=False)
        batches = records.batch(self.batch_size, drop_remainder=self.drop_remainder).skip(first_step)
        return _finish(
            batches.map(self._parse, num_parallel_calls=_PARALLEL_CALLS),
            self._augment and _make_augment(self._augment, self.seed, epoch, first_step),
        )

    def in_order(self) -> tf.data.Dataset:
        """See `Split`."""
        batches = _read_records(self._files).batch(self.batch_size)
        return _finish(_pad(batches.map(self._parse, num_parallel_calls=_PARALLEL_CALLS), self.batch_size))

    def count_labels(self, class_count: int) -> np.ndarray:
        """See `Split`; reads all records."""
        counts = np.zeros(class_count, np.int64)
        spec = {TRANSFORMED_LABEL_KEY: TRANSFORMED_FEATURE_SPEC[TRANSFORMED_LABEL_KEY]}
        for records in _read_records(self._files).batch(_READ_RECORDS):
            labels = tf.io.parse_example(records, spec)[TRANSFORMED_LABEL_KEY].numpy()
            counts += np.bincount(labels[labels >= 0], minlength=class_count)
        return counts

    @tf.autograph.experimental.do_not_convert
    def _parse(self, records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        features = tf.io.parse_example(records, TRANSFORMED_FEATURE_SPEC)
        return _weigh(unpack_images(features[TRANSFORMED_IMAGE_KEY], self._image_size), features[TRANSFORMED_LABEL_KEY])


def open_split(
    file_patterns: Sequence[str],
    image_size: int,
    batch_size: int,
    *,
    seed: int = 0,
    drop_remainder: bool = False,
    augment: Augment | None = None,
) -> ArraySplit | RecordSplit:
    """Opens one split, in memory if it fits.

    Args:
        file_patterns: globs of gzipped TFRecord files of transformed Examples.
        image_size: height and width in pixels.
        batch_size: images in a batch, over all replicas.
        seed: of the order and of augmentation.
        drop_remainder: leave out of an epoch what does not fill a batch (where shapes must be static).
        augment: changes the images of an epoch, not those in order.

    Returns:
        A `Split` of uint8 images [batch, image_size, image_size, 3].
    """
    files = sorted(tf.io.gfile.glob(list(file_patterns)))
    if sum(tf.io.gfile.stat(file).length for file in files) <= _MEMORY_BYTES:
        packed: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        size = 0
        for records in _read_records(files).batch(_READ_RECORDS):
            features = tf.io.parse_example(records, TRANSFORMED_FEATURE_SPEC)
            packed.append(features[TRANSFORMED_IMAGE_KEY].numpy())
            labels.append(features[TRANSFORMED_LABEL_KEY].numpy())
            size += sum(map(len, packed[-1]))
            if size > _MEMORY_BYTES:
                break
        else:
            return ArraySplit(
                tf.constant(np.concatenate(packed) if packed else [], tf.string),
                np.concatenate(labels) if labels else np.zeros(0, np.int64),
                batch_size,
                seed=seed,
                drop_remainder=drop_remainder,
                decode=lambda strings: unpack_images(strings, image_size),
                augment=augment,
            )
    return RecordSplit(files, image_size, batch_size, seed=seed, drop_remainder=drop_remainder, augment=augment)


def balance_classes(counts: np.ndarray) -> np.ndarray:
    """Returns float32 [classes]: weights with which all classes weigh the same, 1 on average over the examples."""
    return (counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))).astype(np.float32)


def _read_records(files: Sequence[str]) -> tf.data.Dataset:
    records = tf.data.TFRecordDataset(files, compression_type="GZIP", num_parallel_reads=min(len(files), 8) or None)
    return records.with_options(_make_options())


def _weigh(inputs: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Adds weights: 1, or 0 where the label is a class that train does not know."""
    return inputs, tf.maximum(labels, 0), tf.cast(labels >= 0, tf.float32)


def _pad(batches: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Fills the last batch up with zeros, whose weight is zero too, so that every batch has the same shape."""

    @tf.autograph.experimental.do_not_convert
    def pad(*batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
        def pad_one(values: tf.Tensor) -> tf.Tensor:
            missing = batch_size - tf.shape(values)[0]
            padded = tf.pad(values, [[0, missing]] + [[0, 0]] * (values.shape.rank - 1))
            return tf.ensure_shape(padded, [batch_size, *values.shape[1:]])

        return tuple(map(pad_one, batch))

    return batches.map(pad)


def _make_augment(augment: Augment, seed: int, epoch: int, first_step: int) -> Callable[..., tuple[tf.Tensor, ...]]:
    """Returns `augment` for the batches of an epoch, each with the seed of its step."""
    epoch_seed = np.random.default_rng([seed, epoch, 1]).integers(0, 2**31, 2).astype(np.int32)

    @tf.autograph.experimental.do_not_convert
    def apply(number: tf.Tensor, batch: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        step_seed = tf.random.experimental.stateless_fold_in(epoch_seed, tf.cast(number, tf.int32) + first_step)
        return augment(batch[0], step_seed), *batch[1:]

    return apply


def _finish(batches: tf.data.Dataset, augment: Callable[..., tuple[tf.Tensor, ...]] | None = None) -> tf.data.Dataset:
    if augment is not None:
        batches = batches.enumerate().map(lambda number, batch: augment(number, batch), _PARALLEL_CALLS)
    return batches.prefetch(_PREFETCHED_BATCHES).with_options(_make_options())


def _make_options() -> tf.data.Options:
    # Autotuning is off, hence the numbers above. Its thread sleeps for up to 10 s, and deleting an iterator, as happens
    # after each epoch, waits for it: epochs of 6.6 s took 10.2 or 20.5 s.
    options = tf.data.Options()
    options.autotune.enabled = False
    options.deterministic = True
    # Several hosts share a batch, not the files: a step holds the same examples whoever reads them.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options
