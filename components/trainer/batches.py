"""What both kinds of split do with their batches: weights, padding, augmentation, and the share of one host."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

# Parsing gives 56,000 images/s a thread at 32 pixels, so that few threads do.
PARALLEL_CALLS = 4
_PREFETCHED_BATCHES = 4


@dataclass(frozen=True)
class Share:
    """The rows of each batch that one host reads: as many as each other host, in the order of the hosts.

    Attributes:
        number: of the host, from 0.
        count: of the hosts, a divisor of the batch.
    """

    number: int = 0
    count: int = 1

    def take(self, values: tf.Tensor, batch_size: int) -> tf.Tensor:
        """Returns this host's rows of a batch, fewer or none where the batch is not full."""
        rows = batch_size // self.count
        return values if self.count == 1 else values[self.number * rows : (self.number + 1) * rows]

    def draw(self, shape: Sequence[int | tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        """Draws float32 uniform numbers 0..1, of which this host gets its part of what one host would draw.

        Args:
            shape: [..., rows of this host]: the images are the last axis.
            seed: int32 [2].
        """
        drawn = tf.random.stateless_uniform([*shape[:-1], shape[-1] * self.count], seed)
        return drawn[..., self.number * shape[-1] : (self.number + 1) * shape[-1]]


WHOLE = Share()
"""That of the only host."""

Augment = Callable[[tf.Tensor, tf.Tensor, Share], tf.Tensor]
"""(uint8 images [rows, ...], int32 seed [2] of the step, share) -> images of the same shape and type."""


def read_records(files: Sequence[str]) -> tf.data.Dataset:
    """Reads gzipped TFRecord files side by side, in an order that does not depend on their speed."""
    records = tf.data.TFRecordDataset(files, compression_type="GZIP", num_parallel_reads=min(len(files), 8) or None)
    return records.with_options(_make_options())


def weigh(
    inputs: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Adds weights: 1, or the examples' own; or 0 where the label is a class that train does not know."""
    counted = tf.cast(labels >= 0, tf.float32)
    return inputs, tf.maximum(labels, 0), counted if weights is None else counted * weights


def make_augment_step(
    augment: Augment, seed: Sequence[int], first_step: int, share: Share
) -> Callable[..., tuple[tf.Tensor, ...]]:
    """Returns `augment` for numbered batches, each with a seed of its own that follows from `seed` and its step."""
    drawn = np.random.default_rng(list(seed)).integers(0, 2**31, 2).astype(np.int32)

    @tf.autograph.experimental.do_not_convert
    def apply(number: tf.Tensor, batch: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        step_seed = tf.random.experimental.stateless_fold_in(drawn, tf.cast(number, tf.int32) + first_step)
        return augment(batch[0], step_seed, share), *batch[1:]

    return apply


def make_view_step(
    augment: Augment | None, seed: int, view: int | None, share: Share
) -> Callable[..., tuple[tf.Tensor, ...]] | None:
    """Returns `augment` for the numbered batches of a view of examples in order; None where nothing is changed."""
    if view is None or augment is None:
        return None
    return make_augment_step(augment, [seed, view, 3], 0, share)


def finish(batches: tf.data.Dataset, augment: Callable[..., tuple[tf.Tensor, ...]] | None = None) -> tf.data.Dataset:
    """Augments numbered batches, if that is wanted, and reads them ahead of the steps."""
    if augment is not None:
        batches = batches.enumerate().map(lambda number, batch: augment(number, batch), PARALLEL_CALLS)
    return batches.prefetch(_PREFETCHED_BATCHES).with_options(_make_options())


def _make_options() -> tf.data.Options:
    # Autotuning is off, hence the numbers above. Its thread sleeps for up to 10 s, and deleting an iterator, as happens
    # after each epoch, waits for it: epochs of 6.6 s took 10.2 or 20.5 s.
    options = tf.data.Options()
    options.autotune.enabled = False
    options.deterministic = True
    return options
