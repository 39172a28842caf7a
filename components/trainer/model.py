"""The classifier: a backbone in inference mode, pooled, with a dense head for our classes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import tensorflow as tf
import tf_keras

from components.trainer.backbone_layers import (
    PreprocessingLayer,
    backbone_shapes,
    group_layers,
    make_backbone,
    repool_backbone,
)
from components.trainer.backbones import BACKBONES, Pooling
from components.trainer.precision import Precision
from components.trainer.weights_file import match_layers, read_layers
from data.errors import UserError

HeadChoice = Literal["load", "drop"]


class ImageClassifier(tf_keras.Model):
    """A functional model that knows its backbone; `Learner` trains it and `Judge` evaluates it.

    Attributes:
        backbone_name: the key in `BACKBONES` of the backbone that its layers are named after.
        pooling: what its head reads.
        learn_statistics: whether BatchNorm's statistics are learned where blocks learn.
    """

    backbone_name: str = "vgg16"
    pooling: Pooling = "last"
    learn_statistics: bool = False


@contextmanager
def compute_precision(precision: Precision) -> Iterator[None]:
    """Makes layers built inside compute in a precision (variables stay float32); restores the policy after."""
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(before)


def make_model(
    class_count: int,
    image_size: int,
    dropout: float,
    precision: Precision,
    backbone: str = "vgg16",
    learn_statistics: bool = False,
    pooling: Pooling = "last",
) -> ImageClassifier:
    """Builds the model with random weights, which may be replaced afterwards.

    A backbone with ImageNet's weights is called with `training=False`, fine-tuned or not: its BatchNorm normalises by
    ImageNet's statistics, which never change, while scales and offsets of unfrozen blocks learn. That is what Keras's
    guide on transfer learning does (`base_model(inputs, training=False)`): statistics of small batches of another
    domain would undo in a few steps what the weights were learned with, and would differ between replicas, batch
    sizes and a resumed run. Random weights have no statistics to keep: theirs must be learned where blocks learn.

    Args:
        class_count: number of logits.
        image_size: height and width of its input in pixels, at least the backbone's `min_image_size`.
        dropout: share of dropped features before the head, in training.
        precision: of the computation; the variables and the logits are float32.
        backbone: a key of `BACKBONES`.
        learn_statistics: whether BatchNorm in unfrozen blocks normalises by the batch in training, and learns the
            statistics; for backbones that start from random weights.
        pooling: what the head reads.

    Returns:
        uint8 or float images [batch, image_size, image_size, 3], RGB, 0..255 -> float32 logits [batch, class_count].
        Its layers are `images`, `preprocessing`, `backbone` (a model), `dropout` and `head`.
    """
    with compute_precision(precision):
        network = make_backbone(backbone, image_size, pooling)
        return _put_head(network, class_count, dropout, backbone, pooling, learn_statistics)


def repool(model: ImageClassifier, pooling: Pooling) -> ImageClassifier:
    """Returns a model of the same layers below a new head, which reads something else; call it in their strategy."""
    name, dropout = model.backbone_name, model.get_layer("dropout").rate
    with compute_precision("float32" if model.get_layer("preprocessing").compute_dtype == "float32" else "bfloat16"):
        network = repool_backbone(model.get_layer("backbone"), BACKBONES[name], pooling)
        return _put_head(network, model.output_shape[-1], dropout, name, pooling, model.learn_statistics)


def _put_head(
    network: tf_keras.Model, class_count: int, dropout: float, backbone: str, pooling: Pooling, learn_statistics: bool
) -> ImageClassifier:
    """Returns the classifier around a backbone, with the global precision policy."""
    images = tf_keras.Input([*network.input_shape[1:3], 3], dtype=tf.uint8, name="images")
    pixels = PreprocessingLayer(BACKBONES[backbone].preprocessing, name="preprocessing")(images)
    features = tf_keras.layers.Dropout(dropout, name="dropout")(
        network(pixels, training=None if learn_statistics else False)
    )
    # In float32: the loss of a bfloat16 logit has 3 significant digits.
    logits = tf_keras.layers.Dense(class_count, dtype="float32", name="head")(features)
    model = ImageClassifier(images, logits, name=f"{backbone}_classifier")
    model.backbone_name, model.pooling, model.learn_statistics = backbone, pooling, learn_statistics
    return model


def backbone_blocks(model: ImageClassifier) -> list[list[tf_keras.layers.Layer]]:
    """Returns the layers of each block of the model's backbone, from the image to the head."""
    return group_layers(model, BACKBONES[model.backbone_name])


def set_trainable_blocks(model: ImageClassifier, blocks: int) -> None:
    """Freezes all blocks of the backbone but the last ones; the head always learns.

    Args:
        model: from `make_model`.
        blocks: 0 freezes the backbone, the number of its blocks nothing.
    """
    layers_of_blocks = backbone_blocks(model)
    for number, layers in enumerate(layers_of_blocks):
        for layer in layers:
            layer.trainable = number >= len(layers_of_blocks) - blocks


def load_weights(model: ImageClassifier, path: str, head: HeadChoice = "drop") -> bool:
    """Sets the backbone's weights from a file, and the head's if it holds them and they are wanted.

    Args:
        model: from `make_model`.
        path: a Keras 2 HDF5 file, local or `gs://`.
        head: `load` takes a head that is one layer of the model's own shape; `drop` leaves the model's own as it is.

    Returns:
        Whether the head was taken.

    Raises:
        UserError: the file cannot be read, holds another architecture, or `load` finds a head of another class count.
    """
    network, title = model.get_layer("backbone"), BACKBONES[model.backbone_name].title
    saved = match_layers(read_layers(path, title), path, title, backbone_shapes(network))
    own, classes = model.get_layer("head"), model.output_shape[-1]
    if head == "load" and saved.head_classes not in (None, classes):
        raise UserError(
            f"trainer.weights is {path}, whose head ({', '.join(saved.head)}) has {saved.head_classes} classes where "
            f"the images have {classes}; set trainer.weights_head to drop to start from a new head"
        )
    for name, arrays in saved.arrays.items():
        network.get_layer(name).set_weights(arrays)
    found = [array for arrays in saved.head.values() for array in arrays]
    fits = [array.shape for array in found] == [tuple(weight.shape) for weight in own.weights]
    if head == "load" and fits:
        own.set_weights(found)
    return head == "load" and fits
