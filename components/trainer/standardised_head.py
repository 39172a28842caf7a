"""A head that learns step by step on standardised features, where a solver would need too much memory.

On the features as they are it would not get far: of VGG16's the mean is 2.4 and the largest 102.
"""

import itertools
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from components.trainer.inputs import Split, distribute
from components.trainer.learner import Forward, classify, feature_model
from components.trainer.model import ImageClassifier
from components.trainer.solving import read_head, set_head
from components.trainer.standardisation import Standardisation, standardise_by_moments


class StandardisedHead:
    """The head of a model, which reads standardised features until it is folded."""

    def __init__(self, model: ImageClassifier, split: Split, *, reads_features: bool) -> None:
        """Measures mean and deviation of train's features, in one pass over all its hosts.

        Args:
            model: whose backbone is frozen.
            split: train, of images or of features.
            reads_features: whether it is of features.
        """
        self._model, self._reads_features = model, reads_features
        self._features = partial(feature_model(model), training=False)
        self.standardisation = self._measure(split)
        self._mean = tf.constant(self.standardisation.mean, tf.float32)
        self._scale = tf.constant(self.standardisation.scale, tf.float32)

    def forward(self, features: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Maps features to logits: for `Learner`."""
        rows = (tf.cast(features, tf.float32) - self._mean) * self._scale
        return classify(self._model, rows, training=training)

    @property
    def judge_forward(self) -> Forward:
        """Maps what eval holds, features or images, to logits: for `Judge`."""
        if self._reads_features:
            return self.forward
        return lambda images, training: self.forward(self._features(images), training=training)

    def fold(self) -> None:
        """Gives the model the head that reads features as they are."""
        set_head(self._model, self.standardisation.fold(read_head(self._model)))

    def _measure(self, split: Split) -> Standardisation:
        strategy = self._model.distribute_strategy

        def add(inputs: tf.Tensor, _: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
            rows = tf.cast(inputs if self._reads_features else self._features(inputs), tf.float32)
            return tf.stack(
                [
                    tf.linalg.matvec(rows, weights, transpose_a=True),
                    tf.linalg.matvec(rows * rows, weights, transpose_a=True),
                    tf.fill([rows.shape[-1]], tf.reduce_sum(weights)),
                ]
            )

        @tf.autograph.experimental.do_not_convert
        def run(batch: Any) -> tf.Tensor:
            return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(add, args=batch), axis=None)

        batches = distribute(strategy, split.in_order)
        function = tf.function(run, input_signature=[batches.element_spec], autograph=False)
        steps = -(-split.count // split.batch_size)
        # Of a few hundred images each in float32, and then in float64: millions do not lose their small ones.
        sums, squares, count = sum(
            (function(batch).numpy().astype(np.float64) for batch in itertools.islice(batches, steps)),
            np.zeros([3, 1]),
        )
        return standardise_by_moments(sums / count, squares / count)
