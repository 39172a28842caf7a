"""Scoring a folder against the bare SavedModel call in its best batch, and how drift is found.

    python -m tests.benchmarks.scoring --model DIR --data FOLDER [--images 128]
    python -m tests.benchmarks.scoring --drift --model DIR --data FOLDER

The first scores images of a folder, with `pipeline.predict --out`'s own code, and calls `serving_pixels` on as many
prepared images, in the batch of 8, 16 or 32 that took the least CPU time of a few calls. Both run in this process,
in turn, `--turns` times; a ratio is bare / scoring of one turn, by CPU seconds of the process and by wall clock.

The second draws a reference and 500 scored images a hundred times from the images of a folder, which the model must not
have learned from, and says in how many of them drift was found. Without `--model` each image's class stands for the
predicted one, right in nine of ten, and a made-up probability for the model's.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from components.exported_model.loaded import LoadedModel
from data.picture import MOST_PIXELS, UnusableImage, picture_of
from data.settings import UnlabelledDataSettings
from pipeline.scoring.images import FoundImages, find_images
from pipeline.scoring.job import ScoringOptions, ScoringPlan, make_plan, score_shard
from pipeline.scoring.place import Place
from pipeline.scoring.shards import ImageReader, Scorer
from tests.benchmarks.whole_process import describe_machine
from tests.drift_draws import Pool, count_alarms, measure_shifts
from tests.images import encode

BATCHES = (8, 16, 32)
_LARGEST_SIDE = 256
"""Pixels of a photograph that is shifted, as one on a page is; blur of 2 pixels is then the same for all."""


@dataclass(frozen=True)
class Spent:
    """Seconds of a turn: of all cores, and by the clock."""

    cpu: float
    wall: float


def measure(act: Callable[[], object]) -> Spent:
    """Returns what an act takes."""
    cpu, wall = time.process_time(), time.monotonic()
    act()
    return Spent(time.process_time() - cpu, time.monotonic() - wall)


def call_bare(model: LoadedModel, prepared: list[np.ndarray | bytes], batch: int) -> None:
    """Calls the model on prepared images alone."""
    for start in range(0, len(prepared), batch):
        model.answer(prepared[start : start + batch])


def score_all(plan: ScoringPlan, scorer: Scorer, reader: ImageReader, place: Place) -> None:
    """Scores as `run_here` does, with a model that is loaded by now."""
    for shard in plan.shards:
        score_shard(shard, len(plan.shards), scorer, reader, place)


def compare(model_dir: str, data: str, count: int, turns: int) -> None:
    """Prints the turns and the ratios."""
    settings = UnlabelledDataSettings(source="image_folder", path="/")
    found = find_images([data], settings, ())
    every = max(1, len(found.references) // count)
    files = [f"{data}/{reference.path}" for reference in found.references[::every]][:count]
    model = LoadedModel(model_dir)
    prepared = [model.prepare(Path(path).read_bytes(), MOST_PIXELS) for path in files]
    sizes = [Path(path).stat().st_size for path in files]
    call_bare(model, prepared[:8], 8)
    for batch in BATCHES:
        call_bare(model, prepared[:batch], batch)  # The first call of a size traces nothing, but allocates.
    costs = {batch: measure(partial(call_bare, model, prepared[:32], batch)).cpu for batch in BATCHES}
    best = min(costs, key=lambda batch: costs[batch])
    print(f"{len(files)} images of {statistics.mean(sizes) / 1e3:.0f} KB; bare call: best batch {best}")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(turns):
            place = Place(f"{folder}/{turn}.parquet")
            plan = make_plan(files, place, ScoringOptions(model_dir, 1000, best, None, settings))
            scorer, reader = Scorer(model, "1", best, MOST_PIXELS, None), ImageReader(plan.found.read_fn)
            scored = measure(partial(score_all, plan, scorer, reader, place))
            bare = measure(partial(call_bare, model, prepared, best))
            shutil.rmtree(place.path)
            ratios.append((bare.cpu / scored.cpu, bare.wall / scored.wall))
            print(
                f"turn {turn}: scoring {scored.cpu / len(files) * 1e3:.1f} ms CPU an image,"
                f" {len(files) / scored.wall:.1f} images/s; bare {bare.cpu / len(files) * 1e3:.1f} ms,"
                f" {len(files) / bare.wall:.1f} images/s; ratio {ratios[-1][0]:.3f} CPU, {ratios[-1][1]:.3f} wall",
                flush=True,
            )
    medians = [statistics.median(column) for column in zip(*ratios, strict=True)]
    print(f"median ratio {medians[0]:.3f} CPU, {medians[1]:.3f} wall")


def read_pictures(found: FoundImages) -> list[tuple[Image.Image, str]]:
    """Returns the images that can be read, no side above 256 pixels, with the folder that each lies in."""
    pictures = []
    for reference in found.references:
        (image,) = found.read_fn(reference)
        try:
            picture = picture_of(image.encoded)
        except UnusableImage:
            continue
        picture.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
        pictures.append((picture, image.name.split("/")[-2] if "/" in image.name else ""))
    return pictures


def draw(model_dir: str | None, data: str, reference_images: int) -> None:
    """Prints in how many of 100 draws each shift was found."""
    settings = UnlabelledDataSettings(source="image_folder", path="/")
    pictures = read_pictures(find_images([data], settings, ()))
    random = np.random.default_rng(0)
    folders = [folder for _, folder in pictures]
    classes = sorted(set(folders))
    wrong = random.random(len(folders)) < 0.1
    labels = [str(random.choice(classes)) if bad else folder for folder, bad in zip(folders, wrong, strict=True)]
    confidences = random.beta(8, 1, len(labels)).tolist()
    if model_dir:
        model = LoadedModel(model_dir)
        encoded = [encode(np.asarray(picture), "PNG") for picture, _ in pictures]
        said = [model.answer([model.prepare(one, MOST_PIXELS)])[0] for one in encoded]
        labels = [one.labels[0] for one in said]
        confidences = [one.probabilities[0] for one in said]
    pool = Pool(measure_shifts([picture for picture, _ in pictures]), labels, confidences)
    found = count_alarms(pool, reference_images, random)
    shares = json.dumps(found)
    print(f"{data}: {len(labels)} images, {len(set(labels))} classes, {reference_images} of test: {shares} of 100")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="DIR")
    parser.add_argument("--data", metavar="FOLDER", required=True)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--drift", action="store_true")
    parser.add_argument("--reference-images", type=int, default=400)
    arguments = parser.parse_args()
    print(describe_machine())
    if arguments.drift:
        draw(arguments.model, arguments.data, arguments.reference_images)
    else:
        compare(arguments.model, arguments.data, arguments.images, arguments.turns)


if __name__ == "__main__":
    main()
