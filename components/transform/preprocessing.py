"""What TFX's Transform calls, by import path: raw Examples in, uint8 images and label indices out.

Transform reloads this module: it holds functions and constants only.
"""

from typing import Any

import tensorflow as tf

from components.transform.features import (
    FINGERPRINT_KEY,
    LABEL_VOCABULARY,
    TRANSFORMED_GROUP_KEY,
    TRANSFORMED_IMAGE_KEY,
    TRANSFORMED_LABEL_KEY,
    TRANSFORMED_WEIGHT_KEY,
    fingerprint,
    pack_image,
)
from components.transform.label_vocabulary import apply_label_vocabulary
from components.transform.resize import resize_image
from components.transform.settings import TransformSettings
from data.decode import decode_image
from data.features import GROUP_KEY, IMAGE_KEY, LABEL_KEY, WEIGHT_KEY


def preprocessing_fn(inputs: dict[str, Any], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Decodes and resizes each image once, and maps each label to its index.

    Args:
        inputs: the raw features of a batch; those of `data.features.IMAGE_KEY` and `LABEL_KEY` are used, and, where
            the data set has them, `WEIGHT_KEY` and `GROUP_KEY`.
        custom_config: `transform`, the dump of `TransformSettings`; other keys only mark the cache.

    Returns:
        The features of `components.transform.features.TRANSFORMED_FEATURE_SPEC`, the `FINGERPRINT_KEY`, and those of
        `EXTRA_FEATURE_SPEC` that the data set has, each of shape [batch].
    """
    settings = TransformSettings.model_validate(custom_config["transform"])
    encoded = _one_per_example(inputs[IMAGE_KEY])
    extras = {}
    if WEIGHT_KEY in inputs:
        extras[TRANSFORMED_WEIGHT_KEY] = _one_per_example(inputs[WEIGHT_KEY])
    if GROUP_KEY in inputs:
        groups = _one_per_example(inputs[GROUP_KEY])
        extras[TRANSFORMED_GROUP_KEY] = tf.strings.to_hash_bucket_fast(groups, tf.int64.max)
    return {
        TRANSFORMED_IMAGE_KEY: _pack_images(encoded, settings),
        FINGERPRINT_KEY: fingerprint(encoded),
        TRANSFORMED_LABEL_KEY: apply_label_vocabulary(_one_per_example(inputs[LABEL_KEY]), LABEL_VOCABULARY),
        **extras,
    }


def _pack_images(encoded: tf.Tensor, settings: TransformSettings) -> tf.Tensor:
    """Decodes, resizes and packs a string [batch] of encoded images into a string [batch]; their sizes differ."""
    return tf.map_fn(
        lambda one: pack_image(resize_image(decode_image(one), settings)),
        encoded,
        fn_output_signature=tf.TensorSpec([], tf.string),
    )


def _one_per_example(feature: tf.Tensor | tf.SparseTensor) -> tf.Tensor:
    """Returns a feature as [batch], whether the schema made it [batch], [batch, 1] or sparse."""
    if isinstance(feature, tf.SparseTensor):
        feature = tf.sparse.to_dense(feature)
    return tf.reshape(feature, [-1])
