"""One scoring from beginning to end, in this process or on Dataflow."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from components.exported_model import SAVED_MODEL_FILE
from components.exported_model.loaded import LoadedModel
from components.exported_model.manifest import read_manifest
from components.progress import report_progress
from data import gfile
from data.errors import UserError
from data.files import read_bytes
from data.settings import UnlabelledDataSettings
from pipeline.scoring.images import FoundImages, find_images, is_one_image
from pipeline.scoring.place import Place
from pipeline.scoring.shards import ImageReader, Scorer, Shard, count_images, divide

_FORMAT = 1
"""Of the rows; another one cannot go on with what is there."""


@dataclass(frozen=True)
class ScoringOptions:
    """How a model scores.

    Attributes:
        model: folder of a SavedModel, local, `gs://` or `s3://`.
        shard_images: images of a shard.
        batch_size: images that the model is asked about at once.
        top_k: classes of an answer; None for all that the model names.
        data: how tables and records are read, and the largest image.
    """

    model: str
    shard_images: int
    batch_size: int
    top_k: int | None
    data: UnlabelledDataSettings

    @property
    def version(self) -> str:
        """The name of the model's folder, which is its version where it was pushed."""
        return os.path.basename(os.path.normpath(self.model))

    def find_images(self, places: Sequence[str]) -> FoundImages:
        """Finds the images of places; errors as the function's."""
        manifest = read_manifest(self.model)
        return find_images(places, self.data, manifest.classes if manifest else ())

    def make_scorer(self) -> Scorer:
        """Loads the model.

        Raises:
            UserError: it cannot be loaded, or answers fewer classes.
        """
        model = LoadedModel(self.model)
        if self.top_k is not None and self.top_k > model.top_k:
            raise UserError(f"--top-k {self.top_k}: this model answers at most {model.top_k} classes")
        return Scorer(model, self.version, self.batch_size, self.data.max_pixels, self.top_k)


@dataclass(frozen=True)
class ScoringPlan:
    """What is to be done.

    Attributes:
        places: as they were given.
        found: the images.
        counts: of each reference's images; None where each is one.
        shards: all of them.
        missing: numbers of those that are not there.
    """

    places: tuple[str, ...]
    found: FoundImages
    counts: list[int] | None
    shards: list[Shard]
    missing: list[int]

    @property
    def images(self) -> int:
        """The number of images of all shards."""
        return sum(map(len, self.shards))

    @property
    def images_missing(self) -> int:
        """The number of images that are still to be scored."""
        return sum(len(self.shards[number]) for number in self.missing)


def make_plan(places: Sequence[str], place: Place, options: ScoringOptions) -> ScoringPlan:
    """Finds the images, divides them, and sees what is there already.

    Raises:
        UserError: as `find_images` and `Place.begin`.
    """
    found = options.find_images(places)
    settings = options.data.model_dump(mode="json", exclude={"source", "path"}, exclude_defaults=True)
    job = {
        "format": _FORMAT,
        "model": f"{options.version} ({_hash_model(options.model)[:16]})",
        "data": f"{found.place} ({found.fingerprint[:16]})",
        "--shard-images": options.shard_images,
        "--batch-size": options.batch_size,
        "--top-k": options.top_k,
        **{f"data.{name}": value for name, value in settings.items()},
    }
    counts = place.begin(job).get("counts")
    if counts is None and not all(map(is_one_image, found.references)):
        report_progress("counting images")
        counts = count_images(found)
        place.remember(job, {"counts": counts})
    shards = list(divide(found.references, counts, options.shard_images))
    missing = [] if place.is_whole() else place.missing(len(shards))
    return ScoringPlan(tuple(places), found, counts, shards, missing)


def _hash_model(path: str) -> str:
    """Returns a hash of the graph and of the index of the weights, which holds a checksum of each."""
    digest = hashlib.sha256()
    for name in (SAVED_MODEL_FILE, "variables/variables.index"):
        if gfile.exists(file := os.path.join(path, name)):
            digest.update(read_bytes(file))
    return digest.hexdigest()


def score_shard(
    shard: Shard,
    total: int,
    scorer: Scorer,
    reader: ImageReader,
    place: Place,
    tell: Callable[[int], None] = lambda done: None,
) -> Counter[str]:
    """Scores one shard of `total` and writes it; `tell` is called with the number of images that are done.

    Returns:
        `images`, and `unusable` of them.
    """
    rows = scorer.score(reader.read(shard), reader, tell)
    place.write_shard(rows, shard.number, total)
    return Counter(images=len(rows), unusable=sum("problem" in row for row in rows))


def run_here(plan: ScoringPlan, place: Place, options: ScoringOptions) -> Counter[str]:
    """Scores what is missing, in this process, shard after shard; returns as `score_shard` of all of those."""
    done: Counter[str] = Counter(images=0, unusable=0)
    if not plan.missing:
        return done
    report_progress("loading the model")
    scorer, reader = options.make_scorer(), ImageReader(plan.found.read_fn)

    def tell(in_shard: int) -> None:
        report_progress("scoring", completed=done["images"] + in_shard, total=plan.images_missing)

    for number in plan.missing:
        done.update(score_shard(plan.shards[number], len(plan.shards), scorer, reader, place, tell))
        tell(0)
    return done


class ListShards(beam.DoFn):
    """Places -> the shards that are missing: listed on a worker, since a job must be small, however many images."""

    def __init__(self, plan: ScoringPlan, options: ScoringOptions) -> None:
        """Keeps what the listing must come to."""
        self._counts, self._missing, self._fingerprint = plan.counts, plan.missing, plan.found.fingerprint
        self._options = options

    def process(self, places: Any) -> Iterator[Shard]:  # Any: Beam takes annotations for its own
        """Lists the places."""
        found = self._options.find_images(places)
        if found.fingerprint != self._fingerprint:
            raise RuntimeError(f"{found.place}: images came, went or changed; run again when nothing writes there")
        shards = list(divide(found.references, self._counts, self._options.shard_images))
        yield from (shards[number] for number in self._missing)


class ScoreShards(beam.DoFn):
    """`Shard` -> what `score_shard` returns; one that another attempt has written by now is passed over."""

    def __init__(self, plan: ScoringPlan, out: str, options: ScoringOptions) -> None:
        """Keeps what is needed on a worker, where all of it must be reachable."""
        self._read_fn, self._total, self._out, self._options = plan.found.read_fn, len(plan.shards), out, options
        self._shared = Shared()

    def setup(self) -> None:
        """Loads the model, once for all threads of a worker."""
        self._scorer = self._shared.acquire(self._options.make_scorer)
        self._reader, self._place = ImageReader(self._read_fn), Place(self._out)

    def process(self, shard: Any) -> Iterator[Any]:
        """Scores one shard."""
        if not gfile.exists(self._place.shard_path(shard.number, self._total)):
            yield score_shard(shard, self._total, self._scorer, self._reader, self._place)


def run_on_beam(plan: ScoringPlan, place: Place, options: ScoringOptions, flags: Sequence[str]) -> None:
    """Scores what is missing, a shard an element, where Beam's flags say."""
    if not plan.missing:
        return
    with beam.Pipeline(options=PipelineOptions(list(flags))) as pipeline:
        _ = (
            pipeline
            | "Places" >> beam.Create([plan.places])
            | "ListShards" >> beam.ParDo(ListShards(plan, options))
            | "Spread" >> beam.Reshuffle()
            | "ScoreShards" >> beam.ParDo(ScoreShards(plan, place.path, options))
        )
