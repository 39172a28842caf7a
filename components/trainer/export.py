"""The exported model: raw bytes or Examples in, labels and probabilities out.

A plain `tf.Module` is saved, not a Keras model: TFMA treats it as the generic SavedModel that it is, and Keras's own
export traces every layer once more, which took 10 s. The image goes through the graph that Transform wrote, so that
serving cannot differ from training in how it decodes or resizes.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import tensorflow as tf
import tensorflow_transform as tft
import tf_keras

from components.exported_model.decision import UNDECIDED, DecisionRule, decide_always
from components.exported_model.manifest import PROJECT_VERSION, Manifest, write_manifest
from components.exported_model.signatures import DECISION, PIXELS_ARGUMENT, SIGNATURES, TOP_K, UNKNOWN_SCORE
from components.exported_model.weights import UnreadableWeights, read_weights, weight_key
from components.lane import installed_lane
from components.trainer.backbones import Pooling
from components.trainer.evidence import Evidence
from components.trainer.known_images import KnownImages, score_in_graph
from components.trainer.model import ImageClassifier, make_model
from components.trainer.transform_graph import RawFeature, TransformGraph
from components.transform.features import (
    LABEL_VOCABULARY,
    TRANSFORMED_FEATURE_SPEC,
    TRANSFORMED_IMAGE_KEY,
    unpack_images,
)
from components.transform.resize import resize_image
from components.transform.settings import TransformSettings
from data.bit_depth import WHOLE
from data.features import IMAGE_KEY, LABEL_KEY


def export_model(
    model: ImageClassifier,
    transform_output: tft.TFTransformOutput,
    transform: TransformSettings,
    export_dir: str,
    weights: str = "none",
    weights_sha256: str | None = None,
    bit_depth: int = WHOLE,
    rule: DecisionRule | None = None,
    known: KnownImages | None = None,
) -> None:
    """Writes a SavedModel with `SIGNATURES` that computes in float32, whatever it was trained in, and its manifest.

    Args:
        model: trained, from `make_model`.
        transform_output: of the Transform whose examples it was trained on.
        transform: with which that made them.
        export_dir: local or `gs://`.
        weights: what the training started from, see `Manifest`.
        weights_sha256: of that, if it was a file.
        bit_depth: of the examples, see `Manifest`.
        rule: when it decides; None decides always.
        known: the images of train, by their embeddings; None knows every image.
    """
    classes = transform_output.vocabulary_by_name(LABEL_VOCABULARY)
    rule = rule or decide_always(classes)
    module = ServingModule(
        rebuild_in_float32(model, len(classes), transform.image_size),
        TransformGraph(transform_output),
        classes,
        transform,
        rule,
        known,
    )
    tf.saved_model.save(module, export_dir, signatures=module.make_signatures())
    manifest = Manifest(
        backbone=model.backbone_name,
        learn_statistics=model.learn_statistics,
        pooling=model.pooling,
        image_size=transform.image_size,
        aspect=transform.aspect,
        resize_method=transform.resize_method,
        classes=tuple(name.decode() for name in classes),
        weights=weights,
        weights_sha256=weights_sha256,
        bit_depth=bit_depth,
        decision=rule,
        versions={
            "project": PROJECT_VERSION,
            "lane": installed_lane(),
            "tensorflow": tf.__version__,
            "tf_keras": tf_keras.__version__,
        },
    )
    write_manifest(export_dir, manifest)


def rebuild_in_float32(model: ImageClassifier, class_count: int, image_size: int) -> ImageClassifier:
    """Returns a model of the same backbone and weights, preprocessing included, that computes in float32."""
    rebuilt = _make_float32(class_count, image_size, model.backbone_name, model.pooling)
    rebuilt.set_weights(model.get_weights())
    return rebuilt


def load_classifier(saved_model_path: str, manifest: Manifest) -> ImageClassifier:
    """Rebuilds an exported model in Keras, computing in float32: its signatures give no gradients, nor parts of it.

    Raises:
        UnreadableWeights: its weights are not those of what its manifest says that it is.
    """
    pooling = cast(Pooling, manifest.pooling)
    model = _make_float32(len(manifest.classes), manifest.image_size, manifest.backbone, pooling)
    arrays = read_weights(saved_model_path, map(weight_key, model.weights))
    for variable, array in zip(model.weights, arrays, strict=True):
        if array.shape != tuple(variable.shape):
            raise UnreadableWeights(
                f"the weight {weight_key(variable)} has the shape {list(array.shape)}; "
                f"{variable.shape.as_list()} was expected"
            )
    model.set_weights(arrays)
    return model


def _make_float32(class_count: int, image_size: int, backbone: str, pooling: Pooling) -> ImageClassifier:
    return make_model(class_count, image_size, dropout=0.0, precision="float32", backbone=backbone, pooling=pooling)


class ServingModule(tf.Module):
    """What is saved: the variables, Transform's graph and the signatures, but not the Keras model itself."""

    def __init__(
        self,
        model: ImageClassifier,
        transform_graph: TransformGraph,
        classes: Sequence[bytes],
        transform: TransformSettings,
        rule: DecisionRule | None = None,
        known: KnownImages | None = None,
    ) -> None:
        """Holds what the signatures need; `classes` is the vocabulary in UTF-8."""
        super().__init__()
        # These keys name the weights in the saved checkpoint: a later warm start reads them by layer.
        self.weights = {weight_key(variable): variable for variable in model.weights}
        self.known = (
            {name: tf.Variable(part, trainable=False) for name, part in known.arrays().items()} if known else {}
        )
        self.transform_graph = transform_graph
        self._rule = rule or decide_always(classes)
        self._classes = tuple(classes)
        self._transform = transform
        # A function, because an attribute that is a Keras model is tracked, and saving it traces each of its layers.
        head = model.get_layer("head")
        embedder, pixels = tf_keras.Model(model.input, head.input), tf.TensorSpec(model.input.shape, tf.uint8)
        # One function of the whole network, which all signatures call: traced and saved once.
        self._embed: Callable[[tf.Tensor], tf.Tensor] = tf.function(
            lambda images: embedder(images, training=False), autograph=False, input_signature=[pixels]
        )
        self._classify: Callable[[tf.Tensor], tf.Tensor] = lambda embeddings: tf.nn.softmax(head(embeddings))
        evidence = Evidence(model)
        self._explain: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]] = lambda images: evidence(images)

    def make_signatures(self) -> dict[str, Any]:
        """Returns the functions of `SIGNATURES` by name; AutoGraph has nothing to convert in them."""

        def serving_default(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            images = self.transform_graph.as_raw_feature(IMAGE_KEY, image_bytes)
            return self._answer(*self._predict({IMAGE_KEY: images}))

        def serving_picture(picture: tf.Tensor) -> dict[str, tf.Tensor]:
            return serving_pixels(resize_picture(picture)["pixels"][tf.newaxis])

        def resize_picture(picture: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"pixels": resize_image(picture, self._transform)}

        def serving_pixels(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
            embeddings = self._embed(pixels)
            return self._answer(self._classify(embeddings), embeddings)

        def explain(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
            logits, evidence = self._explain(pixels)
            return {**self._likeliest(tf.nn.softmax(logits)), "evidence": evidence}

        def serving_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            probabilities, embeddings = self._predict(self.transform_graph.parse(examples, [IMAGE_KEY]))
            return {"probabilities": probabilities, **self._judge(probabilities, embeddings)}

        def embed_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            probabilities, embeddings = self._predict(self.transform_graph.parse(examples, [IMAGE_KEY]))
            judged = self._judge(probabilities, embeddings)
            return {"probabilities": probabilities, "embeddings": embeddings, **judged}

        def transform_features(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            transformed = self.transform_graph.apply(self.transform_graph.parse(examples, [IMAGE_KEY, LABEL_KEY]))
            return {key: transformed[key] for key in TRANSFORMED_FEATURE_SPEC}

        signatures = {}
        for function in (
            serving_default,
            serving_picture,
            resize_picture,
            serving_pixels,
            explain,
            serving_examples,
            embed_examples,
            transform_features,
        ):
            signature = SIGNATURES[function.__name__]
            shape = list(signature.shape)
            if signature.argument == PIXELS_ARGUMENT:
                shape[1:3] = [self._transform.image_size] * 2
            argument = tf.TensorSpec(shape, signature.dtype, name=signature.argument)
            signatures[function.__name__] = tf.function(function, autograph=False, input_signature=[argument])
        return signatures

    def _answer(self, probabilities: tf.Tensor, embeddings: tf.Tensor) -> dict[str, tf.Tensor]:
        """Maps probabilities [batch, classes] and embeddings to the likeliest classes and what to do with them."""
        return {**self._likeliest(probabilities), **self._judge(probabilities, embeddings)}

    def _likeliest(self, probabilities: tf.Tensor) -> dict[str, tf.Tensor]:
        """Maps probabilities [batch, classes] to the likeliest classes, best first."""
        top = tf.math.top_k(probabilities, k=min(TOP_K, len(self._classes)))
        return {"labels": tf.gather(tf.constant(self._classes), top.indices), "probabilities": top.values}

    def _judge(self, probabilities: tf.Tensor, embeddings: tf.Tensor) -> dict[str, tf.Tensor]:
        """Maps both to whether the likeliest class may be acted upon, and how unlike train's the images are."""
        scores = score_in_graph(self.known, embeddings) if self.known else tf.zeros_like(embeddings[:, 0])
        top = tf.math.top_k(probabilities, k=1)
        chosen, probability = top.indices[:, 0], top.values[:, 0]
        decides = probability >= tf.gather(tf.constant(self._rule.thresholds, tf.float32), chosen)
        if self._rule.refuse_unknown:
            decides &= scores <= 1.0
        names = tf.gather(tf.constant(self._classes), chosen)
        return {DECISION: tf.where(decides, names, UNDECIDED), UNKNOWN_SCORE: scores}

    def _predict(self, features: dict[str, RawFeature]) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps raw features that include the image to probabilities [batch, classes] and embeddings, float32."""
        packed = self.transform_graph.apply(features)[TRANSFORMED_IMAGE_KEY]
        embeddings = self._embed(unpack_images(packed, self._transform.image_size))
        return self._classify(embeddings), embeddings
