"""The gradient of convolutions' kernels, tap by tap."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from components.trainer.kernel_gradient import differentiate_kernel, speed_up_kernel_gradients
from components.trainer.model import ImageClassifier, make_model


def gradients(model: ImageClassifier) -> dict[str, np.ndarray]:
    """Returns the gradients of a loss by variable, of weights that are the same in each model of a backbone."""
    random = np.random.default_rng(1)
    model.set_weights(
        [
            random.normal(0, np.sqrt(2 / max(1, np.prod(w.shape[:-1]))), w.shape) if w.ndim > 1 else w
            for w in model.get_weights()
        ]
    )
    images = np.random.default_rng(0).integers(0, 256, [4, 32, 32, 3], np.uint8)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images, training=True) ** 2)
    found = tape.gradient(loss, model.trainable_variables)
    return {v.name: g.numpy() for v, g in zip(model.trainable_variables, found, strict=True)}


@pytest.mark.parametrize("kernel", [(3, 3), (5, 3), (3, 1)])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (4, 7), (8, 8)])
def test_kernel_gradient_is_tensorflows_own(kernel: tuple[int, int], size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    inputs = tf.constant(random.normal(size=[3, *size, 6]), tf.float64)
    upstream = tf.constant(random.normal(size=[3, *size, 5]), tf.float64)
    weights = tf.Variable(random.normal(size=[*kernel, 6, 5]))
    with tf.GradientTape() as tape:
        outputs = tf.nn.conv2d(inputs, weights, 1, "SAME")
    expected = tape.gradient(outputs, weights, output_gradients=upstream)
    # In float64, where another order of the sums changes the last digits of 16 alone.
    np.testing.assert_allclose(differentiate_kernel(inputs, upstream, weights.shape), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backbone", ["vgg16", pytest.param("efficientnetv2-b0", marks=pytest.mark.slow)])
def test_training_gradients_are_as_exact_as_before(backbone: str) -> None:
    exact = gradients(make_model(10, 32, 0.0, "float32", backbone))
    model, errors = make_model(10, 32, 0.0, "bfloat16", backbone), []
    for changed in (False, True):
        if changed:
            speed_up_kernel_gradients(model)
        found = gradients(model)
        errors.append([np.linalg.norm(found[name] - exact[name]) / np.linalg.norm(exact[name]) for name in exact])
    # bfloat16 rounds all values that the gradients go through, in both: one may be a little luckier.
    assert np.mean(errors[1]) <= 1.1 * np.mean(errors[0])


def changed_layers(model: tf_keras.Model) -> list[str]:
    layers = model._flatten_layers(include_self=False, recursive=True)
    return [layer.name for layer in layers if "convolution_op" in vars(layer)]


def test_small_maps_in_bfloat16_alone_are_changed() -> None:
    model = make_model(10, 32, 0.0, "bfloat16")
    speed_up_kernel_gradients(model)
    assert changed_layers(model) == [f"block{block}_conv{conv}" for block in (3, 4, 5) for conv in (1, 2, 3)]
    model = make_model(10, 32, 0.0, "float32")
    speed_up_kernel_gradients(model)
    assert changed_layers(model) == []


def test_strides_and_pointwise_kernels_are_left_alone() -> None:
    inputs = tf_keras.Input([8, 8, 4])
    x = tf_keras.layers.Conv2D(4, 3, strides=2, padding="same", dtype="mixed_bfloat16")(inputs)
    x = tf_keras.layers.Conv2D(4, 1, padding="same", dtype="mixed_bfloat16")(x)
    x = tf_keras.layers.Conv2D(4, 3, padding="valid", dtype="mixed_bfloat16")(x)
    model = tf_keras.Model(inputs, x)
    speed_up_kernel_gradients(model)
    assert changed_layers(model) == []
