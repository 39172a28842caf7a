"""A split that is larger than memory, read from its files in each epoch."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from components.progress import report_progress
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
from components.trainer.extras import NO_EXTRAS, Extras
from components.transform.features import (
    EXTRA_FEATURE_SPEC,
    TRANSFORMED_FEATURE_SPEC,
    TRANSFORMED_IMAGE_KEY,
    TRANSFORMED_LABEL_KEY,
    TRANSFORMED_WEIGHT_KEY,
    unpack_images,
)

# Packed bytes, so that memory does not grow with the data or the image size.
_SHUFFLE_BYTES = 256 * 2**20
_READ_RECORDS = 64


class RecordSplit:
    """A split too large for memory: files in another order each epoch, and a shuffle buffer over their records.

    Each host reads all records, for a gzipped file has no middle to start from, but parses its own share alone.
    """

    def __init__(
        self,
        files: Sequence[str],
        image_size: int,
        batch_size: int,
        *,
        seed: int = 0,
        drop_remainder: bool = False,
        augment: Augment | None = None,
        extras: Extras = NO_EXTRAS,
    ) -> None:
        """Reads nothing yet; arguments as in `open_split`."""
        self.batch_size = batch_size
        self._files, self._image_size = sorted(files), image_size
        self.seed, self.drop_remainder, self._augment = seed, drop_remainder, augment
        self.extras = extras
        self._labels: np.ndarray | None = None

    @property
    def augmented(self) -> bool:
        """See `Split`."""
        return self._augment is not None

    @property
    def count(self) -> int:
        """See `Split`; the first question reads all records."""
        return len(self.labels)

    def epoch(self, epoch: int, first_step: int = 0, share: Share = WHOLE) -> tf.data.Dataset:
        """See `Split`. The records before `first_step` are read again, but not parsed."""
        random = np.random.default_rng([self.seed, epoch])
        records = read_records([self._files[number] for number in random.permutation(len(self._files))])
        buffer_size = max(_SHUFFLE_BYTES // (self._image_size**2 * 3), 1000)
        records = records.shuffle(buffer_size, seed=int(random.integers(1, 2**62)), reshuffle_each_iteration=False)
        batches = self._parse(
            records.batch(self.batch_size, self.drop_remainder).skip(first_step), share, weighted=True
        )
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
        batches = self._parse(read_records(self._files).batch(self.batch_size), share, weighted=weighted)
        step = make_view_step(augment or self._augment, self.seed, view, share)
        return finish(_pad(batches, self.batch_size // share.count), step)

    def count_labels(self, class_count: int) -> np.ndarray:
        """See `Split`; the first question reads all records."""
        return np.bincount(self.labels[self.labels >= 0], minlength=class_count)

    @property
    def labels(self) -> np.ndarray:
        """See `Split`; the first question reads all records."""
        if self._labels is None:
            spec = {TRANSFORMED_LABEL_KEY: TRANSFORMED_FEATURE_SPEC[TRANSFORMED_LABEL_KEY]}
            found = [np.zeros(0, np.int64)]
            done = 0
            for records in read_records(self._files).batch(_READ_RECORDS):
                found.append(tf.io.parse_example(records, spec)[TRANSFORMED_LABEL_KEY].numpy())
                done += len(found[-1])
                report_progress("counting images", completed=done)
            self._labels = np.concatenate(found)
        return self._labels

    def _parse(self, batches: tf.data.Dataset, share: Share, *, weighted: bool) -> tf.data.Dataset:
        mean = self.extras.weights.mean(dtype=np.float64) if weighted and self.extras.weights is not None else None
        spec = TRANSFORMED_FEATURE_SPEC if mean is None else {**TRANSFORMED_FEATURE_SPEC, **EXTRA_FEATURE_SPEC}

        @tf.autograph.experimental.do_not_convert
        def parse(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            features = tf.io.parse_example(share.take(records, self.batch_size), spec)
            images = unpack_images(features[TRANSFORMED_IMAGE_KEY], self._image_size)
            own = None if mean is None else features[TRANSFORMED_WEIGHT_KEY] / tf.constant(mean, tf.float32)
            return weigh(images, features[TRANSFORMED_LABEL_KEY], own)

        return batches.map(parse, num_parallel_calls=PARALLEL_CALLS)


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
