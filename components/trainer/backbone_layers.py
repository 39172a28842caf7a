"""Builds the backbones of the registry from `tf_keras.applications`, with their preprocessing in front."""

import re
from collections.abc import Iterator

import tensorflow as tf
import tf_keras

from components.trainer.backbones import BACKBONES, Backbone, Pooling, Preprocessing, pooled_blocks

_NEAR_ZERO = 1e-3
_MOMENTUM = 0.9  # EfficientNetV2's, and PyTorch's default


def preprocess(images: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Maps RGB pixels to what a backbone's ImageNet weights were trained on.

    Args:
        images: uint8 or float [batch, height, width, 3], RGB, 0..255.
        preprocessing: the backbone's.

    Returns:
        float32 of the same shape, the channels in the backbone's order.
    """
    pixels = tf.cast(images, tf.float32)
    if preprocessing.reads_bgr:
        pixels = pixels[..., ::-1]
    centred = pixels - tf.constant(preprocessing.mean)
    return centred if preprocessing.std == (1.0, 1.0, 1.0) else centred / tf.constant(preprocessing.std)


class PreprocessingLayer(tf_keras.layers.Layer):
    """`preprocess` as a layer: in float32, then cast to the compute type of its precision policy."""

    def __init__(self, preprocessing: Preprocessing, name: str) -> None:
        """Holds the backbone's numbers; the layer has no weights."""
        super().__init__(name=name)
        self._preprocessing = preprocessing

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the preprocessed images."""
        return tf.cast(preprocess(images, self._preprocessing), self.compute_dtype)


def average_depth(depth: tf.Tensor) -> tf.Tensor:
    """Maps a depth [batch, height, width, channels] to its averages over the image, float32 [batch, channels].

    Averages [batch, channels] stay what they are.
    """
    depth = tf.cast(depth, tf.float32)
    return tf.reduce_mean(depth, [1, 2]) if depth.shape.rank == 4 else depth


class RootsLayer(tf_keras.layers.Layer):
    """Square roots of the averages of several depths' channels, side by side, in float32.

    Averages of rectified channels have long tails: of VGG16's features at 224 pixels the mean is 2.4 and the largest
    102. Negative averages, of backbones that have some, keep their sign. Near 0 the slope is finite.
    """

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Maps maps [batch, height, width, channels] or their averages [batch, channels] to [batch, all channels]."""
        joined = tf.concat([average_depth(depth) for depth in inputs], axis=-1)
        return joined * root_scale(joined)


def root_scale(averages: tf.Tensor) -> tf.Tensor:
    """Returns what makes averages their square roots when they are multiplied by it; of the same shape."""
    return 1.0 / tf.sqrt(tf.abs(averages) + _NEAR_ZERO)


def make_backbone(backbone: str, image_size: int, pooling: Pooling = "last") -> tf_keras.Model:
    """Builds a backbone with random weights, in the global precision policy.

    Args:
        backbone: a key of `BACKBONES`.
        image_size: height and width of its input in pixels.
        pooling: what is made of its maps.

    Returns:
        A model named `backbone`: preprocessed images [batch, image_size, image_size, 3] in the policy's compute type
        -> features [batch, channels], averaged over the image.

    Source: global average pooling in place of dense layers, Lin et al. 2013 (Network in Network), section 3.2.
    """
    spec = BACKBONES[backbone]
    # ConvNeXt's last layer has no name of its own: counted from 0, its variables have the same name in every export.
    tf_keras.backend.reset_uids()
    pixels = tf_keras.Input(
        [image_size, image_size, 3], dtype=tf_keras.mixed_precision.global_policy().compute_dtype, name="pixels"
    )
    construct = getattr(tf_keras.applications, spec.constructor)
    network = construct(include_top=False, weights=None, input_tensor=pixels, pooling="avg", **spec.arguments)
    for layer in iterate_layers(network):
        if isinstance(layer, tf_keras.layers.Conv2D) and layer.groups == layer.filters > 1:
            _convolve_each_channel_natively(layer)
        if isinstance(layer, tf_keras.layers.Dropout):
            layer.rate = 0.0  # stochastic depth: dropout before the head is the only randomness of the model
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            # Where statistics are learned at all. With MobileNetV3's 0.999, digits from random weights were at 0.11
            # on `eval` after 6 epochs of 45 steps, and at 0.96 with this.
            layer.momentum = min(layer.momentum, _MOMENTUM)
    return repool_backbone(tf_keras.Model(pixels, network.output, name="backbone"), spec, pooling)


def repool_backbone(network: tf_keras.Model, backbone: Backbone, pooling: Pooling) -> tf_keras.Model:
    """Returns a backbone of the same layers that pools otherwise.

    Args:
        network: from `make_backbone`.
        backbone: its entry in the registry.
        pooling: of the result.
    """
    roots = [layer for layer in network.layers if isinstance(layer, RootsLayer)]
    features = roots[0].input if roots else network.output
    last = features[-1] if isinstance(features, list) else features
    if pooling != "last":
        blocks = group_layers(network, backbone)[-pooled_blocks(pooling) : -1]
        features = RootsLayer(dtype="float32", name="roots")([*(layers[-1].output for layers in blocks), last])
    return tf_keras.Model(network.input, last if pooling == "last" else features, name="backbone")


def _convolve_each_channel_natively(layer: tf_keras.layers.Conv2D) -> None:
    """Makes a grouped convolution of one channel a group use TensorFlow's depthwise kernel; its variables stay.

    Keras compiles grouped convolutions with XLA, because TensorFlow has no CPU kernel for them: ConvNeXt-Tiny at 64
    pixels then went 14 images/s forward and 5 in training on two cores, and with this 132 and 29. XLA would be in the
    exported model, too.
    """

    def convolve(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        channels_first = tf.transpose(tf.convert_to_tensor(kernel), [0, 1, 3, 2])
        return tf.nn.depthwise_conv2d(images, channels_first, [1, *layer.strides, 1], layer.padding.upper())

    layer.groups = 1  # that of the layer's call, which would compile; the kernel is built already
    layer.convolution_op = convolve


def iterate_layers(model: tf_keras.Model) -> Iterator[tf_keras.layers.Layer]:
    """Yields a model's layers from input to output, those of models inside it in place of these."""
    for layer in model.layers:
        if isinstance(layer, tf_keras.Model):
            yield from iterate_layers(layer)
        else:
            yield layer


def group_layers(model: tf_keras.Model, backbone: Backbone) -> list[list[tf_keras.layers.Layer]]:
    """Returns the layers of each block of a backbone, from the image to the head; other layers are in none."""
    blocks = [re.compile(block) for block in backbone.blocks]
    return [[layer for layer in iterate_layers(model) if block.match(layer.name)] for block in blocks]


def backbone_shapes(model: tf_keras.Model) -> dict[str, list[tuple[int, ...]]]:
    """Returns the shapes of the weights of each layer that has some, as Keras's HDF5 groups and orders them.

    Args:
        model: from `make_backbone`.
    """
    return {layer.name: [tuple(weight.shape) for weight in layer.weights] for layer in model.layers if layer.weights}
