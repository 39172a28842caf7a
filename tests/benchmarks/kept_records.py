"""What is kept of each image where all are decided on or reported: `python -m tests.benchmarks.kept_records`.

Makes up records of 1.2 million images, has ImageExampleGen list them and choose among them, Predictor write predictions
on a tenth of them and ReportGen read these, and looks for near duplicates among a twelfth, which is as many as this is
offered for; prints the most anonymous memory that each took beyond its imports, and its time.
"""

import argparse
import base64
import functools
import hashlib
import json
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import apache_beam as beam
import numpy as np

from components.image_example_gen.alike import find_alike
from components.image_example_gen.check import read_records
from components.predictor.predictions import PredictionsWriter, read_predictions
from data.image_hashes import make_image_hashes
from data.near_duplicates import VALUES
from data.settings import DataSettings
from data.sources.image_file import ImageFile
from data.sources.reading import ReadAll
from data.sources.source import SourceImage
from data.splits import choose_images
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS

_CLASSES = 1000
_CHANNELS = 512


def measure(work: Callable[[int], object], images: int) -> float:
    """Runs something in a process of its own and returns the GiB that it took beyond its imports."""
    parent, child = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_watch, args=(child, work, images))
    process.start()
    child.close()  # Here; else a process that fails would be waited for.
    gib = parent.recv()
    process.join()
    return gib


def _watch(pipe: Connection, work: Callable[[int], object], images: int) -> None:
    before = _anonymous_gib()
    peak, done = [before], threading.Event()

    def sample() -> None:
        while not done.wait(0.05):
            peak.append(_anonymous_gib())

    sampler = threading.Thread(target=sample)
    sampler.start()
    kept = work(images)
    peak.append(_anonymous_gib())
    done.set()
    sampler.join()
    del kept
    pipe.send(max(peak) - before)


def _anonymous_gib() -> float:
    for line in Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 2**20
    raise AssertionError


def list_images(images: int) -> None:
    """What the first step of both jobs does with a folder's files; none is read."""
    with beam.Pipeline(argv=list(IN_PROCESS_BEAM_ARGS)) as pipeline:
        _ = pipeline | ReadAll(functools.partial(_image_files, images), _path_of, _read_nothing, one_by_one=True)


def _image_files(images: int) -> list[ImageFile]:
    return [
        ImageFile(f"train/n{i % _CLASSES:08}/n{i}.JPEG", f"n{i % _CLASSES:08}", "train", None) for i in range(images)
    ]


def _path_of(image: ImageFile) -> str:
    return image.path


def _read_nothing(_: ImageFile) -> list[SourceImage]:
    return []


def choose(images: int) -> object:
    """What ImageExampleGen does between its two jobs, every split declared as in ImageNet's folders."""
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/records", "w", encoding="utf-8") as file:
            for line in _record_lines(images):
                file.write(line)
        selection = choose_images(read_records(folder), DataSettings(source="image_folder", path=folder))
    return selection, [make_image_hashes(hashes) for hashes in selection.content_hashes.values()]


def _record_lines(images: int) -> Iterator[str]:
    for i in range(images):
        label, split = f"n{i % _CLASSES:08}", ("train", "train", "eval", "test")[i % 4]
        yield (
            f'{{"record": {{"name": "{split}/{label}/{label}_{i}.JPEG", "label": "{label}", "split": "{split}", '
            f'"sha256": "{hashlib.sha256(str(i).encode()).hexdigest()}", "reencoded": false, "peak": null, '
            '"problem": null, "fatal": false, "group": null, "weight": 1.0}, "figures": null}\n'
        )


def predict(images: int) -> object:
    """What Predictor writes."""
    folder = Path(tempfile.gettempdir(), "kept-records")
    folder.mkdir(exist_ok=True)
    names = [f"n{i:08}" for i in range(_CLASSES)]
    random = np.random.default_rng(0)
    with PredictionsWriter(str(folder), names) as writer:
        for start in range(0, images, 16):
            numbers = range(start, min(start + 16, images))
            labels = [names[i % _CLASSES] for i in numbers]
            writer.write(
                {
                    "file_name": [f"test/{label}/{label}_{i}.JPEG" for i, label in zip(numbers, labels, strict=True)],
                    "content_sha256": [hashlib.sha256(str(i).encode()).hexdigest() for i in numbers],
                    "label": labels,
                    "label_index": [i % _CLASSES for i in numbers],
                    "height": [500] * len(labels),
                    "width": [400] * len(labels),
                    "format": ["jpeg"] * len(labels),
                    "probabilities": random.dirichlet(np.ones(_CLASSES), len(labels)).astype(np.float32),
                    "decision": labels,
                    "unknown_score": random.random(len(labels), np.float32),
                    "embedding": random.random((len(labels), _CHANNELS), np.float32),
                    "baseline_probabilities": None,
                }
            )
    return None


def read(images: int) -> object:
    """What ReportGen reads of that."""
    return read_predictions(str(Path(tempfile.gettempdir(), "kept-records")))


def find_near_duplicates(images: int) -> object:
    """What `data.near_duplicates=keep_together` does between the two jobs; one image in twenty is like another."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/records", "w", encoding="utf-8") as file:
            for i in range(images):
                if i % 20 != 1:
                    vector = random.normal(size=VALUES)
                    vector /= np.linalg.norm(vector)
                other = vector + random.normal(size=VALUES) * 0.002  # a cosine of 0.999
                text = base64.b64encode(other.astype(np.float16).tobytes()).decode()
                sha256 = hashlib.sha256(str(i).encode()).hexdigest()
                file.write(json.dumps({"record": {"sha256": sha256}, "descriptor": text}) + "\n")
        started = time.process_time()
        found = find_alike(folder)
    print(f"{len(found):,} like another; {time.process_time() - started:.0f} s of CPU time", flush=True)
    return found


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_200_000, help="made-up records (1,200,000)")
    images = parser.parse_args().images
    for name, work, count in (
        ("ImageExampleGen's listing", list_images, images),
        ("ImageExampleGen's driver", choose, images),
        ("Predictor", predict, images // 10),
        ("ReportGen's predictions", read, images // 10),
        ("near duplicates", find_near_duplicates, images // 12),
    ):
        started = time.monotonic()
        gib = measure(work, count)
        print(
            f"{name:<26}{count:>10,} images{gib:7.2f} GiB{gib * 2**30 / count:8.0f} bytes an image"
            f"{time.monotonic() - started:7.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
