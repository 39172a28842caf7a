"""What formats out of TensorFlow weigh and take: `python -m tests.benchmarks.formats [--backbones NAME...]`.

Weights are random, which changes neither; of accuracy it says nothing. All runs on one processor, and what is measured
is processor time: on a processor that does nothing else it is the latency of one image at a time, and other work on the
machine changes it little. Each format is asked through its own client, in a process of its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from components.exported_model.manifest import read_manifest
from components.exported_model.signatures import PIXELS_SIGNATURE
from components.model_converter.client import CLIENT_FILE, write_companions
from components.model_converter.conversion import CALIBRATION_FILE
from components.model_converter.formats import FORMATS
from components.model_converter.processes import ProcessDied, convert
from components.trainer.backbones import BACKBONES
from components.trainer.export import export_model
from components.trainer.model import make_model
from components.transform.settings import TransformSettings
from tests.images import encode, make_pixels
from tests.transform_run import run_transform

CLASSES = 10
# The client as it is, but that its clock is the processor's.
_CLIENT = "import runpy, sys, time; time.perf_counter = time.process_time; del sys.argv[0]; runpy.run_path(sys.argv[0])"


def main() -> None:
    """Converts, asks and prints a line for each backbone and format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="+", choices=list(BACKBONES), default=["mobilenetv3-small", "vgg16"])
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--images", type=int, default=20)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # children, too
    size, random = arguments.image_size, np.random.default_rng(0)
    settings = TransformSettings(image_size=size)
    with tempfile.TemporaryDirectory() as name:
        root, images = Path(name), []
        for i in range(arguments.images):
            images.append(encode(make_pixels(i % CLASSES, size + 40, random), "JPEG"))
            (root / f"{i}.jpg").write_bytes(images[-1])
        labelled = [(image, f"class {i % CLASSES}") for i, image in enumerate(images)]
        splits = dict.fromkeys(("train", "eval", "test"), labelled)
        (root / "run").mkdir()
        transformed = run_transform(root / "run", splits, settings.model_dump())
        print(f"{size} pixels: MB, processor milliseconds an image: the median (least to most)")
        for backbone in arguments.backbones:
            saved_model = root / backbone
            model = make_model(CLASSES, size, dropout=0.0, precision="float32", backbone=backbone, pooling="last")
            export_model(model, transformed, settings, str(saved_model))
            del model
            megabytes = sum(path.stat().st_size for path in saved_model.rglob("*") if path.is_file()) / 1e6
            print(
                f"{backbone} SavedModel: {_describe(megabytes, _time(saved_model, size, arguments.images))}", flush=True
            )
            for format in FORMATS:
                print(f"{backbone} {format}: {_measure(saved_model, format, images, root)}", flush=True)


def _time(saved_model: Path, size: int, calls: int) -> list[float]:
    loaded = tf.saved_model.load(str(saved_model))
    pixels, taken = tf.zeros([1, size, size, 3], tf.uint8), []
    for _ in range(calls + 1):
        begun = time.process_time()
        loaded.signatures[PIXELS_SIGNATURE](pixels=pixels)["probabilities"].numpy()
        taken.append(time.process_time() - begun)
    return taken[1:]


def _measure(saved_model: Path, format: str, images: list[bytes], root: Path) -> str:
    manifest = read_manifest(str(saved_model))
    assert manifest is not None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with tf.io.TFRecordWriter(str(folder / CALIBRATION_FILE)) as writer:
            for image in images:
                writer.write(image)
        try:
            convert(str(saved_model), format, folder)
        except ProcessDied as fault:
            return str(fault)
        write_companions(folder, format, manifest)
        command = [sys.executable, "-c", _CLIENT, str(folder / CLIENT_FILE), *map(str, sorted(root.glob("*.jpg")))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        taken = [json.loads(line)["seconds"] for line in done.stdout.splitlines()]
        return _describe((folder / FORMATS[format].model_file).stat().st_size / 1e6, taken)


def _describe(megabytes: float, seconds: list[float]) -> str:
    least, middle, most = (1000 * value for value in (min(seconds), statistics.median(seconds), max(seconds)))
    return f"{megabytes:.1f} MB, {middle:.2f} ms ({least:.2f} to {most:.2f})"


if __name__ == "__main__":
    main()
