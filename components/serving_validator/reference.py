"""What the model must answer, computed apart from it: Transform's own graph, the registry, and the model in Python."""

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tf_keras

from components.trainer.backbones import Preprocessing
from components.trainer.export import weight_key
from components.trainer.model import make_model
from components.trainer.origin import read_pooling
from components.transform.features import LABEL_VOCABULARY, TRANSFORMED_IMAGE_KEY, unpack_images
from data.features import IMAGE_KEY

_BATCH_SIZE = 16


class UnreadableWeights(ValueError):
    """The SavedModel's checkpoint does not hold the weights of the backbone that was trained."""


def read_exported_weights(saved_model_path: str, model: tf_keras.Model) -> list[np.ndarray]:
    """Reads the weights of a model from a SavedModel's files, without loading its graph.

    Args:
        saved_model_path: local or remote folder of an export.
        model: from `make_model`, of the same backbone and number of classes.

    Returns:
        Arrays in the order of `model.weights`.

    Raises:
        UnreadableWeights: one is missing or has another shape.
    """
    reader = tf.train.load_checkpoint(os.path.join(saved_model_path, "variables", "variables"))
    shapes = reader.get_variable_to_shape_map()
    arrays = []
    for variable in model.weights:
        key = weight_key(variable)
        stored = f"weights/{key}/.ATTRIBUTES/VARIABLE_VALUE"
        if shapes.get(stored) != variable.shape.as_list():
            found = f"has the shape {shapes[stored]}" if stored in shapes else "is missing"
            raise UnreadableWeights(f"the weight {key} {found}; {variable.shape.as_list()} was expected")
        arrays.append(reader.get_tensor(stored))
    return arrays


class Reference:
    """The answers to expect, on the CPU, where the fresh process computes too.

    Attributes:
        classes: the names in the order of the probabilities, from Transform's vocabulary.
    """

    def __init__(self, saved_model_path: str, transform_graph_uri: str, backbone: str, image_size: int) -> None:
        """Loads Transform's graph and builds the model.

        Args:
            saved_model_path: folder of the export, of which only the weights are read, in its model's artifact.
            transform_graph_uri: of Transform's output.
            backbone: a key of `BACKBONES`.
            image_size: height and width of the model's input in pixels.

        Raises:
            UnreadableWeights: the export lacks some.
        """
        transform_output = tft.TFTransformOutput(transform_graph_uri)
        self.classes = [name.decode() for name in transform_output.vocabulary_by_name(LABEL_VOCABULARY)]
        self._spec = transform_output.raw_feature_spec()
        self._image_size = image_size
        with tf.device("CPU:0"):
            # Not what the export uses: TFT's own layer, fed with parsed Examples.
            self._transform = transform_output.transform_features_layer()
            model = make_model(
                len(self.classes),
                image_size,
                dropout=0.0,
                precision="float32",
                backbone=backbone,
                pooling=read_pooling(saved_model_path),
            )
            model.set_weights(read_exported_weights(saved_model_path, model))
            network, head = model.get_layer("backbone"), model.get_layer("head")
        # As a graph, like the export: eagerly, convolution and bias are not fused and so round elsewhere.
        self._logits = tf.function(
            lambda pixels: head(network(pixels, training=False)),
            autograph=False,
            input_signature=[tf.TensorSpec([None, image_size, image_size, 3], tf.float32)],
        )

    def transform(self, examples: Sequence[bytes]) -> np.ndarray:
        """Returns Transform's packed images, of bytes objects [examples], for serialised Examples with an image."""
        spec = {IMAGE_KEY: self._spec[IMAGE_KEY]}
        with tf.device("CPU:0"):
            parsed = tf.io.parse_example(tf.constant(list(examples)), spec)
            return self._transform(parsed)[TRANSFORMED_IMAGE_KEY].numpy()

    def unpack(self, packed: np.ndarray) -> np.ndarray:
        """Returns uint8 [images, image_size, image_size, 3], RGB, for what `transform` returned."""
        return unpack_images(tf.constant(packed), self._image_size).numpy()

    def probabilities(self, images: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
        """Computes the probabilities of the classes.

        Args:
            images: uint8 [images, image_size, image_size, 3], RGB, 0..255.
            preprocessing: the backbone's, or a wrong one to compare with.

        Returns:
            float64 [images, classes].
        """
        pixels = images.astype(np.float32)[..., :: -1 if preprocessing.reads_bgr else 1]
        pixels = (pixels - np.array(preprocessing.mean, np.float32)) / np.array(preprocessing.std, np.float32)
        with tf.device("CPU:0"):
            batches = (pixels[start : start + _BATCH_SIZE] for start in range(0, len(pixels), _BATCH_SIZE))
            logits = np.concatenate([self._logits(tf.constant(batch)).numpy() for batch in batches]).astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)
