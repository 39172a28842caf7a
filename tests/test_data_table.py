"""Tables of images: every dialect of them, where their files lie, and what does not fit together."""

import hashlib
import pickle

import pytest

from data.detect import settings_for_path
from data.settings import DataSettings
from data.sources import make_source
from tests import table_files


def source_of(path, **settings):
    return make_source(DataSettings(source="table", path=str(path), **settings))


def read_all(path, **settings):
    """Returns all images, as the workers read them, from a source that was sent to them."""
    source = pickle.loads(pickle.dumps(source_of(path, **settings)))
    return [image for reference in source.list_references() for image in source._read(reference)]


def problems(path, **settings):
    return {image.name: image.problem for image in read_all(path, **settings) if image.problem}


def says(image):
    sha256 = hashlib.sha256(image.encoded).hexdigest()
    return image.name, sha256, image.label, image.split, image.group, image.weight, image.problem


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    root = tmp_path_factory.mktemp("tables") / "pets"
    return root, table_files.make_pictures(root)


@pytest.mark.parametrize("write", table_files.DIALECTS)
def test_every_dialect_says_the_same(pets, write):
    root, pictures = pets
    path = write(root, pictures)
    assert settings_for_path(str(path)) == {"source": "table", "path": str(path)}
    settings = table_files.SETTINGS.get(write, lambda _: {})(root)
    expected = {
        (
            one.path,
            hashlib.sha256((root / one.path).read_bytes()).hexdigest(),
            one.label,
            {"val": "eval"}.get(one.split, one.split),
            None if write in table_files.WITHOUT_GROUPS else one.group,
            1.0 if write in table_files.WITHOUT_GROUPS else one.weight,
            None,
        )
        for one in pictures
    }
    assert set(map(says, read_all(path, **settings))) == expected
