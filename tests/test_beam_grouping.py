"""No Beam step groups image bytes: Dataflow would send them over its shuffle, an in-process run would keep them all."""

import os
from collections.abc import Iterator

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner.execution import GroupingBuffer
from tfx.dsl.components.base import base_beam_executor
from tfx.types import standard_artifacts

from components.evaluator.executor import Executor as Evaluator
from components.evaluator.settings import EvaluatorSettings
from components.image_example_gen.check import add_check
from components.image_example_gen.examples import add_examples
from components.statistics_gen.executor import Executor as StatisticsGenExecutor
from data.features import SPLITS
from data.settings import DataSettings
from data.sources import make_source
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS
from tests import images
from tests.tiny_classifier import make_examples, make_model
from tests.transform_run import make_artifact, run_transform

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


@pytest.fixture
def shuffled(monkeypatch):
    """All that the steps of a job group, as Beam sends it: accumulators, where a combiner comes first."""
    sent, append = [], GroupingBuffer.append

    def note(buffer, elements_data):
        sent.append(elements_data)
        append(buffer, elements_data)

    monkeypatch.setattr(GroupingBuffer, "append", note)
    return sent


@pytest.mark.slow
def test_transform_shuffles_no_images(tmp_path, shuffled):
    """TFX builds its job; told from what it groups, stored images and the pixels that are made of them."""
    random = np.random.default_rng(0)
    pixels = [random.integers(0, 256, [32, 32, 3], np.uint8) for _ in range(4)]
    stored = [images.encode(image, "PNG") for image in pixels]
    run_transform(
        tmp_path, {split: [(image, "some-class") for image in stored] for split in SPLITS}, {"image_size": 32}
    )
    found = b"".join(shuffled)
    assert b"some-class" in found  # its bytes can be found
    for image, file in zip(pixels, stored, strict=True):
        assert file[1000:1032] not in found
        assert image[10, :10].tobytes() not in found


@pytest.mark.slow
def test_the_evaluator_shuffles_no_images(tmp_path, shuffled):
    """Of TFX and TFMA, too."""
    rows = np.random.default_rng(0).normal(size=[40, 100]).astype(np.float32)
    examples = make_examples(tmp_path / "examples", ["some-class", "other"] * 20, rows)
    model = make_model(tmp_path / "model", ["other", "some-class"], np.ones([100, 2]))
    evaluation = make_artifact(standard_artifacts.ModelEvaluation, tmp_path / "evaluation")
    blessing = make_artifact(standard_artifacts.ModelBlessing, tmp_path / "blessing")
    context = Evaluator.Context(beam_pipeline_args=list(IN_PROCESS_BEAM_ARGS), tmp_dir=str(tmp_path), unique_id="1")
    Evaluator(context).Do(
        {"examples": [examples], "model": [model]},
        {"evaluation": [evaluation], "blessing": [blessing]},
        {"settings": EvaluatorSettings().model_dump_json(), "example_splits": '["test"]'},
    )
    found = b"".join(shuffled)
    assert b"some-class" in found  # a slice
    assert not [row for row in rows if row[10:20].tobytes() in found]


def test_a_shuffle_of_images_is_found(tmp_path):
    """So that the tests above can fail."""
    pipeline = beam.Pipeline()
    pipeline | "Read" >> beam.Create([b"image"]) | "Key" >> beam.WithKeys(0) | "Group" >> beam.GroupByKey()
    assert grouped_images(pipeline, "Read") == ["Group"]
    pipeline = beam.Pipeline()
    pipeline | "Read" >> beam.Create([b"image"], reshuffle=False) | "Shuffle" >> beam.Reshuffle()
    assert grouped_images(pipeline, "Read") == ["Shuffle"]


def test_a_shuffled_image_is_found(shuffled):
    with beam.Pipeline(argv=list(IN_PROCESS_BEAM_ARGS)) as pipeline:
        pipeline | beam.Create([b"image"]) | beam.WithKeys(0) | beam.GroupByKey()
    assert b"image" in b"".join(shuffled)
