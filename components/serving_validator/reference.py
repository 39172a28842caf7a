"""What the model must answer, computed apart from it: Transform's own graph, the registry, and the model in Python."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from components.exported_model.manifest import Manifest
from components.exported_model.weights import read_parts
from components.trainer.backbones import Preprocessing
from components.trainer.evidence import Evidence
from components.trainer.export import load_classifier
from components.trainer.known_images import KNOWN_PARTS, KnownImages
from components.transform.features import LABEL_VOCABULARY, TRANSFORMED_IMAGE_KEY, unpack_images
from data.features import IMAGE_KEY

_BATCH_SIZE = 16


class Reference:
    """The answers to expect, on the CPU, where the fresh process computes too.

    Attributes:
        classes: the names in the order of the probabilities, from Transform's vocabulary.
        known: what tells unknown images; None in a model that knows every image.
    """

    def __init__(self, saved_model_path: str, manifest: Manifest, transform_graph_uri: str) -> None:
        """Loads Transform's graph and builds the model.

        Args:
            saved_model_path: folder of the export, of which only the weights are read.
            manifest: of the export.
            transform_graph_uri: of Transform's output.

        Raises:
            UnreadableWeights: they are not those of what the manifest says.
        """
        transform_output = tft.TFTransformOutput(transform_graph_uri)
        self.classes = [name.decode() for name in transform_output.vocabulary_by_name(LABEL_VOCABULARY)]
        self._spec = transform_output.raw_feature_spec()
        self._image_size = manifest.image_size
        with tf.device("CPU:0"):
            # Not what the export uses: TFT's own layer, fed with parsed Examples.
            self._transform = transform_output.transform_features_layer()
            model = load_classifier(saved_model_path, manifest)
            network, head = model.get_layer("backbone"), model.get_layer("head")
            self._evidence = tf.function(Evidence(model), autograph=False)
        parts = read_parts(saved_model_path, "known", KNOWN_PARTS)
        self.known = KnownImages(**parts) if parts else None
        # As a graph, like the export: eagerly, convolution and bias are not fused and so round elsewhere.
        self._compute = tf.function(
            lambda pixels: (embeddings := network(pixels, training=False), head(embeddings)),
            autograph=False,
            input_signature=[tf.TensorSpec([None, self._image_size, self._image_size, 3], tf.float32)],
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

    def evidence(self, images: np.ndarray) -> np.ndarray:
        """Returns where the evidence for the likeliest class lies, float32 [images, rows, columns] in 0..1."""
        with tf.device("CPU:0"):
            return self._evidence(tf.constant(images))[1].numpy()

    def probabilities(self, images: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
        """Returns `answer` without how unlike train's the images are."""
        return self.answer(images, preprocessing)[0]

    def answer(self, images: np.ndarray, preprocessing: Preprocessing) -> tuple[np.ndarray, np.ndarray]:
        """Computes the probabilities of the classes, and how unlike train's the images are.

        Args:
            images: uint8 [images, image_size, image_size, 3], RGB, 0..255.
            preprocessing: the backbone's, or a wrong one to compare with.

        Returns:
            float64 [images, classes], and float64 [images].
        """
        pixels = images.astype(np.float32)[..., :: -1 if preprocessing.reads_bgr else 1]
        pixels = (pixels - np.array(preprocessing.mean, np.float32)) / np.array(preprocessing.std, np.float32)
        with tf.device("CPU:0"):
            starts = range(0, len(pixels), _BATCH_SIZE)
            batches = [self._compute(tf.constant(pixels[start : start + _BATCH_SIZE])) for start in starts]
        embeddings, logits = (np.concatenate(parts).astype(np.float64) for parts in zip(*batches, strict=True))
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = self.known.score(embeddings) if self.known else np.zeros(len(images))
        return shares / shares.sum(axis=1, keepdims=True), scores
