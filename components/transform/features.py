"""The transformed feature contract: what Transform writes and how the Trainer reads it back."""

import tensorflow as tf

from data.features import GROUP_KEY, IMAGE_KEY, LABEL_KEY, WEIGHT_KEY

CHANNELS = 3


def transformed_name(key: str) -> str:
    """Returns the name of a raw feature after Transform."""
    return f"{key}_xf"


TRANSFORMED_IMAGE_KEY = transformed_name(IMAGE_KEY)
"""bytes: `pack_image` of the model's input image."""

TRANSFORMED_LABEL_KEY = transformed_name(LABEL_KEY)
"""int64: position of the class in the vocabulary, -1 where train does not know the class."""

TRANSFORMED_WEIGHT_KEY = transformed_name(WEIGHT_KEY)
"""float32: of `WEIGHT_KEY`, where the raw examples have it."""

TRANSFORMED_GROUP_KEY = transformed_name(GROUP_KEY)
"""int64, not negative: a hash of `GROUP_KEY`, where the raw examples have it."""

FINGERPRINT_KEY = "image_fingerprint"
"""int64: `fingerprint` of the raw example's image: tells which image a transformed example is."""

LABEL_VOCABULARY = LABEL_KEY
"""The name under which `TFTransformOutput.vocabulary_by_name` finds the class names."""

TRANSFORMED_FEATURE_SPEC = {
    TRANSFORMED_IMAGE_KEY: tf.io.FixedLenFeature([], tf.string),
    TRANSFORMED_LABEL_KEY: tf.io.FixedLenFeature([], tf.int64),
}
"""What training reads."""


def fingerprint(encoded: tf.Tensor) -> tf.Tensor:
    """Returns int64 [batch], FarmHash of the bytes of string [batch]; the same on all machines and in all versions.

    The images' names and content hashes do not pass through Transform: its graph knows what the schema names.
    """
    return tf.strings.to_hash_bucket_fast(encoded, 2**63 - 1)


EXTRA_FEATURE_SPEC = {
    TRANSFORMED_WEIGHT_KEY: tf.io.FixedLenFeature([], tf.float32, 1.0),
    TRANSFORMED_GROUP_KEY: tf.io.FixedLenFeature([], tf.int64, -1),
}
"""What the examples of some data sets hold beside these, with what stands for it in all others."""


def pack_image(image: tf.Tensor) -> tf.Tensor:
    """Packs one image into a string, a quarter of the bytes of a float image and no second compression.

    Args:
        image: uint8 [height, width, 3].

    Returns:
        string scalar: the serialised TensorProto, whose last height * width * 3 bytes are the pixels.
    """
    return tf.io.serialize_tensor(image)


def unpack_images(packed: tf.Tensor, image_size: int) -> tf.Tensor:
    """Reads packed images of one size, several times faster than `tf.io.parse_tensor` image by image.

    Args:
        packed: string [batch], each from `pack_image`.
        image_size: height and width in pixels.

    Returns:
        uint8 [batch, image_size, image_size, 3], RGB.

    Raises:
        tf.errors.InvalidArgumentError: the images are smaller, or not all of one size, when the graph runs.
    """
    pixel_bytes = image_size * image_size * CHANNELS
    pixels = tf.io.decode_raw(packed, tf.uint8)[:, -pixel_bytes:]
    return tf.reshape(pixels, [tf.shape(packed)[0], image_size, image_size, CHANNELS])
