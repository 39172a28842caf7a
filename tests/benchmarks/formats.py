"""Sizes and latencies of formats out of TensorFlow: `python -m tests.benchmarks.formats [--backbones NAME...]`.

Weights are random, which changes neither; of accuracy it says nothing. Each format is asked through its own client, one
image at a time, in a process of its own that is started several times. On a machine that does other work, the least of
all images says more than the median.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from components.exported_model.manifest import read_manifest
from components.model_converter.client import write_companions
from components.model_converter.conversion import CALIBRATION_FILE
from components.model_converter.formats import FORMATS
from components.model_converter.processes import ProcessDied, ask_client, convert
from components.trainer.backbones import BACKBONES
from components.trainer.export import export_model
from components.trainer.model import make_model
from components.transform.settings import TransformSettings
from tests.images import encode, make_pixels
from tests.transform_run import run_transform

CLASSES = 10


def main() -> None:
    """Converts, asks and prints a line for each backbone and format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="+", choices=list(BACKBONES), default=["mobilenetv3-small", "vgg16"])
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--starts", type=int, default=5)
    arguments = parser.parse_args()
    size, random = arguments.image_size, np.random.default_rng(0)
    images = [encode(make_pixels(i % CLASSES, size + 40, random), "JPEG") for i in range(arguments.images)]
    labelled = [(image, f"class {i % CLASSES}") for i, image in enumerate(images)]
    print(f"{size} pixels, {os.cpu_count()} CPUs: MB, ms an image (the least, the median)")
    with tempfile.TemporaryDirectory() as name:
        settings = TransformSettings(image_size=size)
        transformed = run_transform(
            Path(name) / "run", dict.fromkeys(("train", "eval", "test"), labelled), settings.model_dump()
        )
        for backbone in arguments.backbones:
            saved_model = Path(name) / backbone
            model = make_model(CLASSES, size, dropout=0.0, precision="float32", backbone=backbone, pooling="last")
            export_model(model, transformed, settings, str(saved_model))
            for format in FORMATS:
                print(f"{backbone} {format}: {_measure(saved_model, format, images, arguments.starts)}", flush=True)


def _measure(saved_model: Path, format: str, images: list[bytes], starts: int) -> str:
    manifest = read_manifest(str(saved_model))
    assert manifest is not None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with tf.io.TFRecordWriter(str(folder / CALIBRATION_FILE)) as writer:
            for image in images:
                writer.write(image)
        try:
            before = convert(str(saved_model), format, folder)
        except ProcessDied as fault:
            return str(fault)
        write_companions(folder, format, manifest)
        taken = [1000 * seconds for _ in range(starts) for _, seconds in ask_client(folder, images, len(images))]
        megabytes = (folder / FORMATS[format].model_file).stat().st_size / 1e6
    return (
        f"{megabytes:.1f} MB, {min(taken):.2f} ms (median {statistics.median(taken):.2f}); SavedModel {before:.2f} ms"
    )


if __name__ == "__main__":
    main()
