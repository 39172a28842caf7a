"""Where in an image the evidence for an answer lies.

Source: Selvaraju et al. 2017, Grad-CAM, equations 1 and 2. On the last feature map before the pooling and a linear head
this equals the class activation map of Zhou et al. 2016. Where the head reads several depths, their maps are added up,
before the sign is looked at: each holds a part of the same logit.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from components.trainer.backbone_layers import RootsLayer
from components.trainer.export import weight_key
from components.trainer.model import ImageClassifier, make_model
from components.trainer.origin import read_pooling

_LEAST_MAP = 7
"""Rows and columns that a map must have to show a place: what the last one of a 224-pixel network has."""
_BATCH_PIXELS = 8 * 224 * 224


def load_classifier(saved_model_path: str, backbone: str, class_count: int, image_size: int) -> ImageClassifier:
    """Rebuilds the exported Keras model, whose gradients the SavedModel's signatures do not give.

    Args:
        saved_model_path: of this project's export, local or remote.
        backbone: a key of `BACKBONES`.
        class_count: of the exported model.
        image_size: height and width of its input in pixels.

    Raises:
        ValueError: the SavedModel holds no such weights.
    """
    model = make_model(
        class_count,
        image_size,
        dropout=0.0,
        precision="float32",
        backbone=backbone,
        pooling=read_pooling(saved_model_path),
    )
    reader = tf.train.load_checkpoint(os.path.join(saved_model_path, "variables", "variables"))
    saved = {key.split("/")[1]: key for key in reader.get_variable_to_shape_map() if key.startswith("weights/")}
    names = [weight_key(variable).replace(".", "..") for variable in model.weights]
    missing = [name for name in names if name not in saved]
    if missing:
        raise ValueError(f"{saved_model_path} holds no weights {missing[0]} of {backbone}")
    model.set_weights([reader.get_tensor(saved[name]) for name in names])
    return model


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


def make_heat_maps(
    model: ImageClassifier, images: np.ndarray, class_ids: Sequence[int]
) -> tuple[list[np.ndarray], str]:
    """Computes Grad-CAM for one class of each image.

    Args:
        model: from `load_classifier`.
        images: uint8 [n, image_size, image_size, 3].
        class_ids: [n], whose logit's evidence is looked for.

    Returns:
        float32 [rows, columns] in 0..1 for each image, all 0 where nothing speaks for the class; and the layer's name.
    """
    network, head = model.get_layer("backbone"), model.get_layer("head")
    layer = find_map_layer(model)
    roots = next((found for found in network.layers if isinstance(found, RootsLayer)), None)
    *depths, last = (
        roots.input if roots and isinstance(roots.input, list) else [roots.input if roots else network.output]
    )
    to_maps = tf_keras.Model(network.input, [layer.output, *depths])
    to_average = tf_keras.Model(layer.output, last)

    @tf.function(autograph=False)
    def compute_maps(images: tf.Tensor) -> list[tf.Tensor]:
        # Outside the tape, which would go back through the whole network.
        return tf.nest.flatten(to_maps(model.get_layer("preprocessing")(images), training=False))

    heat: list[np.ndarray] = []
    size = max(1, _BATCH_PIXELS // (images.shape[1] * images.shape[2]))
    for start in range(0, len(images), size):
        maps = compute_maps(tf.constant(images[start : start + size]))
        chosen = tf.constant(class_ids[start : start + size], tf.int32)
        with tf.GradientTape() as tape:
            tape.watch(maps)
            # Each depth as the head reads it: what comes of a map in a deeper one is that one's evidence.
            deepest, *shallower = maps
            average = to_average(deepest, training=False)
            features = roots([*shallower, average]) if roots else average
            scores = tf.gather(head(features), chosen, batch_dims=1)
        heat.extend(_weigh(maps, tape.gradient(scores, maps)))
    return heat, " + ".join([*(depth._keras_history.layer.name for depth in depths), layer.name])


def _weigh(maps: Sequence[tf.Tensor], gradients: Sequence[tf.Tensor]) -> np.ndarray:
    """Returns maps [n, rows, columns], those of several depths added up, each divided by its greatest value."""
    size = max((one.shape[1:3] for one in maps), key=lambda shape: shape[0])
    evidence = []
    for one, gradient in zip(maps, gradients, strict=True):
        # The sum over an image is the same whatever the size of the map.
        weights = tf.reduce_sum(gradient, axis=[1, 2], keepdims=True)
        evidence.append(tf.image.resize(tf.reduce_sum(weights * one, axis=-1, keepdims=True), size)[..., 0])
    raw = tf.nn.relu(tf.add_n(evidence)).numpy()
    return raw / np.maximum(raw.max(axis=(1, 2), keepdims=True), 1e-12)
