"""What the frozen blocks below the first one that learns make of each image, computed once for a phase.

The steps on it end in the bits of those on images, in float32 on a CPU.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from components.progress import report_progress
from components.trainer.backbone_layers import iterate_layers
from components.trainer.batches import WHOLE, Augment, Share
from components.trainer.inputs import ArraySplit, Split, distribute
from components.trainer.model import ImageClassifier
from components.trainer.phases import Phase
from components.trainer.prefix import Cut, cut
from components.trainer.room import keep_array, usable_disk_bytes, usable_memory_bytes
from components.trainer.settings import RecipeName, ResolvedSettings
from components.trainer.strategy import is_tpu_strategy, runs_on_cpu

_MEMORY, _DISK = "memory", "disk"

# What must be saved for each byte that is read instead, in multiply-adds. Two cores do about 1e11 a second and copy
# 5e9 bytes, a GPU does 1e13 and more; a disk gives 2e8. VGG16 in float32 at 224 px has 35,000 below the last block,
# 12,000 below the last two and 600 below all but the first. Orders of magnitude: of GPUs and disks none was measured.
# At 128 px (batch 16, roots-3, 2 cores of an EPYC that others shared) a step of one block went from 3.2 to 0.84 s and
# one of two blocks lost 26 to 34 %; by arithmetic 79 and 34 %.
_LEAST_MULTIPLY_ADDS = {(True, _MEMORY): 100, (True, _DISK): 1_000, (False, _MEMORY): 10_000, (False, _DISK): 100_000}

_LEAST_EPOCHS = 2  # the pass that fills the cache costs what it saves in each epoch


class PrefixCache:
    """Rows of splits, see `prefix.Cut`, and what maps them to logits."""

    def __init__(self, model: ImageClassifier, cut: Cut, place: str, recipe: RecipeName = "manual") -> None:
        """Computes with a model's present weights, in its precision and on its devices.

        Args:
            model: whose frozen layers stay what they are as long as the rows are used.
            cut: of the model.
            place: `memory`, or `disk`: a file without a name, which ends with the array.
            recipe: tells what a user can do where the disk is full: only `manual` may go without the cache.
        """
        self._recipe = recipe
        self._strategy, self._cut, self._place = model.distribute_strategy, cut, place
        self._functions: dict[Any, Any] = {}

    def forward(self, rows: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Maps rows to logits: for `Learner` and `Judge`."""
        return self._cut.read_rows(rows, training)

    def features(self, rows: tf.Tensor) -> tf.Tensor:
        """Maps rows to what the head reads, in inference."""
        return self._cut.read_features(rows)

    def compute(
        self, split: Split, name: str, until: Callable[[], bool] = lambda: False, augment: Augment | None = None
    ) -> "PrefixSplit | None":
        """Returns a split whose inputs are the rows of another one's images, in the same order.

        Args:
            split: of images, on one host.
            name: of the split, shown while it is computed.
            until: is asked after each batch; if it says True, the result is None.
            augment: changes the images; None leaves them alone.

        Raises:
            UserError: the disk has turned out to be too small.
        """
        labels: list[np.ndarray] = []
        done = 0
        shape = (split.count, self._cut.row_bytes)
        way_out = "trainer.feature_cache to off" if self._recipe == "manual" else "trainer.fine_tune_epochs to 0"
        with tempfile.TemporaryFile(prefix="prefix-", buffering=0) as file:
            stored = np.empty(shape, np.uint8) if self._place == _MEMORY else None
            read = split.in_order if augment is None else partial(split.in_order, view=1, augment=augment)
            for rows, batch_labels, weights in self._run(read):
                kept = rows[: split.count - done]  # the rest fills the last batch
                if stored is None:
                    keep_array(file, kept, "what the frozen blocks make of images", way_out)
                else:
                    stored[done : done + len(kept)] = kept
                labels.append(np.where(weights > 0, batch_labels, -1)[: len(kept)])
                done += len(kept)
                report_progress(f"computing frozen blocks of {name}", completed=done, total=split.count)
                if until():
                    return None
            if stored is None:
                stored = np.memmap(file, np.uint8, "r", shape=shape)
        return PrefixSplit(stored, np.concatenate(labels), split, self.compute_rest)

    def compute_rest(self, split: Split, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns rows, labels and weights of the last batch of an epoch, which is not full."""
        steps = split.count // split.batch_size
        (rows, labels, weights), *_ = self._run(partial(split.epoch, epoch, steps))
        return rows, labels, weights

    def _run(self, read: Callable[[Share], tf.data.Dataset]) -> Iterator[tuple[np.ndarray, ...]]:
        """Yields rows [n, bytes], labels [n] and weights [n] of batches of images."""

        def forward(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return self._cut.read_images(images), labels, weights

        @tf.autograph.experimental.do_not_convert
        def run(batch: Any) -> Any:
            return self._strategy.run(forward, args=batch)

        batches = distribute(self._strategy, read)
        spec = batches.element_spec
        function = self._functions.setdefault(str(spec), tf.function(run, input_signature=[spec], autograph=False))
        for batch in batches:
            parts = [self._strategy.experimental_local_results(values) for values in function(batch)]
            yield tuple(np.concatenate([part.numpy() for part in values]) for values in parts)


class PrefixSplit(ArraySplit):
    """Rows in the order of a split of images."""

    def __init__(
        self,
        rows: np.ndarray,
        labels: np.ndarray,
        images: Split,
        compute_rest: Callable[[Split, int], tuple[np.ndarray, np.ndarray, np.ndarray]],
    ) -> None:
        """Holds the rows, uint8 [examples, bytes], and what they were computed from.

        Args:
            rows: in the order of the images.
            labels: int64 [examples]; -1 weighs nothing.
            images: of which rows were computed in full batches.
            compute_rest: (images, epoch) -> the last batch of an epoch, computed as the batch that it is.
        """
        super().__init__(
            rows,
            labels,
            images.batch_size,
            seed=images.seed,
            drop_remainder=images.drop_remainder,
            extras=images.extras,
        )
        self.rows = rows
        self._images, self._compute_rest = images, compute_rest
        self._rest_differs: bool | None = None

    def epoch(self, epoch: int, first_step: int = 0, share: Share = WHOLE) -> tf.data.Dataset:
        """See `Split`.

        oneDNN chooses its routine by the size of a batch, too: of VGG16's maps in float32 those of 2, 5 or 8 images
        differed by 1e-6 from those of the same images among 16 (2 cores of an EPYC), those of 1, 3, 4, 7, 12 and 15
        not. Where an epoch ends with such a batch, that is computed anew, as the step on images would.
        """
        batches = super().epoch(epoch, first_step, share)
        full_steps = self.count // self.batch_size
        if self.drop_remainder or not self.count % self.batch_size:
            return batches
        if self._rest_differs is False:
            return batches
        rest = self._compute_rest(self._images, epoch)
        if self._rest_differs is None:
            stored = next(iter(super().epoch(epoch, full_steps, share)))[0]
            self._rest_differs = not np.array_equal(stored, rest[0])
        return batches.take(full_steps - first_step).concatenate(tf.data.Dataset.from_tensors(rest))


def join_views(views: Sequence[PrefixSplit]) -> ArraySplit:
    """Returns a split of several versions of the same images, of which the epochs take turns; one stays as it is."""
    first = views[0]
    if len(views) == 1:
        return first
    return ArraySplit(
        np.concatenate([view.rows for view in views]),
        first.labels,
        first.batch_size,
        seed=first.seed,
        drop_remainder=first.drop_remainder,
        views=len(views),
        extras=first.extras,
    )


def plan_prefix_cache(
    phase: Phase,
    settings: ResolvedSettings,
    train_split: Split,
    eval_split: Split,
    model: ImageClassifier,
    done_epochs: int = 0,
    views: int = 0,
) -> PrefixCache | None:
    """Tells whether, and where, to keep what the frozen blocks make of the images of a phase.

    Not on a TPU, so that preflight judges the step that trains. Not where train is read record by record, whose order
    is another than that of rows, nor where BatchNorm's statistics are learned.

    Args:
        phase: whose last blocks learn.
        settings: `feature_cache` and mixing.
        train_split: of images.
        eval_split: the same.
        model: whose blocks below those of the phase are frozen.
        done_epochs: of the phase, by a run that was killed.
        views: changed versions of train that are kept, too.

    Returns:
        None where each epoch sees other images, or where it would not be faster or find no room.
    """
    strategy = model.distribute_strategy
    learns_statistics = model.learn_statistics and any(
        isinstance(layer, tf_keras.layers.BatchNormalization) for layer in iterate_layers(model)
    )
    if (
        settings.feature_cache == "off"
        or phase.epochs - done_epochs < _LEAST_EPOCHS
        or train_split.augmented
        or settings.mixup_alpha
        or settings.cutmix_alpha
        or learns_statistics
        or is_tpu_strategy(strategy)
        or isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        or not isinstance(train_split, ArraySplit)
        or (parts := cut(model, phase.blocks)) is None
    ):
        return None
    size = parts.row_bytes * ((1 + views) * train_split.count + eval_split.count)
    if size <= usable_memory_bytes():
        place = _MEMORY
    elif size <= usable_disk_bytes():
        place = _DISK
    else:
        return None
    least = _LEAST_MULTIPLY_ADDS[runs_on_cpu(strategy), place]
    return PrefixCache(model, parts, place, settings.recipe) if parts.multiply_adds >= least * parts.row_bytes else None
