"""Dropout whose masks follow from the seed and the step, and from nothing that a killed process would lose."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import tensorflow as tf
import tf_keras


class StepNoise:
    """Replaces what Keras's dropout layers of a model draw, in every replica its own part of one global mask."""

    def __init__(self, model: tf_keras.Model, seed: int) -> None:
        """Takes over the layers `Dropout`, also in models within the model.

        Nothing else draws: Keras builds ConvNeXt-Tiny without stochastic depth, and EfficientNetV2's has the rate 0
        here, so that no mask has a shape of its own either.
        """
        self._seed = seed
        self._step_seed: tf.Tensor | None = None
        layers = model._flatten_layers(include_self=False, recursive=True)
        dropouts = [layer for layer in layers if isinstance(layer, tf_keras.layers.Dropout)]
        for number, layer in enumerate(dropouts):
            layer.call = partial(self._drop, layer, number)

    @contextmanager
    def at(self, step: tf.Tensor) -> Iterator[None]:
        """Inside it, training calls of the model draw the noise of this step (int64 scalar, may be symbolic)."""
        seed = tf.constant([self._seed % 2**31, self._seed // 2**31], tf.int32)
        self._step_seed = tf.random.experimental.stateless_fold_in(seed, step)
        try:
            yield
        finally:
            self._step_seed = None

    def _drop(self, layer: Any, number: int, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Stands in for the layer's `call`."""
        if not training or not layer.rate:
            return tf.identity(inputs)
        assert self._step_seed is not None, "a training call outside of StepNoise.at"
        seed = tf.random.experimental.stateless_fold_in(self._step_seed, number)
        keep = draw_for_replica(tf.unstack(tf.shape(inputs)), seed) >= layer.rate
        return tf.where(keep, inputs / tf.cast(1.0 - layer.rate, inputs.dtype), tf.zeros([], inputs.dtype))


def draw_for_replica(shape: Sequence[Any], seed: tf.Tensor) -> tf.Tensor:
    """Draws float32 uniform numbers [batch, ...] in 0..1: this replica's rows of what one device would draw.

    Args:
        shape: of the replica's part; the same in every replica.
        seed: int32 [2].
    """
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync if context is not None else 1
    if replicas == 1:
        return tf.random.stateless_uniform(shape, seed)
    assert context is not None
    drawn = tf.random.stateless_uniform([shape[0] * replicas, *shape[1:]], seed)
    start = tf.cast(context.replica_id_in_sync_group, tf.int32) * shape[0]
    return tf.slice(drawn, [start] + [0] * (len(shape) - 1), shape)
