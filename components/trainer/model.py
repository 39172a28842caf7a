"""VGG16 without its top, pooled, with a dense head for our classes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
import tf_keras

from components.trainer.strategy import Precision
from components.trainer.weights_file import read_backbone_weights

BLOCKS = 5
_CHANNEL_MEANS_BGR = (103.939, 116.779, 123.68)


def preprocess_for_vgg16(images: tf.Tensor) -> tf.Tensor:
    """Maps RGB pixels to what VGG16's ImageNet weights were trained on.

    Args:
        images: uint8 or float [batch, height, width, 3], RGB, 0..255.

    Returns:
        float32 of the same shape, BGR, channel means (103.939, 116.779, 123.68) subtracted.

    Source: Simonyan & Zisserman 2014, section 2.1.
    """
    return tf.cast(images, tf.float32)[..., ::-1] - tf.constant(_CHANNEL_MEANS_BGR)


class Vgg16Preprocessing(tf_keras.layers.Layer):
    """`preprocess_for_vgg16` as a layer, in the compute type of its precision policy."""

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the preprocessed images."""
        return tf.cast(preprocess_for_vgg16(images), self.compute_dtype)


class ImageClassifier(tf_keras.Model):
    """A functional model whose steps AutoGraph leaves alone.

    Keras's steps hold nothing to convert, but AutoGraph knows `keras` as such and not `tf_keras`: it read and
    rewrote the source of every layer, which took 16 of the 19 s of a first `fit`.
    """

    @tf.autograph.experimental.do_not_convert
    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One step of Keras's `fit`."""
        return super().train_step(data)

    @tf.autograph.experimental.do_not_convert
    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One step of Keras's `evaluate`."""
        return super().test_step(data)

    @tf.autograph.experimental.do_not_convert
    def predict_step(self, data: Any) -> tf.Tensor:
        """One step of Keras's `predict`."""
        return super().predict_step(data)


@contextmanager
def compute_precision(precision: Precision) -> Iterator[None]:
    """Makes layers built inside compute in a precision (variables stay float32); restores the policy after."""
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(before)


def make_model(class_count: int, image_size: int, dropout: float, precision: Precision) -> ImageClassifier:
    """Builds the model with random weights.

    Args:
        class_count: number of logits.
        image_size: height and width of its input in pixels, at least 32.
        dropout: share of dropped features before the head, in training.
        precision: of the computation; the variables and the logits are float32.

    Returns:
        uint8 or float images [batch, image_size, image_size, 3], RGB, 0..255 -> float32 logits [batch, class_count].

    Source: Simonyan & Zisserman 2014, configuration D; global average pooling in place of the dense layers, as
    in Lin et al. 2013 (Network in Network), section 3.2.
    """
    with compute_precision(precision):
        images = tf_keras.Input([image_size, image_size, 3], dtype=tf.uint8, name="images")
        pixels = Vgg16Preprocessing(name="preprocessing")(images)
        backbone = tf_keras.applications.VGG16(include_top=False, weights=None, input_tensor=pixels, pooling="avg")
        features = tf_keras.layers.Dropout(dropout, name="dropout")(backbone.output)
        # In float32: the loss of a bfloat16 logit has 3 significant digits.
        logits = tf_keras.layers.Dense(class_count, dtype="float32", name="head")(features)
        return ImageClassifier(images, logits, name="vgg16_classifier")


def set_trainable_blocks(model: tf_keras.Model, blocks: int) -> None:
    """Freezes all blocks of the backbone but the last ones; the head always learns. Compile the model after it.

    Args:
        model: from `make_model`.
        blocks: 0 freezes the backbone, 5 nothing.
    """
    for layer in model.layers:
        if layer.name.startswith("block"):
            layer.trainable = int(layer.name[len("block")]) > BLOCKS - blocks


def load_backbone_weights(model: tf_keras.Model, path: str) -> None:
    """Sets the backbone's weights from a file; the head keeps its own.

    Args:
        model: from `make_model`.
        path: what `components.trainer.weights_file.read_backbone_weights` reads, and raises for.
    """
    for name, arrays in read_backbone_weights(path).items():
        model.get_layer(name).set_weights(arrays)
