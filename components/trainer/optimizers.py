"""Keras's optimizers, with a rate of its own for each layer where that is wanted."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from components.trainer.model import ImageClassifier, backbone_blocks
from components.trainer.phases import Phase
from components.trainer.settings import ResolvedSettings


class _RateByVariable:
    """Scales the rate, and so the update and the decoupled weight decay, of each variable by a factor.

    Not the gradient: Adam divides by the gradient's own size, so that a scaled gradient gives the same update.
    """

    factors: Mapping[str, float] = {}
    """By the optimizer's key of the variable; 1 where it is missing."""
    _factor = 1.0

    @property
    def learning_rate(self) -> Any:
        """The rate of the variable that is being updated; outside of an update, the rate itself."""
        rate = self._learning_rate  # type: ignore[attr-defined]
        return rate if self._factor == 1.0 else rate * self._factor

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self._learning_rate.assign(value)  # type: ignore[attr-defined]

    def _update_step(self, gradient: Any, variable: Any) -> None:
        self._factor = self.factors.get(self._var_key(variable), 1.0)  # type: ignore[attr-defined]
        super()._update_step(gradient, variable)  # type: ignore[misc]
        self._factor = 1.0

    def _use_weight_decay(self, variable: Any) -> bool:
        # Keras asks this right before it reads the rate for the variable's decay.
        self._factor = self.factors.get(self._var_key(variable), 1.0)  # type: ignore[attr-defined]
        used = super()._use_weight_decay(variable)  # type: ignore[misc]
        if not used:
            self._factor = 1.0
        return used

    def _apply_weight_decay(self, variables: Any) -> None:
        super()._apply_weight_decay(variables)  # type: ignore[misc]
        self._factor = 1.0


class _OnePass:
    """Adam's update as TensorFlow's one kernel, the same formula: Keras's eight operations each go through memory."""

    def update_step(self, gradient: tf.Tensor, variable: Any) -> None:
        rate = tf.cast(self.learning_rate, variable.dtype)  # type: ignore[attr-defined]
        beta_1 = tf.cast(self.beta_1, variable.dtype)  # type: ignore[attr-defined]
        beta_2 = tf.cast(self.beta_2, variable.dtype)  # type: ignore[attr-defined]
        step = tf.cast(self.iterations + 1, variable.dtype)  # type: ignore[attr-defined]
        index = self._index_dict[self._var_key(variable)]  # type: ignore[attr-defined]
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].handle,  # type: ignore[attr-defined]
            v=self._velocities[index].handle,  # type: ignore[attr-defined]
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=rate,
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.cast(self.epsilon, variable.dtype),  # type: ignore[attr-defined]
            grad=gradient,
        )


class _Adam(_RateByVariable, _OnePass, tf_keras.optimizers.Adam):
    pass


class _AdamW(_RateByVariable, _OnePass, tf_keras.optimizers.AdamW):
    pass


class _Sgd(_RateByVariable, tf_keras.optimizers.SGD):
    pass


def make_optimizer(model: ImageClassifier, phase: Phase, settings: ResolvedSettings) -> tf_keras.optimizers.Optimizer:
    """Builds a phase's optimizer for the variables of a model that learn now; call it in the strategy's scope.

    Biases and the parameters of norms do not decay (He et al. 2018, "Bag of tricks", section 3.1).

    Args:
        model: whose blocks are set trainable for the phase.
        phase: its rate.
        settings: the optimizer, its decay, clipping and average.
    """
    shared: dict[str, Any] = {
        "global_clipnorm": settings.gradient_clip_norm,
        "use_ema": settings.ema_momentum is not None,
        # XLA compiles the update for seconds on a CPU and gains nothing there; Keras's default is to let it.
        "jit_compile": False,
    }
    if settings.ema_momentum is not None:
        shared["ema_momentum"] = settings.ema_momentum
    if settings.optimizer == "adamw":
        optimizer = _AdamW(phase.learning_rate, weight_decay=settings.weight_decay, **shared)
    elif settings.optimizer == "adam":
        optimizer = _Adam(phase.learning_rate, **shared)
    else:
        optimizer = _Sgd(
            phase.learning_rate, momentum=0.9, nesterov=True, weight_decay=settings.weight_decay or None, **shared
        )
    variables = model.trainable_variables
    optimizer.exclude_from_weight_decay(var_list=[variable for variable in variables if len(variable.shape) < 2])
    depths = layer_depths(model)
    optimizer.factors = {
        optimizer._var_key(variable): settings.layer_decay ** depths.get(variable.ref(), 0) for variable in variables
    }
    # A step that has to make the optimizer's variables is traced twice, for seconds each time.
    optimizer.build(variables)
    return optimizer


def layer_depths(model: ImageClassifier) -> dict[Any, int]:
    """Returns how many blocks of the backbone lie between each of its learning variables and the head.

    By `variable.ref()`: 1 in the last block, 2 in the one before; the head's are not in it.
    """
    return {
        variable.ref(): depth
        for depth, layers in enumerate(reversed(backbone_blocks(model)), start=1)
        for layer in layers
        for variable in layer.trainable_variables
    }


def average_variables(
    model: tf_keras.Model, optimizer: tf_keras.optimizers.Optimizer
) -> list[tuple[tf.Variable, tf.Variable]]:
    """Returns pairs (learning variable, its moving average); none where the optimizer keeps no averages."""
    if not optimizer.use_ema:
        return []
    return list(zip(model.trainable_variables, optimizer._model_variables_moving_average, strict=True))
