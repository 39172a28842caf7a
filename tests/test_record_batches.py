"""How many examples a Beam step takes at a time."""

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from tfx.types import standard_artifacts
from tfx.types.standard_artifacts import ModelBlessing, ModelEvaluation
from tfx_bsl.coders import batch_util

from components import record_batches
from components.evaluator.executor import Executor as Evaluator
from components.evaluator.results import read_results
from components.evaluator.settings import EvaluatorSettings
from components.exported_model.manifest import Manifest, saved_model_path, write_manifest
from components.progress import ImageCount
from components.record_batches import images_at_once, reading_in_batches, records_at_once
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS
from tests.images import encode, make_pixels
from tests.tiny_classifier import make_examples, make_model
from tests.transform_run import SPLITS, make_artifact, run_transform


@pytest.fixture
def examples(tmp_path):
    """Records of 1,000 bytes in train, of 4,000 in eval, and none in test."""
    artifact = make_artifact(standard_artifacts.Examples, tmp_path / "examples", SPLITS)
    for split, size in (("train", 1000), ("eval", 4000), ("test", 0)):
        (tmp_path / "examples" / f"Split-{split}").mkdir()
        path = str(tmp_path / "examples" / f"Split-{split}" / "data-00000-of-00001.gz")
        with tf.io.TFRecordWriter(path, "GZIP") as writer:
            for _ in range(100 if size else 0):
                writer.write(bytes(size))
    return artifact


@pytest.mark.parametrize(
    ("splits", "made_bytes", "records"),
    [
        (["train"], 0, 1000),  # never more
        (["train"], 100_000, 167),
        (["eval"], 0, 1000),
        (["eval"], 150_528, 111),  # 224 pixels
        (["train", "eval", "test"], 100, 1000),
        (["test"], 2**30, 1),
        (["test"], 0, 1000),
    ],
)
def test_a_batch_makes_16_mib_of_what_is_read_or_made(examples, splits, made_bytes, records):
    assert records_at_once(examples, splits, made_bytes) == records


def test_the_largest_mean_of_a_split_counts(examples, monkeypatch):
    monkeypatch.setattr(record_batches, "_BATCH_BYTES", 40_000)
    assert records_at_once(examples, ["train"]) == 40
    assert records_at_once(examples, SPLITS) == 10


@pytest.mark.parametrize(("size", "images"), [(32, 128), (64, 128), (224, 16), (448, 4), (1024, 1)])
def test_a_model_is_asked_about_fewer_large_images(size, images):
    assert images_at_once(size) == images


@pytest.fixture
def batches(monkeypatch):
    """The sizes of batches that Beam was asked for, `(least, most)`."""
    sizes, make = [], beam.BatchElements

    def note(min_batch_size, max_batch_size, **others):
        sizes.append((min_batch_size, max_batch_size))
        return make(min_batch_size, max_batch_size, **others)

    monkeypatch.setattr(beam, "BatchElements", note)
    return sizes


@pytest.mark.slow
def test_the_evaluator_reads_bounded_batches(tmp_path, batches):
    examples = make_examples(tmp_path / "examples", ["a", "b"] * 20, np.eye(2)[[0, 1] * 20])
    model = make_model(tmp_path / "model", ["a", "b"], np.eye(2))
    manifest = Manifest(backbone="vgg16", learn_statistics=False, image_size=448, classes=["a", "b"], versions={})
    write_manifest(saved_model_path(model), manifest)
    artifacts = {kind: make_artifact(kind, tmp_path / kind.TYPE_NAME) for kind in (ModelEvaluation, ModelBlessing)}
    context = Evaluator.Context(beam_pipeline_args=list(IN_PROCESS_BEAM_ARGS), tmp_dir=str(tmp_path), unique_id="1")
    Evaluator(context).Do(
        {"examples": [examples], "model": [model]},
        {"evaluation": [artifacts[ModelEvaluation]], "blessing": [artifacts[ModelBlessing]]},
        {"settings": EvaluatorSettings().model_dump_json(), "example_splits": '["test"]'},
    )
    assert batches[0] == (4, 4)
    assert read_results(artifacts[ModelEvaluation].uri).images == 40


@pytest.mark.slow
def test_transform_reads_bounded_batches(tmp_path, monkeypatch, batches):
    monkeypatch.setattr(record_batches, "_BATCH_BYTES", 40 * 32 * 32 * 3)
    pictures = [(encode(make_pixels(i % 2, 8, np.random.default_rng(i)), "PNG"), "ab"[i % 2]) for i in range(4)]
    run_transform(tmp_path, dict.fromkeys(SPLITS, pictures), {"image_size": 32})
    assert set(batches) == {(40, 40)}


def test_other_pipelines_are_left_to_beam():
    with reading_in_batches(7, ImageCount()):
        assert batch_util.GetBatchElementsKwargs(None)["max_batch_size"] == 7
        assert batch_util.GetBatchElementsKwargs(5)["max_batch_size"] == 5
    assert batch_util.GetBatchElementsKwargs(None)["max_batch_size"] == 1000
