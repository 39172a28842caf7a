"""Images unpacked on the local disk."""

import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from components.trainer.image_cache import can_unpack, unpack
from components.transform.features import TRANSFORMED_IMAGE_KEY, TRANSFORMED_LABEL_KEY, pack_image
from data.errors import UserError
from tests.full_disk import full_disk

SIZE, COUNT = 16, 300
IMAGES = np.random.default_rng(0).integers(0, 256, [COUNT, SIZE, SIZE, 3], np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = str(tmp_path_factory.mktemp("split") / "part.gz")
    with tf.io.TFRecordWriter(path, options="GZIP") as writer:
        for number, image in enumerate(IMAGES):
            packed = tf.train.BytesList(value=[pack_image(tf.constant(image)).numpy()])
            features = {
                TRANSFORMED_IMAGE_KEY: tf.train.Feature(bytes_list=packed),
                TRANSFORMED_LABEL_KEY: tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 7 - 1])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return [path]


@pytest.fixture
def no_mounts(tmp_path: Path) -> Path:
    return tmp_path / "mounts"


def test_unpacked_images_are_those_of_the_files_and_leave_no_file(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    images, labels = unpack(files, SIZE, "train")
    assert isinstance(images, np.memmap)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, np.arange(COUNT) % 7 - 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("share_of_need", "fits"), [(1.5, False), (2.5, True)])
def test_half_of_the_free_disk_must_do(
    files: list[str], no_mounts: Path, share_of_need: float, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = int(share_of_need * IMAGES.nbytes)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert can_unpack(files, SIZE, no_mounts) is fits


def test_a_folder_in_memory_is_no_disk(
    files: list[str], tmp_path: Path, no_mounts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    no_mounts.write_text(f"/dev/sda / ext4 rw 0 0\ntmpfs {tmp_path.parent} tmpfs rw 0 0\n")
    assert not can_unpack(files, SIZE, no_mounts)
    no_mounts.write_text(f"/dev/sda / ext4 rw 0 0\ntmpfs {tmp_path}-other tmpfs rw 0 0\n")
    assert can_unpack(files, SIZE, no_mounts)


@pytest.mark.parametrize("missing_bytes", [1, IMAGES.nbytes])
def test_a_full_disk_is_the_users_to_mend(files: list[str], missing_bytes: int) -> None:
    message = r"no space to unpack the images of train .*set trainer\.image_cache to off"
    with full_disk(IMAGES.nbytes - missing_bytes), pytest.raises(UserError, match=message):
        unpack(files, SIZE, "train")
