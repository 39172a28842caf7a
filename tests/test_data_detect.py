"""What `--data PATH` is taken for."""

import re
import tarfile

import pytest

from data.detect import settings_for_path
from data.errors import UserError
from data.settings import DataSettings
from tests import images
from tests.test_data_cifar10 import whole, write_archive


@pytest.fixture
def root(tmp_path):
    images.make_image_tree(tmp_path / "classes", per_class=1, size=4)
    images.make_image_tree(tmp_path / "splits" / "train", per_class=1, size=4)
    write_archive(tmp_path / "cifar-10-python.tar.gz", whole())
    for path in ("tfx/Split-train/data_tfrecord-00000-of-00001.gz", "tfds/cifar10-train.tfrecord-00000-of-00001"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    (tmp_path / "tfx" / "data_summary.json").touch()
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "1.png").touch()
    (tmp_path / "flat" / "labels.xlsx").touch()
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "flat", "flat")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("classes", "image_folder"),
        ("splits", "image_folder"),
        ("cifar-10-python.tar.gz", "cifar10"),
        ("other.tar.gz", "archive"),
        ("tfx", "tfrecords"),
        ("tfds", "tfrecords"),
        ("tfds/cifar10-train.tfrecord-00000-of-00001", "tfrecords"),
        ("tfds/*.tfrecord*", "tfrecords"),
    ],
)
def test_kinds(root, path, source):
    settings = settings_for_path(str(root / path))
    assert settings == {"source": source, "path": str(root / path)}
    DataSettings(**settings)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "does not exist"),
        ("nothing*", "matches no TFRecord file"),
        ("flat", "a folder of 2 files and no folder"),
        ("flat/1.png", "a file of another kind"),
        ("flat/labels.xlsx", "labels.xlsx, a spreadsheet: save it as CSV; give"),
    ],
)
def test_everything_else_is_refused(root, path, message):
    with pytest.raises(UserError, match=re.escape(message)):
        settings_for_path(str(root / path))
