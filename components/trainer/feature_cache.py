"""The outputs of a frozen backbone, computed once: the head then trains on them at a small share of the price."""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from components.progress import report_progress
from components.trainer.extras import known_extras
from components.trainer.feature_store import FeatureStore
from components.trainer.inputs import ArraySplit, Split, distribute
from components.trainer.learner import feature_model
from components.trainer.phases import Phase
from components.trainer.room import keep_array
from components.trainer.settings import RecipeName, ResolvedSettings

_MEMORY_BYTES = 2**30


def can_cache_features(phase: Phase, settings: ResolvedSettings, split: Split, model: tf_keras.Model) -> bool:
    """Tells whether the features of a phase are the same in each of its epochs, or in turns, and worth keeping.

    A standardised head reads those of the images as they are, as a solved one does; on several hosts, each keeps those
    that all have computed.
    """
    strategy = model.distribute_strategy
    several_workers = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    several_tpu_hosts = isinstance(strategy, tf.distribute.TPUStrategy) and strategy.extended.num_hosts > 1
    if settings.feature_cache == "off" or phase.blocks or several_tpu_hosts:
        return False
    if settings.head == "standardised":
        return True
    return (
        phase.epochs > 1
        and (settings.feature_cache_views > 0 or not split.augmented)
        and not settings.mixup_alpha
        and not settings.cutmix_alpha
        and not several_workers
    )


class FeatureCache:
    """Features of splits, in memory as far as they fit, else in a file without a name, which ends with the array."""

    def __init__(self, model: tf_keras.Model, recipe: RecipeName = "manual", store: FeatureStore | None = None) -> None:
        """Computes with a model's present weights, in its precision and on its devices.

        Args:
            model: whose backbone is frozen.
            recipe: tells what a user can do where the disk is full: only `manual` may go without the cache.
            store: computes those of images that nothing changes, and keeps them over a kill; None keeps nothing.
        """
        self._model, self._store = model, store
        self._way_out = f"{'' if recipe == 'manual' else 'trainer.recipe to manual and '}trainer.feature_cache to off"
        self._strategy = model.distribute_strategy
        self._features = feature_model(model)
        self._several_workers = isinstance(self._strategy, tf.distribute.MultiWorkerMirroredStrategy)

    def compute(
        self, split: Split, name: str, views: int = 0, until: Callable[[], bool] = lambda: False
    ) -> ArraySplit | None:
        """Returns a split whose inputs are the features of another one, in the same order.

        Args:
            split: of images.
            name: of the split, shown while it is computed.
            views: of so many augmented versions of each image, for the epochs in turns; 0 is of the images themselves.
            until: is asked after each batch; if it says True, the result is None. Several workers compute to the end:
                one that stopped would leave the others waiting.

        Raises:
            UserError: they fit neither into the memory set aside for them nor on the disk.
        """
        found = self._batches(split, name, views)
        if self._store is not None and not views:
            found = self._store.chunks(self._model, split, name, until=until)
        chunks: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        size = done = 0
        with tempfile.TemporaryFile(prefix="features-", buffering=0) as file:
            for part in found:
                if part is None:
                    return None
                features, part_labels = part
                labels.append(part_labels)
                done += len(part_labels)
                chunks.append(features)
                size += features.nbytes
                if size > _MEMORY_BYTES:
                    for chunk in chunks:
                        keep_array(file, chunk, "the features of the frozen backbone", self._way_out)
                    chunks = []
                if not self._several_workers and until():
                    return None
            stored: np.ndarray
            if size > _MEMORY_BYTES:
                stored = np.memmap(file, features.dtype, "r", shape=(done, *features.shape[1:]))
            else:
                stored = np.concatenate(chunks or [np.zeros([0, *self._features.output_shape[1:]], np.float32)])
        all_labels = np.concatenate(labels)[: done // max(1, views)] if labels else np.zeros(0, np.int64)
        return ArraySplit(
            stored,
            all_labels,
            split.batch_size,
            seed=split.seed,
            drop_remainder=split.drop_remainder,
            views=max(1, views),
            extras=known_extras(split),
        )

    def _batches(self, split: Split, name: str, views: int) -> Iterator[tuple[np.ndarray, np.ndarray] | None]:
        """Yields features [n, ...] and labels [n] of all examples that weigh anything: not what pads a batch."""

        def forward(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, ...]:
            features = self._features(images, training=False)
            # Workers send each other no bfloat16.
            return tf.cast(features, tf.float32) if self._several_workers else features, labels, weights

        @tf.autograph.experimental.do_not_convert
        def run(batch: Any) -> Any:
            computed = self._strategy.run(forward, args=batch)
            return [self._strategy.gather(values, axis=0) for values in computed] if self._several_workers else computed

        function: Any = None
        done = 0
        for view in range(max(1, views)):
            batches = distribute(self._strategy, partial(split.in_order, view=view if views else None))
            function = function or tf.function(run, input_signature=[batches.element_spec], autograph=False)
            for batch in itertools.islice(batches, -(-split.count // split.batch_size)):
                parts = [self._strategy.experimental_local_results(values) for values in function(batch)]
                features, labels, weights = (np.concatenate([part.numpy() for part in values]) for values in parts)
                done += int((weights > 0).sum())
                report_progress(f"computing features of {name}", completed=done, total=max(1, views) * split.count)
                yield features[weights > 0], labels[weights > 0]
