"""A small model with the signatures that scoring asks, which tells dark images from light ones."""

from pathlib import Path

import tensorflow as tf

from components.exported_model.manifest import Manifest, write_manifest
from data.decode import decode_image

CLASSES = ("dark", "light")
_SIDE = 8


def make_scoring_model(folder: Path, decides: bool = False, turns: int = 0, bias: float = 0.0) -> Path:
    """Exports the model.

    Args:
        folder: of the SavedModel.
        decides: whether it gives `decision` and `unknown_score`.
        turns: how often it multiplies matrices for nothing, to take its time.
        bias: added to the brightness.
    """

    def answer(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        light = tf.clip_by_value(tf.reduce_mean(tf.cast(pixels, tf.float32), axis=[1, 2, 3]) / 255 + bias, 0, 1)
        matrix = tf.eye(256) * tf.reduce_max(light)
        for _ in range(turns):
            matrix = tf.linalg.matmul(matrix, matrix)
        top = tf.math.top_k(tf.stack([1 - light + 0 * matrix[0, 1], light], axis=1), k=2)
        labels = tf.gather(tf.constant(CLASSES), top.indices)
        told = {"labels": labels, "probabilities": top.values}
        if decides:
            told["decision"] = tf.where(top.values[:, 0] > 0.7, labels[:, 0], "")
            told["unknown_score"] = 2 * (1 - top.values[:, 0])
        return told

    def resize_picture(picture: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"pixels": tf.cast(tf.image.resize(picture, [_SIDE, _SIDE]), tf.uint8)}

    def serving_default(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        decoded = tf.map_fn(
            lambda one: resize_picture(decode_image(one))["pixels"], image_bytes, fn_output_signature=tf.uint8
        )
        return answer(tf.reshape(decoded, [-1, _SIDE, _SIDE, 3]))

    module = tf.Module()
    signatures = {
        "serving_default": (serving_default, tf.TensorSpec([None], tf.string, "image_bytes")),
        "serving_pixels": (answer, tf.TensorSpec([None, _SIDE, _SIDE, 3], tf.uint8, "pixels")),
        "resize_picture": (resize_picture, tf.TensorSpec([None, None, 3], tf.uint8, "picture")),
    }
    functions = {
        name: tf.function(function, autograph=False, input_signature=[argument])
        for name, (function, argument) in signatures.items()
    }
    tf.saved_model.save(module, str(folder), signatures=functions)
    write_manifest(
        str(folder), Manifest(backbone="vgg16", learn_statistics=False, image_size=_SIDE, classes=CLASSES, versions={})
    )
    return folder
