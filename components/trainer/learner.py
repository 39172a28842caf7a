"""The steps: how the model learns from a batch in one phase, and how it is judged on one."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from components.trainer.competition import Judged
from components.trainer.mixing import UNMIXED, mix
from components.trainer.noise import StepNoise
from components.trainer.optimizers import average_variables, make_optimizer
from components.trainer.phases import Phase
from components.trainer.settings import ResolvedSettings

HEAD = "head"
DROPOUT = "dropout"
_MOST_CONFUSED_CLASSES = 100

TrainFunction = Callable[..., tf.Tensor]

Forward = Callable[..., tf.Tensor]
"""(inputs [n, ...], training=bool) -> float32 logits [n, classes]."""


def feature_model(model: tf_keras.Model) -> tf_keras.Model:
    """Returns the part of a classifier below dropout and head, with the same layers: images -> features."""
    names = [layer.name for layer in model.layers]
    return tf_keras.Model(model.input, model.get_layer(DROPOUT if DROPOUT in names else HEAD).input, name="features")


class Learner:
    """One phase: its optimizer, and the step that trains."""

    def __init__(
        self,
        model: tf_keras.Model,
        phase: Phase,
        settings: ResolvedSettings,
        noise: StepNoise,
        *,
        reads_features: bool = False,
        forward: Forward | None = None,
        penalty: Callable[[], tf.Tensor] | None = None,
        class_weights: np.ndarray | None = None,
        weighted: bool = False,
    ) -> None:
        """Makes the optimizer's variables, in the scope of the model's strategy.

        Args:
            model: whose blocks are set trainable for the phase.
            phase: what learns, and how fast.
            settings: the optimizer, label smoothing, the average of weights.
            noise: of the model's dropout.
            reads_features: the inputs are outputs of `feature_model` (only where the backbone is frozen).
            forward: maps what the inputs are, where they are not images, to logits; with the model's own layers.
            penalty: gives a scalar that is added to the loss that learns, not to the one that is shown.
            class_weights: float32 [classes], what an example of each class weighs; None weighs all alike.
            weighted: whether examples have weights of their own.
        """
        self.model = model
        self.strategy = model.distribute_strategy
        self._phase, self._settings, self._noise = phase, settings, noise
        self._reads_features, self._class_weights = reads_features, class_weights
        self._forward = forward or (model if phase.blocks else partial(classify, model))
        self._penalty, self._weighted = penalty, weighted
        self.mixes = settings.mixup_alpha > 0 or settings.cutmix_alpha > 0
        self._features = feature_model(model)
        with self.strategy.scope():
            self.optimizer = make_optimizer(model, phase, settings)
        self._averages = average_variables(model, self.optimizer)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside it, the model has the moving averages for weights, if there are any."""
        own = [variable.read_value() for variable, _ in self._averages]
        for variable, average in self._averages:
            variable.assign(average.read_value())
        try:
            yield
        finally:
            for (variable, _), value in zip(self._averages, own, strict=True):
                variable.assign(value)

    def make_train_function(self, batches: Any) -> TrainFunction:
        """Returns the function that does several steps without coming back to the host.

        Args:
            batches: an iterator over batches of the strategy, like those that the function will be given.

        Returns:
            (iterator, number of the first step int64, rates float32 [steps], mixings float32 [steps, 4]) -> float32
            [steps, 3], the sums of each step over all replicas: see `train_step`.
        """
        step_over_replicas = _over_replicas(self.strategy, self.train_step)

        @tf.autograph.experimental.do_not_convert
        def run(batches: Any, first_step: tf.Tensor, rates: tf.Tensor, mixings: tf.Tensor) -> tf.Tensor:
            count = tf.size(rates)

            def do_step(number: tf.Tensor, sums: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
                self.optimizer.learning_rate = rates[number]
                step = first_step + tf.cast(number, tf.int64)
                return number + 1, sums.write(number, step_over_replicas(step, mixings[number], batches.get_next()))

            # One iteration after the other: steps read what the step before wrote.
            _, sums = tf.while_loop(
                lambda number, _: number < count,
                do_step,
                (tf.constant(0), tf.TensorArray(tf.float32, count, element_shape=[3])),
                parallel_iterations=1,
            )
            return sums.stack()

        specs = [batches._type_spec, tf.TensorSpec([], tf.int64), tf.TensorSpec([None]), tf.TensorSpec([None, 4])]
        return tf.function(run, input_signature=specs, autograph=False)

    def train_step(
        self, step: tf.Tensor, mixing: tf.Tensor, inputs: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor
    ) -> tf.Tensor:
        """Learns from a replica's share of a batch.

        Args:
            step: int64 scalar, counted over all phases: seeds dropout.
            mixing: float32 [4], from `components.trainer.mixing.draw_mix`.
            inputs: images, or features, [n, ...].
            labels: int64 [n].
            weights: float32 [n].

        Returns:
            float32 [3]: the sums of weight x loss, weight x (1 where the likeliest class is right), and weight.
        """
        images_per_step = tf.cast(tf.shape(labels)[0] * self.strategy.num_replicas_in_sync, tf.float32)
        frozen = self._phase.blocks == 0
        targets = tf.one_hot(labels, self.model.output_shape[-1])
        if self.mixes and self._weighted:
            inputs, mixed = mix(inputs, tf.concat([targets, weights[:, None]], axis=1), mixing)
            targets, weights = mixed[:, :-1], mixed[:, -1]
        elif self.mixes:
            inputs, targets = mix(inputs, targets, mixing)
        if self._class_weights is not None:
            weights *= tf.linalg.matvec(targets, self._class_weights)
        with self._noise.at(step):
            if frozen and not self._reads_features:
                # In inference, outside of the tape: neither statistics nor gradients of what does not learn.
                inputs = self._features(inputs, training=False)
            with tf.GradientTape() as tape:
                logits = self._forward(inputs, training=True)
                losses = tf.nn.softmax_cross_entropy_with_logits(self._smooth(targets), logits)
                loss = tf.reduce_sum(losses * weights) / images_per_step
                if self._penalty is not None:
                    loss += self._penalty() / self.strategy.num_replicas_in_sync
        variables = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return _sums(losses, tf.argmax(targets, -1), logits, weights)

    def _smooth(self, targets: tf.Tensor) -> tf.Tensor:
        """Returns targets [n, classes] of which a share is spread evenly (Szegedy et al. 2015, section 7)."""
        share = self._settings.label_smoothing
        return targets * (1.0 - share) + share / self.model.output_shape[-1] if share else targets


class Judge:
    """The step that evaluates, the same in all phases."""

    def __init__(self, model: tf_keras.Model, *, reads_features: bool = False, forward: Forward | None = None) -> None:
        """Judges a model; `reads_features` and `forward` as in `Learner`."""
        self._model = model
        self._forward = forward or (partial(classify, model) if reads_features else model)
        self._function: TrainFunction | None = None
        self._logits_function: Callable[..., Any] | None = None
        self.confusion: np.ndarray | None = None
        """Of the last evaluation: float32 [classes, classes], examples by class (row) and answer (column); None where
        there are more than 100 classes."""

    def evaluate(
        self, batches: Any, until: Callable[[], bool] = lambda: False, steps: int | None = None
    ) -> tuple[float, float] | None:
        """Returns the mean cross-entropy in nats, and the accuracy, over all examples that weigh anything.

        Args:
            batches: of the model's strategy; all of one shape.
            until: is asked after each batch; if it says True, the result is None.
            steps: how many of the batches are all examples; None is all.
        """
        if self._function is None:
            step = _over_replicas(self._model.distribute_strategy, lambda _, __, *batch: self.test_step(*batch))
            signature = [tf.TensorSpec([], tf.int64), tf.TensorSpec([4]), batches.element_spec]
            self._function = tf.function(step, input_signature=signature, autograph=False)
        totals: Any = 0.0
        for batch in itertools.islice(batches, steps):
            totals += self._function(tf.constant(0, tf.int64), UNMIXED, batch)
            if until():
                return None
        loss, right, weight = totals[:3].numpy().tolist()
        if self._counts_confusion:
            self.confusion = totals[3:].numpy().reshape([self._model.output_shape[-1]] * 2)
        return (loss / weight, right / weight) if weight else (float("nan"), float("nan"))

    def read_logits(self, batches: Any, steps: int, until: Callable[[], bool] = lambda: False) -> Judged | None:
        """Returns the logits of all examples that weigh anything, in order; arguments as in `evaluate`."""
        strategy = self._model.distribute_strategy

        def forward(inputs: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return self._forward(inputs, training=False), labels, weights

        @tf.autograph.experimental.do_not_convert
        def run(batch: Any) -> Any:
            return strategy.run(forward, args=batch)

        if self._logits_function is None:
            self._logits_function = tf.function(run, input_signature=[batches.element_spec], autograph=False)
        found: list[list[np.ndarray]] = []
        for batch in itertools.islice(batches, steps):
            parts = [strategy.experimental_local_results(values) for values in self._logits_function(batch)]
            found.append([np.concatenate([part.numpy() for part in values]) for values in parts])
            if until():
                return None
        classes = self._model.output_shape[-1]
        if not found:
            return Judged(np.zeros([0, classes]), np.zeros(0, np.int64), np.zeros(0))
        logits, labels, weights = (np.concatenate(values) for values in zip(*found, strict=True))
        counted = weights > 0
        if classes <= _MOST_CONFUSED_CLASSES:
            self.confusion = np.zeros([classes, classes], np.float32)
            np.add.at(self.confusion, (labels[counted], logits[counted].argmax(axis=-1)), 1.0)
        return Judged(logits[counted].astype(np.float64), labels[counted], weights[counted].astype(np.float64))

    def test_step(self, inputs: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """Judges a replica's share of a batch; arguments and result as in `Learner.train_step`, without smoothing.

        The result is followed by the confusion matrix, row by row, where there are few classes.
        """
        logits = self._forward(inputs, training=False)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        sums = _sums(losses, labels, logits, weights)
        if not self._counts_confusion:
            return sums
        classes = logits.shape[-1]
        # As a product, which every device has; `tf.math.confusion_matrix` scatters and asserts.
        rows = tf.one_hot(labels, classes) * weights[:, None]
        counts = tf.matmul(rows, tf.one_hot(tf.argmax(logits, -1), classes), transpose_a=True)
        return tf.concat([sums, tf.reshape(counts, [-1])], axis=0)

    @property
    def _counts_confusion(self) -> bool:
        return self._model.output_shape[-1] <= _MOST_CONFUSED_CLASSES


def classify(model: tf_keras.Model, features: tf.Tensor, *, training: bool = True) -> tf.Tensor:
    """Maps features to logits with the model's own dropout and head."""
    names = [layer.name for layer in model.layers]
    if DROPOUT in names:
        features = model.get_layer(DROPOUT)(features, training=training)
    return model.get_layer(HEAD)(features)


def _sums(losses: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    right = tf.cast(tf.argmax(logits, -1) == labels, tf.float32)
    # A padded example weighs 0, and 0 x inf must not spoil the sum.
    counted = tf.where(weights > 0, losses * weights, tf.zeros_like(losses))
    return tf.stack([tf.reduce_sum(counted), tf.reduce_sum(right * weights), tf.reduce_sum(weights)])


def _over_replicas(strategy: tf.distribute.Strategy, step_function: Callable[..., tf.Tensor]) -> TrainFunction:
    """Returns a step over all replicas, whose results are added up."""

    # AutoGraph has nothing to convert, but knows `keras` as such and not `tf_keras`: it read and rewrote the source
    # of every layer, which took 16 of the 19 s of a first step.
    @tf.autograph.experimental.do_not_convert
    def run(step: tf.Tensor, mixing: tf.Tensor, batch: Any) -> tf.Tensor:
        sums = strategy.run(step_function, args=(step, mixing, *batch))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)

    return run
