"""Transforms, exports and reads, so that one TensorFlow can read what another wrote.

    python -m tests.tensorflow_exchange ROOT transform export read:NAME

`test_tensorflow_exchange.py` calls the same functions in its own process.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tf_keras

from components.exported_model.manifest import read_manifest
from components.exported_model.signatures import PIXELS_ARGUMENT, SIGNATURES
from components.trainer.export import export_model, load_classifier
from components.trainer.model import make_model
from components.trainer.transform_graph import TransformGraph
from components.transform.features import CHANNELS, TRANSFORMED_IMAGE_KEY, unpack_images
from components.transform.settings import TransformSettings
from data.features import IMAGE_KEY, LABEL_KEY
from tests.images import make_grey_jpeg, make_jpeg, make_png, make_rgba_png
from tests.transform_run import SPLITS, make_example, run_transform

SIZE = 32
IMAGES = [(make_jpeg(), "ant"), (make_png(), "bee"), (make_grey_jpeg(), "bee"), (make_rgba_png(), "ünï")]


def transform(root: Path) -> None:
    """Writes Transform's graph to `root/graph`."""
    run_transform(root, dict.fromkeys(SPLITS, IMAGES), {"image_size": SIZE})


def export(root: Path) -> None:
    """Exports a random VGG16 with that graph to `root/export`."""
    tf_keras.utils.set_random_seed(3)
    model = make_model(3, SIZE, dropout=0.0, precision="float32")
    export_model(
        model, tft.TFTransformOutput(str(root / "graph")), TransformSettings(image_size=SIZE), str(root / "export")
    )


def read(root: Path, name: str) -> None:
    """Writes what the graph, the export's signatures and its weights in Keras, as a warm start has them, give."""
    examples = tf.constant([make_example(encoded, label, "") for encoded, label in IMAGES])
    graph = TransformGraph(tft.TFTransformOutput(str(root / "graph")))
    found = {f"graph.{key}": value for key, value in graph.apply(graph.parse(examples, [IMAGE_KEY, LABEL_KEY])).items()}
    loaded = tf.saved_model.load(str(root / "export"))
    pictures = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, CHANNELS), np.uint8)
    values = {
        "image_bytes": tf.constant([encoded for encoded, _ in IMAGES]),
        "examples": examples,
        "picture": tf.constant(pictures[0]),
        PIXELS_ARGUMENT: tf.constant(pictures),
    }
    for key, signature in SIGNATURES.items():
        outputs = loaded.signatures[key](**{signature.argument: values[signature.argument]})
        found |= {f"{key}.{output}": value for output, value in outputs.items()}
    manifest = read_manifest(str(root / "export"))
    model = load_classifier(str(root / "export"), manifest)
    images = unpack_images(found[f"graph.{TRANSFORMED_IMAGE_KEY}"], SIZE)
    found["weights.probabilities"] = tf.nn.softmax(model(images, training=False))
    versions = {"read_by": tf.__version__, "exported_by": manifest.versions["tensorflow"]}
    np.savez(root / f"{name}.npz", **versions, **{key: np.asarray(value) for key, value in found.items()})


if __name__ == "__main__":
    for command in sys.argv[2:]:
        verb, *arguments = command.split(":")
        {"transform": transform, "export": export, "read": read}[verb](Path(sys.argv[1]), *arguments)
