"""The CIFAR-10 archive: read as Python 2 pickled it, and without running what a pickle may hold."""

import io
import pickle
import struct
import tarfile

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that
from PIL import Image

from data.errors import UserError
from data.settings import DataSettings
from data.sources import cifar10, make_source
from data.sources.plain_pickle import Unbuilt, read_plain_pickle
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS


def text(value):
    return b"U" + bytes([len(value)]) + value.encode()


def pickle_batch(pixels, labels, order="C"):
    """Writes a batch as Python 2 and numpy 1 did, opcode by opcode: Python 3 pickles bytes in another way."""
    content = pixels.tobytes(order)
    shape = b"M" + struct.pack("<H", len(pixels)) + b"M" + struct.pack("<H", 3072) + b"\x86"
    dtype = (
        b"cnumpy\ndtype\nq\x0a"
        + text("u1")
        + b"K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09(K\x01"
        + shape
        + dtype
        + (b"\x88" if order == "F" else b"\x89")
        + b"T"
        + struct.pack("<i", len(content))
        + content
        + b"tb"
    )
    label_list = b"]q\x05(" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}q\x01(" + text("labels") + label_list + text("data") + array + b"u."


def write_archive(path, batches):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in {"batches.meta": b"", **batches}.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return str(path)


def random_pixels(seed, count=3):
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), np.uint8)


BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def read_all(path, check):
    with beam.Pipeline(argv=list(IN_PROCESS_BEAM_ARGS)) as pipeline:
        assert_that(pipeline | make_source(DataSettings(source="cifar10", path=path)).read(), check)


def test_reads_pixels_labels_and_splits(tmp_path):
    batches = {name: pickle_batch(random_pixels(i), [i, 9, 0]) for i, name in enumerate(BATCHES)}
    path = write_archive(tmp_path / "cifar-10-python.tar.gz", batches)

    def check(read):
        assert len(read) == 18
        by_name = {image.name: image for image in read}
        for i, batch in enumerate(BATCHES):
            for j, label in enumerate([i, 9, 0]):
                image = by_name[f"{batch}/{j:05}.png"]
                assert image.label == cifar10.CLASSES[label]
                assert image.split == ("test" if batch == "test_batch" else "train")
                pixels = np.asarray(Image.open(io.BytesIO(image.encoded)))
                # The file holds a plane of red, one of green and one of blue.
                for channel in range(3):
                    plane = random_pixels(i)[j, channel * 1024 : (channel + 1) * 1024]
                    np.testing.assert_array_equal(pixels[..., channel].ravel(), plane)

    make_source(DataSettings(source="cifar10", path=path)).prepare()
    read_all(path, check)


def test_the_hand_written_pickle_is_what_pickle_reads():
    pixels = random_pixels(0)
    for order in "CF":
        batch = pickle.loads(pickle_batch(pixels, [1, 2, 3], order), encoding="latin1")
        assert batch["labels"] == [1, 2, 3]
        np.testing.assert_array_equal(batch["data"], pixels)


def test_reads_both_orders_of_an_array():
    for order in "CF":
        read = list(cifar10._read_batch("test_batch", pickle_batch(random_pixels(0), [1, 2, 3], order)))
        red = np.asarray(Image.open(io.BytesIO(read[0].encoded)))[..., 0]
        np.testing.assert_array_equal(red.ravel(), random_pixels(0)[0, :1024])


def test_no_pickled_code_is_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    pickled = pickle.dumps(Evil(), protocol=2)
    assert read_plain_pickle(pickled) == Unbuilt(f"{open.__module__} open", (str(tmp_path / "owned"), "w"))
    assert not (tmp_path / "owned").exists()
    pickle.loads(pickled).close()
    assert (tmp_path / "owned").exists()  # So it does bite where it is run.


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True, False], "b": ("x", ()), 70000: "é"}, [], [[1], [2, 3]]])
def test_plain_values(value):
    assert read_plain_pickle(pickle.dumps(value, protocol=2)) == value


@pytest.mark.parametrize(
    "broken",
    [b"", b"text", b"\x80\x02]", b"\x80\x02e.", b"\x80\x02h\x05.", b"\x80\x02K\x01K\x02R.", b"\x80\x02\x82\x01."],
)
def test_broken_pickles_are_refused(broken):
    with pytest.raises(ValueError, match=r"pickle"):
        read_plain_pickle(broken)


def whole(**other):
    return {name: pickle_batch(random_pixels(0), [0, 1, 2]) for name in BATCHES} | other


@pytest.mark.parametrize(
    ("batches", "problem"),
    [
        ({"train": b"", "test": b""}, "holds no data_batch_1, data_batch_2"),
        (whole(data_batch_3=b"text"), "cannot be read as the CIFAR-10 archive"),
        (whole(data_batch_3=pickle.dumps([1], protocol=2)), "cannot be read as the CIFAR-10 archive"),
        (whole(data_batch_3=pickle.dumps({"data": 1, "labels": []}, protocol=2)), "cannot be read as the CIFAR-10"),
        (whole(test_batch=pickle_batch(random_pixels(0), [0, 1, 12])), "test_batch has the label 12"),
        (whole(test_batch=pickle_batch(random_pixels(0), [0, 1])), "cannot be read as the CIFAR-10 archive"),
    ],
)
def test_other_archives_are_a_fatal_problem(tmp_path, batches, problem):
    def check(read):
        fatal = [image for image in read if image.fatal]
        assert len(fatal) == 1
        assert problem in fatal[0].problem

    read_all(write_archive(tmp_path / "a.tar.gz", batches), check)


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"text")
    with pytest.raises(UserError, match=r"no cifar-10-python\.tar\.gz"):
        make_source(DataSettings(source="cifar10", path=str(tmp_path / "a.tar.gz"))).prepare()
    with pytest.raises(UserError, match="cannot be read"):
        make_source(DataSettings(source="cifar10", path=str(tmp_path / "b.tar.gz"))).fingerprint()


def test_fingerprint_sees_another_archive(tmp_path):
    path = write_archive(tmp_path / "a.tar.gz", whole())
    settings = DataSettings(source="cifar10", path=path)
    before = make_source(settings).fingerprint()
    assert make_source(settings).fingerprint() == before
    write_archive(path, whole(extra=b"x" * 999))
    assert make_source(settings).fingerprint() != before


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    """The discard port of this machine refuses at once, as an offline machine does."""
    monkeypatch.setattr(cifar10, "URL", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"could not be downloaded from http://127.0.0.1:9/.*data.path"):
        make_source(DataSettings(source="cifar10")).prepare()
