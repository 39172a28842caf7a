"""The Trainer's input: a split as batches, in an order that follows from the seed and the epoch alone."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from components.trainer.batches import (
    PARALLEL_CALLS,
    WHOLE,
    Augment,
    Share,
    finish,
    make_augment_step,
    make_view_step,
    read_records,
    weigh,
)
from components.trainer.extras import NO_EXTRAS, Extras, read_extras
from components.trainer.image_cache import can_unpack, unpack
from components.trainer.record_split import RecordSplit
from components.transform.features import (
    CHANNELS,
    TRANSFORMED_FEATURE_SPEC,
    TRANSFORMED_IMAGE_KEY,
    TRANSFORMED_LABEL_KEY,
    unpack_images,
)

# Packed bytes, so that memory does not grow with the data or the image size.
MEMORY_BYTES = 512 * 2**20
_READ_BYTES = 8 * 2**20

# A tensor of an array is a copy, made anew in each epoch: what is larger is read from the array.
_COPIED_BYTES = 8 * 2**20


class Split(Protocol):
    """What the training loop reads; images or features, from memory or from disk."""

    batch_size: int
    seed: int
    drop_remainder: bool

    @property
    def labels(self) -> np.ndarray:
        """int64 [examples] in order; -1 is a class that train does not know."""

    @property
    def extras(self) -> Extras:
        """Weights and groups of all examples in order."""

    @property
    def augmented(self) -> bool:
        """Whether the same example differs between epochs."""

    @property
    def count(self) -> int:
        """How many examples there are."""

    def count_labels(self, class_count: int) -> np.ndarray:
        """Returns int64 [class_count], how many examples each class has."""

    def epoch(self, epoch: int, first_step: int = 0, share: Share = WHOLE) -> tf.data.Dataset:
        """Batches (inputs [n, ...], int64 labels [n], float32 weights [n]) of one epoch, from one of its steps on.

        The weights are the examples' own, 1 on average.

        The order is a function of (seed, epoch), so that a step always holds the same examples, whoever reads them:
        a host reads its share of each batch. Shares need full batches, hence `drop_remainder`.
        """

    def augment_with(self, augment: Augment | None) -> None:
        """From now on epochs, and what is read in order by view, are changed so; None leaves them alone."""

    def in_order(
        self,
        share: Share = WHOLE,
        view: int | None = None,
        augment: Augment | None = None,
        *,
        weighted: bool = False,
    ) -> tf.data.Dataset:
        """All examples once, the last batch filled up with examples of weight 0; others weigh 1 but where `weighted`.

        Where a view is named they are augmented, as the split's epochs are or by another `augment`.
        """


def count_steps(split: Split) -> int:
    """Returns the steps of one epoch."""
    return split.count // split.batch_size if split.drop_remainder else -(-split.count // split.batch_size)


def distribute(strategy: tf.distribute.Strategy, read: Callable[[Share], tf.data.Dataset]) -> Any:
    """Has each host of a strategy read its share of batches, and gives each replica its rows.

    Args:
        strategy: whose replicas share a batch evenly.
        read: opens the share of a host; of one static shape where there are several replicas.

    Returns:
        Batches of the strategy. With several workers they start again at the end, so that no worker has to ask the
        others after each step whether they have one left: count them.
    """

    def open_share(context: tf.distribute.InputContext) -> tf.data.Dataset:
        dataset = read(Share(context.input_pipeline_id, context.num_input_pipelines))
        replicas = context.num_replicas_in_sync // context.num_input_pipelines
        if replicas > 1:
            rows = dataset.element_spec[1].shape[0] // replicas
            dataset = dataset.rebatch(rows, drop_remainder=True).prefetch(replicas)
        several_workers = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        return dataset.repeat() if several_workers else dataset

    return strategy.distribute_datasets_from_function(open_share)


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
        augment: Augment | None = None,
        views: int = 1,
        extras: Extras = NO_EXTRAS,
    ) -> None:
        """Holds the examples.

        Args:
            inputs: [views x examples, ...], one view after the other; an `np.memmap` is read from disk batch by batch.
            labels: int64 [examples]; -1 is an unknown class and weighs nothing.
            batch_size: examples in a batch, over all replicas.
            seed: of the order and of augmentation.
            drop_remainder: leave out of an epoch what does not fill a batch (where shapes must be static).
            augment: changes the inputs of an epoch, not those in order.
            views: how many versions of each example there are; the epochs take turns.
            extras: see `Split`.
        """
        self.batch_size = batch_size
        self.labels, self.extras = np.asarray(labels, np.int64), extras
        self._inputs = inputs
        self.seed, self.drop_remainder = seed, drop_remainder
        self._augment, self._views = augment, views

    @property
    def augmented(self) -> bool:
        """See `Split`."""
        return self._augment is not None

    @property
    def count(self) -> int:
        """See `Split`."""
        return len(self.labels)

    def epoch(self, epoch: int, first_step: int = 0, share: Share = WHOLE) -> tf.data.Dataset:
        """See `Split`."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.count)
        order = order[first_step * self.batch_size :]
        batches = self._gather(order, share, self.drop_remainder, epoch % self._views, weighted=True)
        return finish(
            batches,
            self._augment and make_augment_step(self._augment, [self.seed, epoch, 1], first_step, share),
        )

    def augment_with(self, augment: Augment | None) -> None:
        """See `Split`."""
        self._augment = augment

    def in_order(
        self,
        share: Share = WHOLE,
        view: int | None = None,
        augment: Augment | None = None,
        *,
        weighted: bool = False,
    ) -> tf.data.Dataset:
        """See `Split`."""
        order = np.pad(np.arange(self.count), [0, -self.count % self.batch_size], constant_values=-1)
        return finish(
            self._gather(order, share, True, weighted=weighted),
            make_view_step(augment or self._augment, self.seed, view, share),
        )

    def count_labels(self, class_count: int) -> np.ndarray:
        """See `Split`."""
        return np.bincount(self.labels[self.labels >= 0], minlength=class_count)

    def _gather(
        self, order: np.ndarray, share: Share, full_batches: bool, view: int = 0, *, weighted: bool
    ) -> tf.data.Dataset:
        """Batches of the examples with these numbers; -1 is none, and weighs nothing."""
        if share.count > 1:
            order = order[: len(order) // self.batch_size * self.batch_size]
            order = order.reshape(-1, share.count, self.batch_size // share.count)[:, share.number].reshape(-1)
        labels, weights = tf.constant(self.labels), self.extras.relative_weights if weighted else None
        weights = None if weights is None else tf.constant(weights)
        stored = self._inputs
        if isinstance(stored, np.memmap) or (isinstance(stored, np.ndarray) and stored.nbytes > _COPIED_BYTES):
            # What TensorFlow calls back it keeps as long as the process; `gather`, which holds the split, only as
            # long as the dataset.
            held, dtype, shape = weakref.ref(stored), stored.dtype, stored.shape[1:]

            def find(index: np.ndarray) -> np.ndarray:
                array = held()  # None where batches are still read ahead that nobody waits for any more
                return np.zeros([len(index), *shape], dtype) if array is None else np.asarray(array[index])

            def read(batch: tf.Tensor) -> tf.Tensor:
                return tf.ensure_shape(tf.numpy_function(find, [batch], dtype), [batch.shape[0], *shape])
        else:
            inputs = tf.convert_to_tensor(stored)

            def read(batch: tf.Tensor) -> tf.Tensor:
                return tf.gather(inputs, batch)

        @tf.autograph.experimental.do_not_convert
        def gather(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            rows = tf.maximum(batch, 0)
            found = read(rows + view * self.count)
            found_labels = tf.where(batch >= 0, tf.gather(labels, rows), -1)
            own = None if weights is None else tf.gather(weights, rows)
            return weigh(found, found_labels, own)

        indices = tf.data.Dataset.from_tensor_slices(order).batch(self.batch_size // share.count, full_batches)
        return indices.map(gather, num_parallel_calls=PARALLEL_CALLS)


def open_split(
    file_patterns: Sequence[str],
    image_size: int,
    batch_size: int,
    *,
    seed: int = 0,
    drop_remainder: bool = False,
    augment: Augment | None = None,
    image_cache: bool = False,
    name: str = "images",
) -> ArraySplit | RecordSplit:
    """Opens one split, in memory if it fits, else unpacked on the disk if that may be and it fits there.

    Args:
        file_patterns: globs of gzipped TFRecord files of transformed Examples.
        image_size: height and width in pixels.
        batch_size: images in a batch, over all replicas.
        seed: of the order and of augmentation.
        drop_remainder: leave out of an epoch what does not fill a batch (where shapes must be static).
        augment: changes the images of an epoch, not those in order.
        image_cache: whether a split that is too large for memory may be unpacked into a temporary file.
        name: of the split, shown while it is unpacked.

    Returns:
        A `Split` of uint8 images [batch, image_size, image_size, 3].

    Raises:
        UserError: the disk turned out to be too small.
    """
    files = sorted(tf.io.gfile.glob(list(file_patterns)))
    extras = read_extras(files)
    found = _read_into_memory(files, image_size)
    if found is None and image_cache and can_unpack(files, image_size):
        found = unpack(files, image_size, name)
    if found is not None:
        return ArraySplit(*found, batch_size, seed=seed, drop_remainder=drop_remainder, augment=augment, extras=extras)
    return RecordSplit(
        files, image_size, batch_size, seed=seed, drop_remainder=drop_remainder, augment=augment, extras=extras
    )


def _read_into_memory(files: Sequence[str], image_size: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns uint8 images [examples, image_size, image_size, 3] and int64 labels [examples], None of too many.

    One copy, and what one batch needs while it is read: the array is made for the most images that may be held, and
    the system gives memory to what is written.
    """
    if sum(tf.io.gfile.stat(file).length for file in files) > MEMORY_BYTES:
        return None
    image_bytes = image_size * image_size * CHANNELS
    images = np.empty([MEMORY_BYTES // image_bytes, image_size, image_size, CHANNELS], np.uint8)
    labels: list[np.ndarray] = [np.zeros(0, np.int64)]
    size = count = 0
    for records in read_records(files).batch(max(1, _READ_BYTES // image_bytes)):
        features = tf.io.parse_example(records, TRANSFORMED_FEATURE_SPEC)
        packed = features[TRANSFORMED_IMAGE_KEY]
        size += int(tf.reduce_sum(tf.strings.length(packed)))
        if size > MEMORY_BYTES:
            return None
        labels.append(features[TRANSFORMED_LABEL_KEY].numpy())
        images[count : count + len(labels[-1])] = unpack_images(packed, image_size)
        count += len(labels[-1])
    return images[:count], np.concatenate(labels)
