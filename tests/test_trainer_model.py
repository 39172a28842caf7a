"""VGG16: preprocessing, precision, and what is frozen."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from components.trainer.backbone_layers import iterate_layers, preprocess
from components.trainer.backbones import BACKBONES
from components.trainer.model import (
    ImageClassifier,
    load_weights,
    make_model,
    set_trainable_blocks,
)
from tests.images import make_pixels
from tests.tiny_training import take_step

CLASSES = 3


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    random = np.random.default_rng(0)
    return np.stack([make_pixels(number % CLASSES, 32, random) for number in range(6)])


@pytest.fixture
def model() -> ImageClassifier:
    tf_keras.utils.set_random_seed(0)
    return make_model(CLASSES, 32, dropout=0.5, precision="float32")


def test_preprocessing_is_keras_own(images: np.ndarray) -> None:
    expected = tf_keras.applications.vgg16.preprocess_input(images.astype(np.float32))
    np.testing.assert_array_equal(preprocess(tf.constant(images), BACKBONES["vgg16"].preprocessing), expected)


def test_the_backbone_is_keras_own(model: ImageClassifier, images: np.ndarray) -> None:
    reference = tf_keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg")
    reference.set_weights(model.get_layer("backbone").get_weights())
    features = reference(tf_keras.applications.vgg16.preprocess_input(images.astype(np.float32)))
    expected = model.get_layer("head")(features)
    # The same operations in the same order; only the fusing of bias and activation may differ.
    np.testing.assert_allclose(model(images, training=False), expected, rtol=1e-5, atol=1e-5)


def test_float_images_and_uint8_images_are_the_same(model: ImageClassifier, images: np.ndarray) -> None:
    np.testing.assert_array_equal(model(images), model(images.astype(np.float32)))


@pytest.mark.parametrize("blocks", [0, 2, 5])
def test_frozen_is_frozen(model: ImageClassifier, images: np.ndarray, blocks: int) -> None:
    before = {variable.name: variable.numpy() for variable in model.weights}
    set_trainable_blocks(model, blocks)
    take_step(model, images, np.arange(6) % CLASSES, blocks, rate=1e-2)
    changed = {variable.name for variable in model.weights if not np.array_equal(variable, before[variable.name])}
    learning = {f"block{block}" for block in range(6 - blocks, 6)} | {"head"}
    expected = {name for name in before if name.partition("_")[0].partition("/")[0] in learning}
    assert changed == expected


def test_blocks_can_be_frozen_again(model: ImageClassifier) -> None:
    set_trainable_blocks(model, 5)
    set_trainable_blocks(model, 1)
    trainable = {variable.name.partition("_")[0].partition("/")[0] for variable in model.trainable_weights}
    assert trainable == {"block5", "head"}


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_variables_and_logits(images: np.ndarray) -> None:
    model = make_model(CLASSES, 32, dropout=0.0, precision="bfloat16")
    assert tf_keras.mixed_precision.global_policy().name == "float32"
    assert {layer.compute_dtype for layer in iterate_layers(model) if layer.name.startswith("block")} == {"bfloat16"}
    assert {variable.dtype for variable in model.weights} == {tf.float32}
    assert model(images).dtype == tf.float32


def test_the_precision_policy_is_restored_after_an_error() -> None:
    with pytest.raises(ValueError, match="block5_pool"):  # 16 pixels halve to 1 in four blocks
        make_model(CLASSES, 16, dropout=0.0, precision="bfloat16")
    assert tf_keras.mixed_precision.global_policy().name == "float32"


def test_a_bfloat16_model_in_float32_gives_nearly_the_same_probabilities(images: np.ndarray) -> None:
    tf_keras.utils.set_random_seed(1)
    bfloat16_model = make_model(CLASSES, 32, dropout=0.0, precision="bfloat16")
    float_model = make_model(CLASSES, 32, dropout=0.0, precision="float32")
    float_model.set_weights(bfloat16_model.get_weights())
    difference = tf.nn.softmax(bfloat16_model(images)) - tf.nn.softmax(float_model(images))
    # bfloat16 has 8 bits of mantissa: 4e-3 a rounding, of which 13 layers average most away.
    assert np.abs(difference).max() < 1e-2
    assert np.abs(difference).max() > 0.0


def test_weights_from_a_file_go_to_the_backbone_alone(model: ImageClassifier, tmp_path) -> None:
    saved = tf_keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    saved.save_weights(tmp_path / "vgg16.h5")
    head = [array.copy() for array in model.get_layer("head").get_weights()]
    load_weights(model, str(tmp_path / "vgg16.h5"))
    for loaded, expected in zip(model.get_layer("backbone").get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(loaded, expected)
    for kept, expected in zip(model.get_layer("head").get_weights(), head, strict=True):
        np.testing.assert_array_equal(kept, expected)
