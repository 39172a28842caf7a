"""Where in an image the evidence for an answer lies, as a graph: for the exported model and for the report.

A head that reads averages over the image is a sum over its places, so that its logit divides among them without a
gradient: the class activation map of Zhou et al. 2016. A square root of an average divides in the same shares, those of
the places in the average. Where the head reads several depths, their maps are added up before the sign is looked at:
each holds a part of the same logit. Where the last map is too coarse to show a place, or something stands between the
average and the head, a gradient tells what a map above it is worth: Selvaraju et al. 2017, Grad-CAM, equations 1 and 2,
which on the last map is the same as the former.
"""

from typing import Any

import tensorflow as tf
import tf_keras

from components.trainer.backbone_layers import RootsLayer, average_depth, root_scale
from components.trainer.model import ImageClassifier

_LEAST_MAP = 7
"""Rows and columns that a map must have to show a place: what the last one of a 224-pixel network has."""


def find_map_layer(model: ImageClassifier) -> tf_keras.layers.Layer:
    """Returns the deepest layer whose output has at least 7 rows and columns; the first map there is if none has."""
    # Layers inside a model inside the backbone are not on the way from its input to its output.
    maps = [layer for layer in model.get_layer("backbone").layers if _side(layer)]
    large = [layer for layer in maps if _side(layer) >= _LEAST_MAP]
    return (large or maps[:1])[-1]


def _side(layer: tf_keras.layers.Layer) -> int:
    shape: Any = getattr(layer.output, "shape", ())
    if len(shape) != 4 or isinstance(layer, tf_keras.layers.InputLayer | tf_keras.Model):
        return 0
    return min(shape[1], shape[2])


class Evidence:
    """Maps images to logits, and to what speaks for one class at each place.

    Attributes:
        source: the names of the layers whose maps are added up.
    """

    def __init__(self, model: ImageClassifier) -> None:
        """Takes a model from `make_model`, computing in float32."""
        network, layer = model.get_layer("backbone"), find_map_layer(model)
        self._preprocess, self._head = model.get_layer("preprocessing"), model.get_layer("head")
        roots = next((found for found in network.layers if isinstance(found, RootsLayer)), None)
        read = roots.input if roots else network.output
        *depths, last = read if isinstance(read, list) else [read]
        self._takes_roots = roots is not None
        self._to_maps = tf_keras.Model(network.input, [*depths, layer.output])
        self._to_average = tf_keras.Model(layer.output, last)
        pooling = last._keras_history.layer
        self._is_pooled = isinstance(pooling, tf_keras.layers.GlobalAveragePooling2D) and pooling.input is layer.output
        self.source = " + ".join([*(depth._keras_history.layer.name for depth in depths), layer.name])

    def __call__(self, images: tf.Tensor, class_ids: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes both.

        Args:
            images: uint8 [batch, image_size, image_size, 3].
            class_ids: int32 [batch], whose evidence is looked for; None takes the likeliest class of each image.

        Returns:
            Logits, float32 [batch, classes]; and the evidence, float32 [batch, rows, columns] in 0..1, divided by the
            greatest of its image, all 0 where nothing speaks for the class.
        """
        *maps, deepest = tf.nest.flatten(self._to_maps(self._preprocess(images), training=False))
        with tf.GradientTape() as tape:
            tape.watch(deepest)
            average = average_depth(self._to_average(deepest, training=False))
        averages = [*map(average_depth, maps), average]
        features = tf.concat(averages, axis=-1)
        scale = root_scale(features) if self._takes_roots else tf.ones_like(features)
        logits = self._head(features * scale)
        chosen = tf.argmax(logits, axis=-1) if class_ids is None else class_ids
        # What one unit of each average adds to the logit.
        worths = tf.split(
            tf.gather(tf.transpose(self._head.kernel), chosen) * scale, [one.shape[-1] for one in averages], axis=-1
        )
        evidence = [tf.einsum("bhwc,bc->bhw", *pair) for pair in zip(maps, worths, strict=False)]
        if self._is_pooled:
            evidence.append(tf.einsum("bhwc,bc->bhw", deepest, worths[-1]))
        else:
            gradient = tape.gradient(average, deepest, output_gradients=worths[-1])
            evidence.append(tf.einsum("bhwc,bc->bhw", deepest, tf.reduce_sum(gradient, axis=[1, 2])))
        size = max((one.shape[1:3] for one in evidence), key=lambda shape: shape[0])
        # The mean over an image is the same whatever the size of the map.
        sums = tf.nn.relu(tf.add_n([tf.image.resize(one[..., tf.newaxis], size)[..., 0] for one in evidence]))
        return logits, sums / tf.maximum(tf.reduce_max(sums, axis=[1, 2], keepdims=True), 1e-12)
