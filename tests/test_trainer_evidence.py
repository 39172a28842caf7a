"""The evidence divides the logit among the places of the image, and its gradients are Grad-CAM's."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from components.trainer import evidence
from components.trainer.evidence import Evidence
from components.trainer.model import make_model


@pytest.fixture(autouse=True)
def unscaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves sums as they are, negative ones, too."""
    monkeypatch.setattr(tf.nn, "relu", lambda values: values)
    monkeypatch.setattr(tf, "maximum", lambda values, least: tf.ones_like(values))


def images(size: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8))


@pytest.mark.parametrize(("size", "pooling"), [(64, "last"), (64, "roots-3")])
def test_the_mean_over_the_image_is_the_logit(size: int, pooling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # VGG16 has 2 rows at 64 pixels; of a map that is read as it is the division is exact, of a gradient above it, too,
    # where the layers between are piecewise linear without a bias of their own: a max pooling.
    model = make_model(3, size, 0.0, "float32", "vgg16", pooling=pooling)
    monkeypatch.setattr(evidence, "_LEAST_MAP", 2)
    found = Evidence(model)
    assert found.source.endswith("block5_pool")
    logits, maps = found(images(size))
    np.testing.assert_allclose(logits, model(images(size), training=False), rtol=1e-4, atol=1e-5)
    chosen = tf.reduce_max(logits, axis=-1) - tf.gather(model.get_layer("head").bias, tf.argmax(logits, axis=-1))
    whole = maps.numpy().mean(axis=(1, 2))
    # Where maps of several sizes are enlarged, interpolation weighs the edges otherwise.
    np.testing.assert_allclose(whole, chosen, rtol=1e-4 if pooling == "last" else 0.3, atol=1e-5)


def test_above_a_map_that_is_too_coarse_it_is_grad_cam() -> None:
    model = make_model(3, 64, 0.0, "float32", "vgg16")
    found = Evidence(model)
    layer = model.get_layer("backbone").get_layer(found.source)
    assert min(layer.output.shape[1:3]) >= 7
    network = model.get_layer("backbone")
    deep, rest = tf_keras.Model(network.input, layer.output), tf_keras.Model(layer.output, network.output)
    maps = deep(model.get_layer("preprocessing")(images(64)))
    with tf.GradientTape() as tape:
        tape.watch(maps)
        score = tf.reduce_sum(model.get_layer("head")(rest(maps))[:, 1])
    weights = tf.reduce_sum(tape.gradient(score, maps), axis=[1, 2], keepdims=True)
    expected = tf.reduce_sum(weights * maps, axis=-1)
    np.testing.assert_allclose(found(images(64), tf.constant([1, 1]))[1], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("backbone", ["mobilenetv3-small"])
def test_other_families_have_evidence_too(backbone: str) -> None:
    found = Evidence(make_model(3, 64, 0.0, "float32", backbone))
    _, maps = found(images(64))
    assert maps.dtype == tf.float32
    assert min(maps.shape[1:]) >= 7
    assert np.isfinite(maps).all()
    assert np.abs(maps).max() > 0
