"""How many examples a Beam step takes at a time."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tfx.components.util import tfxio_utils
from tfx.types import standard_artifacts
from tfx_bsl.coders import batch_util

from components import record_batches
from components.evaluator.executor import _reading_in_batches
from components.record_batches import images_at_once, records_at_once
from tests.images import encode, make_pixels
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


def test_the_evaluator_s_reading_is_bounded(examples):
    made = SimpleNamespace(BeamSource=lambda size=None: size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfxio_utils, "get_tfxio_factory_from_artifact", lambda **_: lambda _: made)
        before = tfxio_utils.get_tfxio_factory_from_artifact
        with _reading_in_batches(7):
            source = tfxio_utils.get_tfxio_factory_from_artifact(examples=[examples])("a pattern")
            assert source.BeamSource() == 7
        assert tfxio_utils.get_tfxio_factory_from_artifact is before


def test_transform_reads_bounded_batches(tmp_path, monkeypatch):
    sizes, make = set(), batch_util.GetBatchElementsKwargs

    def note(batch_size, *arguments):
        sizes.add(batch_size)
        return make(batch_size, *arguments)

    monkeypatch.setattr(batch_util, "GetBatchElementsKwargs", note)
    monkeypatch.setattr(record_batches, "_BATCH_BYTES", 40 * 32 * 32 * 3)
    pictures = [(encode(make_pixels(i % 2, 8, np.random.default_rng(i)), "PNG"), "ab"[i % 2]) for i in range(4)]
    run_transform(tmp_path, dict.fromkeys(SPLITS, pictures), {"image_size": 32})
    assert sizes == {40}
