"""The Trainer's input."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.trainer.inputs import make_dataset
from components.transform.features import TRANSFORMED_IMAGE_KEY, TRANSFORMED_LABEL_KEY, pack_image

COUNT = 50


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two files of images whose pixels all are the label."""
    folder = tmp_path_factory.mktemp("split")
    for shard in range(2):
        with tf.io.TFRecordWriter(str(folder / f"part-{shard}.gz"), options="GZIP") as writer:
            for label in range(shard, COUNT, 2):
                image = pack_image(tf.fill([32, 32, 3], tf.constant(label, tf.uint8))).numpy()
                features = {
                    TRANSFORMED_IMAGE_KEY: tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
                    TRANSFORMED_LABEL_KEY: tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return str(folder / "*")


def read_labels(dataset: tf.data.Dataset) -> list[int]:
    return [int(label) for _, labels in dataset for label in labels]


def test_every_image_is_read_once_with_its_label(pattern: str) -> None:
    batches = list(make_dataset([pattern], 32, 16))
    assert [len(labels) for _, labels in batches] == [16, 16, 16, 2]
    for images, labels in batches:
        assert images.dtype == tf.uint8
        np.testing.assert_array_equal(images, np.broadcast_to(labels[:, None, None, None], [len(labels), 32, 32, 3]))
    assert sorted(read_labels(make_dataset([pattern], 32, 16))) == list(range(COUNT))


def test_eval_keeps_the_order_of_the_files(pattern: str) -> None:
    dataset = make_dataset([pattern], 32, 16)
    assert read_labels(dataset) == read_labels(dataset) == read_labels(make_dataset([pattern], 32, 16))


def test_the_order_follows_from_the_seed_and_differs_by_epoch(pattern: str) -> None:
    dataset = make_dataset([pattern], 32, 16, shuffle_seed=1)
    first, second = read_labels(dataset), read_labels(dataset)
    assert sorted(first) == sorted(second) == list(range(COUNT))
    assert first != second
    again = make_dataset([pattern], 32, 16, shuffle_seed=1)
    assert [read_labels(again), read_labels(again)] == [first, second]
    assert read_labels(make_dataset([pattern], 32, 16, shuffle_seed=2)) != first


def test_a_dropped_remainder_makes_shapes_static(pattern: str) -> None:
    dataset = make_dataset([pattern], 32, 16, drop_remainder=True)
    assert [len(labels) for _, labels in dataset] == [16, 16, 16]
    assert dataset.element_spec[0].shape == [16, 32, 32, 3]


def test_a_split_too_large_for_memory_is_read_from_disk(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_labels(make_dataset([pattern], 32, 16))
    monkeypatch.setattr("components.trainer.inputs._CACHE_BYTES", 0)
    assert read_labels(make_dataset([pattern], 32, 16)) == expected


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "part-0.gz").write_bytes(b"not a record")
    with pytest.raises(tf.errors.OpError):
        read_labels(make_dataset([str(tmp_path / "*")], 32, 16))
