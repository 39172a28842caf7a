"""The Trainer's input."""

import gc
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.trainer.augmentation import make_augment
from components.trainer.batches import Share
from components.trainer.inputs import ArraySplit, Split, count_steps, distribute, open_split
from components.trainer.record_split import RecordSplit
from components.transform.features import TRANSFORMED_IMAGE_KEY, TRANSFORMED_LABEL_KEY, pack_image
from tests.tiny_training import make_settings

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


@pytest.fixture(params=["memory", "unpacked", "records"])
def split(request: pytest.FixtureRequest, pattern: str, monkeypatch: pytest.MonkeyPatch) -> Split:
    monkeypatch.setattr("components.trainer.room._is_in_memory", lambda *_: False)  # wherever the tests run
    if request.param != "memory":
        monkeypatch.setattr("components.trainer.inputs.MEMORY_BYTES", 20 * 32 * 32 * 3)  # found out while reading
    split = open_split([pattern], 32, 16, seed=1, image_cache=request.param == "unpacked")
    assert isinstance(split, RecordSplit if request.param == "records" else ArraySplit)
    return split


def read_labels(dataset: tf.data.Dataset) -> list[int]:
    return [
        int(label) for _, labels, weights in dataset for label, weight in zip(labels, weights, strict=True) if weight
    ]


def test_every_image_is_read_once_with_its_label(split: Split) -> None:
    batches = list(split.epoch(0))
    assert [len(labels) for _, labels, _ in batches] == [16, 16, 16, 2]
    for images, labels, weights in batches:
        assert images.dtype == tf.uint8
        np.testing.assert_array_equal(images, np.broadcast_to(labels[:, None, None, None], [len(labels), 32, 32, 3]))
        np.testing.assert_array_equal(weights, 1.0)
    assert sorted(read_labels(split.epoch(0))) == list(range(COUNT))


def test_in_order_fills_the_last_batch_with_what_weighs_nothing(split: Split) -> None:
    batches = list(split.in_order())
    assert [images.shape for images, _, _ in batches] == [[16, 32, 32, 3]] * 4
    assert split.in_order().element_spec[0].shape == [16, 32, 32, 3]
    assert sorted(read_labels(split.in_order())) == list(range(COUNT))
    assert read_labels(split.in_order()) == read_labels(split.in_order())
    np.testing.assert_array_equal(batches[-1][2], [1.0] * 2 + [0.0] * 14)


def test_the_order_follows_from_the_seed_and_the_epoch(split: Split, pattern: str) -> None:
    first, second = read_labels(split.epoch(0)), read_labels(split.epoch(1))
    assert sorted(first) == sorted(second) == list(range(COUNT))
    assert first != second
    assert read_labels(split.epoch(0)) == first
    assert read_labels(open_split([pattern], 32, 16, seed=2).epoch(0)) != first


def test_an_epoch_can_be_entered_at_any_step(split: Split) -> None:
    whole = [labels.numpy().tolist() for _, labels, _ in split.epoch(1)]
    for step in range(5):
        assert [labels.numpy().tolist() for _, labels, _ in split.epoch(1, step)] == whole[step:]


def test_augmentation_follows_from_the_step(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def augment(images: tf.Tensor, seed: tf.Tensor, _: Share) -> tf.Tensor:
        return images + tf.cast(tf.random.stateless_uniform([], seed, 0, 256, tf.int32), tf.uint8)

    for _ in range(2):
        split = open_split([pattern], 32, 16, augment=augment)
        whole = [images.numpy() for images, _, _ in split.epoch(2)]
        for found, expected in zip(split.epoch(2, 2), whole[2:], strict=True):
            np.testing.assert_array_equal(found[0], expected)
        plain = open_split([pattern], 32, 16)
        added = {int(a[0, 0, 0, 0]) - int(b[0][0, 0, 0, 0]) for a, b in zip(whole, plain.epoch(2), strict=True)}
        assert len(added) == 4  # each step has a number of its own
        for found, expected in zip(split.in_order(), plain.in_order(), strict=True):
            np.testing.assert_array_equal(found[0], expected[0])
        monkeypatch.setattr("components.trainer.inputs.MEMORY_BYTES", 0)


@pytest.mark.parametrize("memory_bytes", [0, 2**20])
def test_a_dropped_remainder_makes_shapes_static(
    pattern: str, monkeypatch: pytest.MonkeyPatch, memory_bytes: int
) -> None:
    monkeypatch.setattr("components.trainer.inputs.MEMORY_BYTES", memory_bytes)
    dataset = open_split([pattern], 32, 16, drop_remainder=True).epoch(0)
    assert [len(labels) for _, labels, _ in dataset] == [16, 16, 16]
    assert dataset.element_spec[0].shape == [16, 32, 32, 3]


def test_a_class_that_train_does_not_know_weighs_nothing() -> None:
    split = ArraySplit(np.zeros([3, 4], np.float32), np.array([1, -1, 0]), 3)
    ((_, labels, weights),) = split.in_order()
    assert labels.numpy().tolist() == [1, 0, 0]
    assert weights.numpy().tolist() == [1.0, 0.0, 1.0]


def test_features_are_read_from_a_file(tmp_path: Path) -> None:
    stored = np.memmap(tmp_path / "features", np.float32, "w+", shape=(10, 4))
    stored[:] = np.arange(40).reshape(10, 4)
    on_disk, in_memory = (ArraySplit(inputs, np.arange(10), 4, seed=5) for inputs in (stored, np.array(stored)))
    for found, expected in zip(on_disk.epoch(3), in_memory.epoch(3), strict=True):
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[0][:, 0], 4.0 * tf.cast(found[1], tf.float32))


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "part-0.gz").write_bytes(b"not a record")
    with pytest.raises(tf.errors.OpError):
        open_split([str(tmp_path / "*")], 32, 16)


@pytest.mark.parametrize(("memory_bytes", "replicas"), [(0, 2), (2**20, 4)])
def test_hosts_share_each_batch(
    pattern: str, monkeypatch: pytest.MonkeyPatch, memory_bytes: int, replicas: int
) -> None:
    """What a strategy's two hosts read of each step is what one host reads, augmentation included."""
    monkeypatch.setattr("components.trainer.inputs.MEMORY_BYTES", memory_bytes)
    augment = make_augment(make_settings(random_flip=True, random_crop_area=0.5, trivial_augment=True))
    split = open_split([pattern], 32, 16, seed=1, drop_remainder=True, augment=augment)

    class TwoHosts:
        """Has a strategy's part in `distribute`: it opens the input of both hosts."""

        def distribute_datasets_from_function(self, open_share: Any) -> list[tf.data.Dataset]:
            return [open_share(tf.distribute.InputContext(2, host, replicas)) for host in range(2)]

    readers: list[Callable[[Share], tf.data.Dataset]] = [
        partial(split.epoch, 3, 1),
        split.in_order,
        partial(split.in_order, view=1),
    ]
    for read in readers:
        whole = list(read(Share()))
        strategy: Any = TwoHosts()
        hosts = [list(host) for host in distribute(strategy, read)]
        per_host = replicas // 2
        assert [len(host) for host in hosts] == [len(whole) * per_host] * 2
        for step, expected in enumerate(whole):
            parts = [part for host in hosts for part in host[step * per_host : (step + 1) * per_host]]
            assert all(len(part[1]) == 16 // replicas for part in parts)
            for number in range(3):
                np.testing.assert_array_equal(np.concatenate([part[number] for part in parts]), expected[number])


def test_steps_are_known_before_an_epoch_is_read(split: Split, pattern: str) -> None:
    assert count_steps(split) == 4
    assert count_steps(open_split([pattern], 32, 16, drop_remainder=True)) == 3
    np.testing.assert_array_equal(split.count_labels(COUNT), 1)


def test_images_that_nobody_reads_any_more_leave_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow keeps each function that it calls back as long as the process."""
    monkeypatch.setattr("components.trainer.inputs._COPIED_BYTES", 0)
    images = np.ones([4, 2, 2, 3], np.uint8)
    seen = weakref.ref(images)
    batches = ArraySplit(images, np.zeros(4, np.int64), 2).in_order()
    del images
    gc.collect()
    for found, *_ in batches:  # also when the split itself is gone
        np.testing.assert_array_equal(found, np.ones([2, 2, 2, 3]))
    del batches
    gc.collect()
    assert seen() is None


def test_batches_read_ahead_of_an_epoch_that_is_left_are_no_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("components.trainer.inputs._COPIED_BYTES", 0)
    for _ in range(10):
        next(iter(ArraySplit(np.zeros([4000, 32, 32, 3], np.uint8), np.zeros(4000, np.int64), 8).epoch(0)))
    assert "TypeError" not in capfd.readouterr().err
