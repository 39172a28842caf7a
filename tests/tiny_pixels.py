"""A tiny network with the signatures that pixels go through, which tells colours, and examples of these."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tfx.types import standard_artifacts

from components.exported_model.manifest import Manifest, write_manifest
from components.transform.resize import resize_image
from components.transform.settings import TransformSettings
from data.decode import decode_image
from data.features import IMAGE_KEY, LABEL_KEY
from tests.images import encode

COLOURS = ("blau", "grün", "rot")
SIZE = 16


def paint(colour: str, seed: int) -> bytes:
    """Returns a JPEG of some size in which a colour is the strongest."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 90, (*random.integers(20, 60, 2), 3)).astype(np.uint8)
    pixels[..., 2 - COLOURS.index(colour)] += 60
    return encode(pixels, "JPEG", quality=95)


def make_model(root: Path, *, pixels: bool = True, **transform: Any) -> standard_artifacts.Model:
    """Exports a model of one convolution.

    Args:
        root: of the artifact.
        pixels: whether it has the signature `serving_pixels`.
        **transform: of `TransformSettings`, but for the size.
    """
    settings = TransformSettings(image_size=SIZE, **transform)
    kernel = tf.Variable(np.eye(3, dtype=np.float32)[::-1].reshape(1, 1, 3, 3) / 20)

    def tell(images: tf.Tensor) -> tf.Tensor:
        seen = tf.nn.relu(tf.nn.conv2d(tf.cast(images, tf.float32), kernel, 2, "SAME"))
        return tf.nn.softmax(tf.reduce_mean(seen, [1, 2]))

    def prepare(encoded: tf.Tensor) -> tf.Tensor:
        shape = tf.TensorSpec([SIZE, SIZE, 3], tf.uint8)
        return tf.map_fn(lambda one: resize_image(decode_image(one), settings), encoded, fn_output_signature=shape)

    def serving_pixels(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        top = tf.math.top_k(tell(pixels), k=len(COLOURS))
        return {"labels": tf.gather(tf.constant(COLOURS), top.indices), "probabilities": top.values}

    def serving_default(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return serving_pixels(prepare(image_bytes))

    def resize_picture(picture: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"pixels": resize_image(picture, settings)}

    def serving_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(examples, {IMAGE_KEY: tf.io.FixedLenFeature([], tf.string)})
        return {"probabilities": tell(prepare(parsed[IMAGE_KEY]))}

    functions = [
        (serving_default, tf.TensorSpec([None], tf.string, "image_bytes")),
        (resize_picture, tf.TensorSpec([None, None, 3], tf.uint8, "picture")),
        (serving_examples, tf.TensorSpec([None], tf.string, "examples")),
        *([(serving_pixels, tf.TensorSpec([None, SIZE, SIZE, 3], tf.uint8, "pixels"))] if pixels else []),
    ]
    signatures = {
        function.__name__: tf.function(function, autograph=False, input_signature=[argument])
        for function, argument in functions
    }
    module = tf.Module()
    module.kernel = kernel
    path = str(root / "Format-Serving")
    tf.saved_model.save(module, path, signatures=signatures)
    manifest = Manifest(
        backbone="vgg16",
        learn_statistics=False,
        classes=COLOURS,
        versions={},
        image_size=SIZE,
        aspect=settings.aspect,
        resize_method=settings.resize_method,
    )
    write_manifest(path, manifest)
    model = standard_artifacts.Model()
    model.uri = str(root)
    return model


def make_examples(root: Path, splits: Mapping[str, Sequence[tuple[bytes, str]]]) -> standard_artifacts.Examples:
    """Writes examples, each an encoded image and its label."""
    for split, images in splits.items():
        folder = root / f"Split-{split}"
        folder.mkdir(parents=True)
        with tf.io.TFRecordWriter(str(folder / "data-00000-of-00001.gz"), "GZIP") as writer:
            for image, label in images:
                values = {IMAGE_KEY: image, LABEL_KEY: label.encode()}
                features = {
                    key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for key, value in values.items()
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    examples = standard_artifacts.Examples()
    examples.uri, examples.split_names = str(root), str(list(splits)).replace("'", '"')
    return examples
