"""A head that learns step by step on standardised features, where a solver would need too much memory.

On the features as they are it would not get far: of VGG16's the mean is 2.4 and the largest 102. It minimises what the
solver does, mean cross-entropy plus an L2 penalty on features of which each depth has the total variance 1.
"""

import itertools
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from components.trainer.inputs import Split, distribute
from components.trainer.learner import Forward, classify, feature_model
from components.trainer.logistic_regression import Head
from components.trainer.model import ImageClassifier
from components.trainer.settings import ResolvedSettings
from components.trainer.solving import depths_of, read_head, set_head
from components.trainer.standardisation import Standardisation, standardise_by_moments

_STRONGEST, _STRENGTH = 1e-4, 6.7e-3


def penalty_strength(images: int) -> float:
    """Returns the strength of the penalty for so many images of train: nothing is tried, as each try is a training.

    VGG16 at roots-3, log loss on other images, strengths 3e-5 to 1e-2: five sets of 160 to 613 photographs at 128 px
    were best at 1e-4 or 3e-5, and at 1e-4 within 0.01 of that; CIFAR-10 was best at 3e-4 with 500 images (1.168; 1.215
    at 1e-4), as good at 1e-4 with 2,000, and with 8,000 better below it (0.768; 0.761 at 7.5e-5).
    """
    return min(_STRONGEST, _STRENGTH / max(1, images) ** 0.5)


def settings_of_steps(settings: ResolvedSettings) -> ResolvedSettings:
    """Returns settings with which a standardised head learns: what is set for blocks would only lead it astray."""
    own = {"optimizer": "adam", "weight_decay": 0.0, "gradient_clip_norm": None, "ema_momentum": None}
    return settings.model_copy(update=own)


class StandardisedHead:
    """The head of a model, which reads standardised features until it is folded."""

    def __init__(self, model: ImageClassifier, split: Split, *, reads_features: bool) -> None:
        """Measures mean and deviation of train's features, in one pass over all its hosts.

        The model's head becomes one on standardised features that answers as before; the penalty draws it there: to 0,
        or to a base's rows.

        Args:
            model: whose backbone is frozen, and whose head is what training starts from, not what a checkpoint holds.
            split: train, of images or of features.
            reads_features: whether it is of features.
        """
        self._model, self._reads_features = model, reads_features
        self._features = partial(feature_model(model), training=False)
        self.standardisation, images = self._measure(split)
        self._mean = tf.constant(self.standardisation.mean, tf.float32)
        self._scale = tf.constant(self.standardisation.scale, tf.float32)
        head = read_head(model)
        kernel = self.standardisation.unfold(head.kernel)
        set_head(model, Head(kernel, head.bias + self.standardisation.mean @ head.kernel))
        self._centre = tf.constant(kernel, tf.float32)
        self._strength = penalty_strength(images)

    def forward(self, features: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Maps features to logits: for `Learner`."""
        rows = (tf.cast(features, tf.float32) - self._mean) * self._scale
        return classify(self._model, rows, training=training)

    def penalty(self) -> tf.Tensor:
        """Returns what the loss is more than the mean cross-entropy, a float32 scalar: for `Learner`."""
        distance = self._model.get_layer("head").kernel - self._centre
        return 0.5 * self._strength * tf.reduce_sum(distance * distance)

    @property
    def judge_forward(self) -> Forward:
        """Maps what eval holds, features or images, to logits: for `Judge`."""
        if self._reads_features:
            return self.forward
        return lambda images, training: self.forward(self._features(images), training=training)

    def fold(self) -> None:
        """Gives the model the head that reads features as they are."""
        set_head(self._model, self.standardisation.fold(read_head(self._model)))

    def _measure(self, split: Split) -> tuple[Standardisation, int]:
        """Returns what standardises the features, and how many images there are."""
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

        batches = distribute(strategy, partial(split.in_order, weighted=True))
        function = tf.function(run, input_signature=[batches.element_spec], autograph=False)
        steps = -(-split.count // split.batch_size)
        # Of a few hundred images each in float32, and then in float64: millions do not lose their small ones.
        sums, squares, count = sum(
            (function(batch).numpy().astype(np.float64) for batch in itertools.islice(batches, steps)),
            np.zeros([3, 1]),
        )
        return standardise_by_moments(sums / count, squares / count, depths_of(self._model)), round(count[0])
