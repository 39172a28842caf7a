"""A classifier cut in two: what is frozen below the first block that learns, and what is left above."""

import math
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from components.trainer.backbone_layers import RootsLayer, average_depth
from components.trainer.learner import classify
from components.trainer.model import ImageClassifier, backbone_blocks


class Cut:
    """The two parts, of the model's own layers, and the row of bytes that an image is between them.

    A row is the map at the cut in its own type, then the averages, in float32, of the depths below the cut that the
    head reads, too.
    """

    def __init__(self, model: ImageClassifier, below: list[Any], above: list[Any], cut: Any, sides: list[Any]) -> None:
        """Holds what `cut` found: nodes of the graph of the model's backbone, and the tensors that cross the cut."""
        network = model.get_layer("backbone")
        self._model, self._above, self._cut, self._sides = model, above, cut, sides
        self._output = network.output
        self._network = tf_keras.Model(network.input, [cut, *sides], name="prefix")
        self._map_bytes = math.prod(cut.shape[1:]) * cut.dtype.size
        self.row_bytes = self._map_bytes + sum(4 * side.shape[-1] for side in sides)
        self.multiply_adds = sum(_multiply_adds(node) for node in below)
        """Of the part below, for one image."""

    def read_images(self, images: tf.Tensor) -> tf.Tensor:
        """Maps images, as the model reads them, to rows, uint8 [n, row_bytes], in inference."""
        tensors = self._network(self._model.get_layer("preprocessing")(images), training=False)
        first, *depths = tensors if self._sides else [tensors]
        parts = [first, *(average_depth(depth) for depth in depths)]
        sizes = [self._map_bytes, *(4 * side.shape[-1] for side in self._sides)]
        rows = [tf.reshape(tf.bitcast(part, tf.uint8), [-1, size]) for part, size in zip(parts, sizes, strict=True)]
        return tf.concat(rows, axis=-1)

    def read_rows(self, rows: tf.Tensor, training: bool) -> tf.Tensor:
        """Maps rows to logits, float32 [n, classes]."""
        return classify(self._model, self.read_features(rows, training), training=training)

    def read_features(self, rows: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Maps rows to what the head reads, [n, features]."""
        values = {id(self._cut): _unpack(rows[:, : self._map_bytes], self._cut.dtype, self._cut.shape[1:])}
        start = self._map_bytes
        for side in self._sides:
            end = start + 4 * side.shape[-1]
            values[id(side)] = _unpack(rows[:, start:end], tf.float32, side.shape[-1:])
            start = end
        # As the whole model calls its backbone; see `make_model`.
        in_training = training and self._model.learn_statistics
        for node in self._above:
            args, kwargs = tf.nest.map_structure(
                lambda value: values.get(id(value), value), (node.call_args, node.call_kwargs)
            )
            if node.layer._expects_training_arg:
                kwargs["training"] = in_training
            values[id(node.outputs)] = node.layer(*args, **kwargs)
        return values[id(self._output)]


def cut(model: ImageClassifier, blocks: int) -> Cut | None:
    """Cuts a model below its last blocks.

    Args:
        model: from `make_model`.
        blocks: of the backbone that learn.

    Returns:
        None where nothing is frozen, or all is, or where the parts are joined by more than one map.
    """
    of_blocks = backbone_blocks(model)
    if not 0 < blocks < len(of_blocks) or "backbone" not in [layer.name for layer in model.layers]:
        return None
    by_depth = model.get_layer("backbone")._nodes_by_depth
    nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    learning = {id(layer) for layers in of_blocks[-blocks:] for layer in layers}
    below: list[Any] = []
    made: set[int] = set()
    for node in nodes:
        stays = id(node.layer) not in learning and not isinstance(node.layer, RootsLayer)
        if stays and all(id(tensor) in made for tensor in node.keras_inputs):
            below.append(node)
            made |= {id(tensor) for tensor in tf.nest.flatten(node.outputs)}
    frozen = {id(node) for node in below}
    above = [node for node in nodes if id(node) not in frozen]
    crossing: dict[int, Any] = {}
    sides: dict[int, Any] = {}
    for node in above:
        read = {id(tensor): tensor for tensor in node.keras_inputs if id(tensor) in made}
        (sides if isinstance(node.layer, RootsLayer) else crossing).update(read)
    if len(crossing) != 1:
        return None
    (joint,) = crossing.values()
    return Cut(model, below, above, joint, [side for key, side in sides.items() if key not in crossing])


def _unpack(rows: tf.Tensor, dtype: tf.DType, shape: tf.TensorShape) -> tf.Tensor:
    """Maps bytes [n, all bytes of a tensor] to tensors [n, *shape]."""
    return tf.reshape(tf.bitcast(tf.reshape(rows, [-1, math.prod(shape), dtype.size]), dtype), [-1, *shape])


def _multiply_adds(node: Any) -> int:
    """Returns those of a convolution or dense layer for one image: each kernel once at each place of its output."""
    kernels = [int(np.prod(weight.shape)) for weight in node.layer.weights if weight.shape.rank > 1]
    return sum(kernels) * math.prod(node.outputs.shape[1:-1]) if kernels else 0
