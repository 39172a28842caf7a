"""No Beam step groups image bytes: Dataflow would send them over its shuffle, an in-process run would keep them all."""

import os
from collections.abc import Iterator

import apache_beam as beam
import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from tfx.dsl.components.base import base_beam_executor
from tfx.types import standard_artifacts

from components.image_example_gen.check import add_check
from components.image_example_gen.examples import add_examples
from components.statistics_gen.executor import Executor as StatisticsGenExecutor
from data.features import SPLITS
from data.settings import DataSettings
from data.sources import make_source
from tests import images
from tests.transform_run import make_artifact

GROUPING = ("group_by_key", "combine_per_key", "combine_grouped_values", "reshuffle", "group_into_batches")
SMALL = ("CheckImages", "WriteBundles", "StandIn")
"""Steps that take image bytes and give none: lines about images, names of files, records with a byte for the image."""


def leaves(pipeline: beam_runner_api_pb2.Pipeline) -> Iterator[beam_runner_api_pb2.PTransform]:
    """Yields what is run or replaced as a whole, from the sources on."""
    transforms = pipeline.components.transforms

    def below(name: str) -> Iterator[beam_runner_api_pb2.PTransform]:
        transform = transforms[name]
        if transform.subtransforms and not any(word in transform.spec.urn for word in GROUPING):
            for sub in transform.subtransforms:
                yield from below(sub)
        else:
            yield transform

    for root in pipeline.root_transform_ids:
        yield from below(root)


def grouped_images(pipeline: beam.Pipeline, first: str) -> list[str]:
    """Returns the grouping steps that image bytes reach; they begin at the steps of whose name `first` is a part."""
    with_images: set[str] = set()
    found = []
    for transform in leaves(pipeline.to_runner_api()):
        outputs = set(transform.outputs.values())
        begins = first in transform.unique_name.split("/")
        if not begins and not with_images & set(transform.inputs.values()):
            continue
        if any(word in transform.spec.urn for word in GROUPING):
            found.append(transform.unique_name)
        parts = transform.unique_name.replace("[", "/").split("/")
        # What takes both a tag and its main output is named after the main one.
        if not any(small in parts for small in SMALL):
            with_images |= outputs - set(transform.inputs.values())
    assert with_images  # Else nothing was followed.
    return found


def make_sources(folder) -> dict[str, DataSettings]:
    images.make_image_tree(folder / "images", 2, per_class=1)
    return {
        "digits": DataSettings(),
        "image_folder": DataSettings(source="image_folder", path=str(folder / "images")),
        "tfrecords": DataSettings(source="tfrecords", path=str(folder / "a.tfrecord")),
        "cifar10": DataSettings(source="cifar10", path=str(folder / "cifar.tar.gz")),
    }


@pytest.mark.parametrize("source", ["digits", "image_folder", "tfrecords", "cifar10"])
def test_checking_and_writing_group_no_images(source, tmp_path):
    settings = make_sources(tmp_path)[source]
    check, write = beam.Pipeline(), beam.Pipeline()
    add_check(check, make_source(settings), settings.max_pixels, str(tmp_path))
    add_examples(
        write,
        make_source(settings),
        settings.max_pixels,
        str(tmp_path / "rules.json"),
        str(tmp_path),
        {split: os.path.join(tmp_path, split) for split in SPLITS},
    )
    assert grouped_images(check, "Read") == []
    assert grouped_images(write, "Read") == []


@pytest.mark.slow
def test_statistics_group_no_images(tmp_path, monkeypatch):
    pipeline = beam.Pipeline()
    monkeypatch.setattr(base_beam_executor.BaseBeamExecutor, "_make_beam_pipeline", lambda _: NotRun(pipeline))
    examples = make_artifact(standard_artifacts.Examples, tmp_path / "examples", list(SPLITS))
    for split in SPLITS:
        (tmp_path / "examples" / f"Split-{split}").mkdir()
        (tmp_path / "examples" / f"Split-{split}" / "a.gz").touch()
    statistics = make_artifact(standard_artifacts.ExampleStatistics, tmp_path / "statistics")
    StatisticsGenExecutor().Do({"examples": [examples]}, {"statistics": [statistics]}, {})
    for split in SPLITS:
        assert grouped_images(pipeline, f"Read[{split}]") == []


class NotRun:
    """A pipeline that is built only."""

    def __init__(self, pipeline: beam.Pipeline) -> None:
        self._pipeline = pipeline

    def __enter__(self) -> beam.Pipeline:
        return self._pipeline

    def __exit__(self, *_: object) -> None:
        pass


def test_a_shuffle_of_images_is_found(tmp_path):
    """So that the tests above can fail."""
    pipeline = beam.Pipeline()
    pipeline | "Read" >> beam.Create([b"image"]) | "Key" >> beam.WithKeys(0) | "Group" >> beam.GroupByKey()
    assert grouped_images(pipeline, "Read") == ["Group"]
    pipeline = beam.Pipeline()
    pipeline | "Read" >> beam.Create([b"image"], reshuffle=False) | "Shuffle" >> beam.Reshuffle()
    assert grouped_images(pipeline, "Read") == ["Shuffle"]
