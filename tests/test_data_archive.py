"""Archives: unpacked once, never outside of their folder, and then what lies in them."""

import io
import shutil
import tarfile
import zipfile

import pytest

from data.detect import settings_for_path
from data.errors import UserError
from data.settings import DataSettings
from data.sources import archive, make_source
from pipeline.vertex.inputs import data_choice
from tests import images


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(archive.pooch, "os_cache", lambda name: str(tmp_path / "cache" / name))
    return tmp_path / "cache" / "image_classifier" / "archives"


@pytest.fixture
def pets(tmp_path):
    return images.make_image_tree(tmp_path / "pets", ["cat", "dog"], per_class=2, size=4)


def source_of(path, **settings):
    return make_source(DataSettings(source="archive", path=str(path), **settings))


def refusal(path):
    with pytest.raises(UserError) as caught:
        source_of(path).prepare()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "suffix"), [("zip", "zip"), ("tar", "tar"), ("gztar", "tar.gz"), ("bztar", "tar.bz2"), ("xztar", "tar.xz")]
)
@pytest.mark.parametrize("wrapper", [None, "pets"])
def test_an_archive_is_the_folder_in_it(tmp_path, cache, pets, kind, suffix, wrapper):
    path = shutil.make_archive(str(tmp_path / "packed"), kind, pets.parent if wrapper else pets, wrapper)
    assert path.endswith(suffix)
    assert settings_for_path(path) == {"source": "archive", "path": path}
    source = source_of(path)
    assert source.prepare() == []
    found = [image.path for image in source._source.list_images()]
    expected = make_source(DataSettings(source="image_folder", path=str(pets))).list_images()
    assert found == [image.path for image in expected]
    (folder,) = cache.iterdir()
    assert len(folder.name) == 64


def test_an_archive_is_unpacked_once(tmp_path, cache, pets):
    path = shutil.make_archive(str(tmp_path / "packed"), "zip", pets)
    source_of(path).prepare()
    (kept,) = cache.glob("*/cat/0000.jpg")
    kept.write_bytes(b"seen")
    copy = shutil.copy(path, tmp_path / "copy.zip")
    source = source_of(copy)
    source.prepare()
    assert b"seen" in [source._source._read_image(image)[0].encoded for image in source._source.list_images()]


def test_an_archive_may_hold_a_table(tmp_path, cache, pets):
    (pets / "metadata.csv").write_text("file_name,label\ncat/0000.jpg,x\ndog/0000.jpg,y\n")
    source = source_of(shutil.make_archive(str(tmp_path / "packed"), "zip", pets), unlabelled="ignore")
    assert source.prepare() == ["cat/0001.png", "dog/0001.png"]
    assert {image.label for image in source._source.list_references()} == {"x", "y"}
    assert source.notes() == ["metadata.csv: path from file_name, label from label"]


@pytest.mark.parametrize("name", ["../x.png", "cat/../../x.png", "/x.png", "C:\\x.png", "..\\x.png"])
def test_a_zip_that_leads_outside_is_refused(tmp_path, cache, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("cat/1.png", b"x")
        file.writestr(name, b"x")
    assert refusal(tmp_path / "a.zip") == (
        f"data.path is {tmp_path}/a.zip, which holds {name}, outside of itself; pack it anew"
    )
    assert not list(cache.iterdir())


def _link(name, target, kind):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "member",
    [
        tarfile.TarInfo("../x.png"),
        _link("cat/1.png", "/etc/passwd", tarfile.SYMTYPE),
        _link("cat/1.png", "../../x", tarfile.SYMTYPE),
        _link("cat/1.png", "../x", tarfile.LNKTYPE),
        _link("cat/1.png", "", tarfile.FIFOTYPE),
    ],
)
def test_a_tar_that_leads_outside_is_refused(tmp_path, cache, member):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        file.addfile(member)
    assert f"which holds {member.name}, outside of itself or no file; pack it anew" in refusal(tmp_path / "a.tar")
    assert not list(cache.iterdir())


def test_what_cannot_be_unpacked_is_told(tmp_path, cache, pets, monkeypatch):
    path = shutil.make_archive(str(tmp_path / "packed"), "gztar", pets)
    with open(path, "r+b") as file:
        file.truncate(300)
    assert "which cannot be unpacked into" in refusal(path)
    path = shutil.make_archive(str(tmp_path / "packed"), "zip", pets)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 2**7))
    assert "has room for 0.0; free some, or unpack it elsewhere" in refusal(path)
    monkeypatch.undo()
    assert not list(cache.glob("*"))


def test_an_encrypted_zip_is_told(tmp_path, cache):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("cat/1.png", b"x")
    content = bytearray(buffer.getvalue())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + place] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    assert "a.zip, which is encrypted; unpack it, and give the folder" in refusal(tmp_path / "a.zip")


def test_a_mistake_inside_names_the_archive(tmp_path, cache):
    (tmp_path / "flat").mkdir()
    for name in ("1.png", "2.png"):
        (tmp_path / "flat" / name).write_bytes(images.make_png())
    path = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "flat")
    assert refusal(path).startswith(f"--data is {path}, a folder of 2 files and no folder")


def test_the_fingerprint_is_the_archive_s(tmp_path, pets):
    path = shutil.make_archive(str(tmp_path / "packed"), "zip", pets)
    before = source_of(path).fingerprint()
    assert source_of(path).fingerprint() == before
    (pets / "cat" / "new.png").write_bytes(images.make_png())
    shutil.make_archive(str(tmp_path / "packed"), "zip", pets)
    assert source_of(path).fingerprint() != before


def test_an_archive_in_a_bucket_is_refused():
    settings = data_choice("gs://bucket/pets.zip").settings
    with pytest.raises(ValueError, match="an archive that is not on this machine; unpack it there or here"):
        DataSettings(**settings)
