"""Each setting of the optimizer and the loss does what it says, step by step."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from components.trainer import optimizers
from components.trainer.class_weights import balance_classes
from components.trainer.learner import Learner
from components.trainer.mixing import UNMIXED
from components.trainer.model import ImageClassifier, set_trainable_blocks
from components.trainer.noise import StepNoise
from components.trainer.optimizers import layer_depths
from components.trainer.phases import Phase
from tests.tiny_training import make_model, make_points, make_settings

RATE = 0.01


def do_steps(
    count: int = 1, blocks: int = 5, class_weights: np.ndarray | None = None, **values: Any
) -> tuple[ImageClassifier, dict[str, np.ndarray], list[Any], Learner]:
    """Returns the model after some steps, how far each variable went, the sums of the steps, and the learner."""
    model = make_model()
    set_trainable_blocks(model, blocks)
    settings = make_settings(**values)
    learner = Learner(
        model, Phase("fine-tune", 1, RATE, blocks), settings, StepNoise(model, 0), class_weights=class_weights
    )
    before = {variable.name: variable.numpy() for variable in model.weights}
    batches = list(make_points().epoch(0))
    sums = [learner.train_step(tf.constant(step, tf.int64), UNMIXED, *batches[step % 4]) for step in range(count)]
    return model, {v.name: v.numpy() - before[v.name] for v in model.weights}, sums, learner


def test_layer_decay_scales_the_update_under_adam() -> None:
    _, plain, _, _ = do_steps()
    _, decayed, _, _ = do_steps(layer_decay=0.5)
    for name, update in plain.items():
        factor = {"head": 1.0, "block5": 0.5, "block4": 0.25}[name.partition("/")[0].partition("_")[0]]
        np.testing.assert_allclose(decayed[name], factor * update, rtol=1e-4, atol=1e-9)
        assert np.abs(update).max() > 0.5 * RATE  # Adam's first step is the rate, whatever the gradient


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_layer_decay_scales_the_weight_decay_too(optimizer: str) -> None:
    start = make_model()
    _, without, _, _ = do_steps(optimizer=optimizer, layer_decay=0.5)
    _, with_decay, _, _ = do_steps(optimizer=optimizer, layer_decay=0.5, weight_decay=0.1)
    for variable in start.weights:
        factor = {"head": 1.0, "block5": 0.5, "block4": 0.25}[variable.name.partition("/")[0].partition("_")[0]]
        expected = -factor * RATE * 0.1 * variable.numpy() if len(variable.shape) > 1 else 0.0 * variable.numpy()
        np.testing.assert_allclose(with_decay[variable.name] - without[variable.name], expected, atol=1e-7)


def test_depths_count_learning_blocks_only() -> None:
    model = make_model()
    set_trainable_blocks(model, 1)
    names = {variable.ref(): variable.name for variable in model.weights}
    depths = {names[ref].partition("/")[0]: depth for ref, depth in layer_depths(model).items()}
    assert depths == {"block5_dense": 1}


def test_clipping_bounds_the_norm_over_all_variables() -> None:
    # SGD with Nesterov momentum 0.9 moves by 1.9 x rate x gradient in its first step.
    _, free, _, _ = do_steps(optimizer="sgd")
    _, clipped, _, _ = do_steps(optimizer="sgd", gradient_clip_norm=0.01)
    norm = np.sqrt(sum(np.sum(update**2) for update in clipped.values()))
    assert norm == pytest.approx(0.01 * RATE * 1.9, rel=1e-4)
    free_norm = np.sqrt(sum(np.sum(update**2) for update in free.values()))
    assert free_norm > 2 * norm
    # Updates are read off float32 weights near 1, hence the tolerance.
    np.testing.assert_allclose(clipped["head/kernel:0"], free["head/kernel:0"] * norm / free_norm, rtol=0, atol=2e-7)


def test_frozen_stays_frozen_under_every_option() -> None:
    _, moved, _, _ = do_steps(
        3, blocks=1, optimizer="adamw", weight_decay=0.5, layer_decay=0.5, ema_momentum=0.5, gradient_clip_norm=1.0
    )
    for name, update in moved.items():
        assert bool(np.any(update)) == (not name.startswith("block4")), name


def test_the_average_is_what_is_evaluated() -> None:
    model, moved, _, learner = do_steps(3, ema_momentum=0.8)
    start = make_model().get_layer("head").kernel.numpy()
    now = model.get_layer("head").kernel.numpy()
    expected = start
    for steps in (1, 2, 3):
        reached, _, _, _ = do_steps(steps)
        expected = 0.8 * expected + 0.2 * reached.get_layer("head").kernel.numpy()
    with learner.averaged():
        np.testing.assert_allclose(model.get_layer("head").kernel, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(model.get_layer("head").kernel, now)
    assert np.any(moved["head/kernel:0"])


def test_label_smoothing_is_keras_own() -> None:
    import tf_keras

    model = make_model()
    points, labels, _ = next(iter(make_points().epoch(0)))
    keras_loss = tf_keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    expected = keras_loss(tf.one_hot(labels, 2), model(points))
    _, _, sums, _ = do_steps(label_smoothing=0.2)
    assert float(sums[0][0]) / 16 == pytest.approx(float(expected), rel=1e-5)
    _, _, plain, _ = do_steps()
    assert float(plain[0][0]) != pytest.approx(float(sums[0][0]), rel=1e-3)


def test_class_weights_are_keras_own() -> None:
    model = make_model()
    points, labels, _ = next(iter(make_points().epoch(0)))
    weights = np.array([0.5, 3.0], np.float32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(points)).numpy()
    _, _, sums, _ = do_steps(class_weights=weights)
    assert float(sums[0][0]) == pytest.approx(float(np.sum(losses * weights[labels.numpy()])), rel=1e-5)


def test_balanced_classes_weigh_the_same() -> None:
    counts = np.array([90, 9, 0, 1])
    weights = balance_classes(counts)
    np.testing.assert_allclose((weights * counts)[[0, 1, 3]], 100 / 3, rtol=1e-6)
    assert np.sum(weights * counts) == pytest.approx(100)


@pytest.mark.parametrize(("optimizer", "name"), [("adam", "Adam"), ("adamw", "AdamW"), ("sgd", "SGD")])
def test_each_optimizer_learns(optimizer: str, name: str) -> None:
    _, _, sums, learner = do_steps(20, optimizer=optimizer)
    assert learner.optimizer.name == name
    assert float(sums[-4][0]) < float(sums[0][0])


def test_the_update_in_one_pass_is_adams() -> None:
    ours_variable, keras_variable = (tf.Variable([[1.0, -2.0], [0.5, 3.0]]) for _ in range(2))
    ours, keras = optimizers._Adam(0.1, jit_compile=False), tf_keras.optimizers.Adam(0.1, jit_compile=False)
    for optimizer, variable in ((ours, ours_variable), (keras, keras_variable)):
        for scale in (1.0, -0.3, 2.0):
            optimizer.apply_gradients([(tf.constant([[1.0, 2.0], [-3.0, 0.1]]) * scale, variable)])
    # The same formula in another order of float32 operations.
    np.testing.assert_allclose(ours_variable.numpy(), keras_variable.numpy(), rtol=1e-5)
