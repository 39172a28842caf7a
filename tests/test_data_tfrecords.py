"""TFRecords: files, splits by name, features by name, labels as names or numbers, and what is wrong with a record."""

import re

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.testing.util import assert_that

from data.detect import settings_for_path
from data.errors import UserError
from data.settings import DataSettings
from data.sources import make_source
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS
from tests import images


def example(**features):
    result = tf.train.Example()
    for key, value in features.items():
        for item in value if isinstance(value, list) else [value]:
            feature = result.features.feature[key]
            if isinstance(item, int):
                feature.int64_list.value.append(item)
            elif isinstance(item, float):
                feature.float_list.value.append(item)
            else:
                feature.bytes_list.value.append(item)
    return result.SerializeToString()


def write(path, records, compression=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)


def source_of(path, **settings):
    return make_source(DataSettings(source="tfrecords", path=str(path), **settings))


def read_all(path, check, **settings):
    with beam.Pipeline(argv=list(IN_PROCESS_BEAM_ARGS)) as pipeline:
        assert_that(pipeline | source_of(path, **settings).read(), check)


PNG = images.make_png()


@pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"])
def test_reads_files_of_each_compression(tmp_path, compression):
    write(tmp_path / "a.tfrecord", [example(image=PNG, label=b"cat"), example(image=b"x", label=b"dog")], compression)

    def check(read):
        assert [(i.name, i.label, i.split, i.encoded, i.problem) for i in read] == [
            ("a.tfrecord#0", "cat", None, PNG, None),
            ("a.tfrecord#1", "dog", None, b"x", None),
        ]

    read_all(tmp_path / "a.tfrecord", check)


def test_features_and_labels_have_names(tmp_path):
    (tmp_path / "names.txt").write_text("cat\nwild boar\n")
    record = example(**{"image/encoded": PNG, "image/class/label": 1, "image/filename": "été.png".encode()})
    write(tmp_path / "a.tfrecord", [record])

    def check(read):
        assert [(i.name, i.label, i.encoded) for i in read] == [("été.png", "wild boar", PNG)]

    read_all(
        tmp_path,
        check,
        tfrecord_image_feature="image/encoded",
        tfrecord_label_feature="image/class/label",
        tfrecord_name_feature="image/filename",
        class_names=str(tmp_path / "names.txt"),
    )


def test_numbers_name_themselves(tmp_path):
    write(tmp_path / "a.tfrecord", [example(image=PNG, label=12)])
    read_all(tmp_path, lambda read: check_labels(read, ["12"]))


@pytest.mark.parametrize("length", [0x8B1F, 0x9C78])
def test_a_length_that_looks_like_a_compressed_file_s_beginning(tmp_path, length):
    """The first two bytes of a plain file are its first record's length."""
    short = length - len(example(image=bytes(length - 100), label=b"cat"))
    record = example(image=bytes(length - 100 + short), label=b"cat")
    assert len(record) == length
    write(tmp_path / "a.tfrecord", [record])
    read_all(tmp_path, lambda read: check_labels(read, ["cat"]))


def test_labels_can_be_whole_floats_one_hot_and_decomposed(tmp_path):
    labels = [2.0, [0, 0, 1], [0.0, 1.0], "cafe\u0301".encode()]
    write(tmp_path / "a.tfrecord", [example(image=PNG, label=label) for label in labels])
    read_all(tmp_path, lambda read: check_labels(read, ["2", "2", "1", "caf\u00e9"]))


def check_labels(read, labels):
    assert [image.label for image in read] == labels


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("Split-train/data_tfrecord-00000-of-00001.gz", "train"),
        ("Split-eval/data_tfrecord-00000-of-00001.gz", "eval"),
        ("train-00000-of-01024", "train"),
        ("validation-00000-of-00128", "eval"),
        ("ds-valid.tfrecord", "eval"),
        ("ds-dev.tfrecord", "eval"),
        ("cifar10-test.tfrecord-00000-of-00001", "test"),
        ("val2017-00000-of-00001", "eval"),
        ("data.tfrecords", None),
        ("contest-00000-of-00001", None),
    ],
)
def test_names_declare_splits(tmp_path, path, split):
    write(tmp_path / path, [])
    assert [file.split for file in source_of(tmp_path).list_files()] == [split]
    assert [file.split for file in source_of(tmp_path / path).list_files()] == [split]
    assert [file.split for file in source_of(str(tmp_path / path)[:-1] + "?").list_files()] == [split]


def test_names_may_look_like_patterns(tmp_path):
    path = tmp_path / "run[1]" / "a[2].tfrecord"
    write(path, [example(image=PNG, label=b"cat")])
    assert settings_for_path(str(path.parent))["source"] == "tfrecords"
    for place in (path.parent, path):
        assert [file.path for file in source_of(place).list_files()] == [str(path)]
    read_all(path.parent, lambda read: check_labels(read, ["cat"]))


def test_a_file_of_no_split_beside_declared_ones_is_refused(tmp_path):
    for name in ("ds-train.tfrecord", "ds-Holdout.tfrecord"):
        write(tmp_path / name, [])
    message = re.escape(
        f"data.path: {tmp_path}/ds-Holdout.tfrecord lies beside files of declared splits and names none; remove it, or"
        " name a word of its name, or its folder, in data.split_folders (known: train, val, "
    )
    for path in (tmp_path, tmp_path / "*.tfrecord"):
        with pytest.raises(UserError, match=message):
            source_of(path).prepare()
    named = source_of(tmp_path, split_folders={"test": ["holdout"]})
    assert {file.name: file.split for file in named.list_files()} == {
        "ds-train.tfrecord": "train",
        "ds-Holdout.tfrecord": "test",
    }


def test_bad_records_say_why(tmp_path):
    (tmp_path / "names.txt").write_text("cat\n")
    records = [
        b"\xff\xff text",
        example(label=b"cat"),
        example(image=[PNG, PNG], label=b"cat"),
        example(image=1.5, label=b"cat"),
        example(image=PNG),
        example(image=PNG, label=1.5),
        example(image=PNG, label=[0, 0]),
        example(image=PNG, label=1),
        example(image=PNG, label=-1),
        example(image=PNG, label=b""),
        example(image=PNG, label=0),
    ]
    write(tmp_path / "a.tfrecord", records)

    def check(read):
        problems = [image.problem for image in read]
        assert problems[0] == "not a tf.train.Example"
        image = "no image in the feature 'image' (data.tfrecord_image_feature); the record's features: "
        assert problems[1:4] == [image + "label", image + "image, label", image + "image, label"]
        label = "no class in the feature 'label' (data.tfrecord_label_feature)"
        assert problems[4] == f"{label}; the record's features: image"
        assert problems[5:10] == [
            f"{label}, which holds {found}: a class is a name, a whole number below 1, or 0s and a 1 (one-hot);"
            " the record's features: image, label"
            for found in ("1.5", "0, 0", "1", "-1", "nothing")
        ]
        assert problems[10] is None

    read_all(tmp_path, check, class_names=str(tmp_path / "names.txt"))


def test_records_that_all_lack_a_class_are_refused_before_they_are_read(tmp_path):
    write(tmp_path / "a.tfrecord", [example(image=PNG, label=1.5)] * 30)
    with pytest.raises(UserError, match=r"none of the first 20 records .* no class in the feature 'label' .* 1\.5: "):
        source_of(tmp_path).prepare()
    write(tmp_path / "a.tfrecord", [example(image=PNG, label=1.5)] * 19 + [example(image=PNG, label=1.0)])
    source_of(tmp_path).prepare()


def test_a_cut_file_is_a_fatal_problem(tmp_path):
    path = tmp_path / "a.tfrecord"
    write(path, [example(image=PNG, label=b"cat")] * 3)
    path.write_bytes(path.read_bytes()[:-20])

    def check(read):
        assert [image.fatal for image in read] == [False, False, True]
        assert "cannot be read after 2 records" in read[2].problem

    read_all(path, check)


def test_fingerprint_sees_a_changed_file(tmp_path):
    write(tmp_path / "a.tfrecord", [example(image=PNG, label=b"cat")])
    before = source_of(tmp_path).fingerprint()
    assert source_of(tmp_path).fingerprint() == before
    write(tmp_path / "a.tfrecord", [example(image=PNG, label=b"dog")])
    assert source_of(tmp_path).fingerprint() != before


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        source_of(tmp_path / "a.tfrecord").prepare()
    with pytest.raises(UserError, match="no TFRecord file was found"):
        source_of(tmp_path).prepare()
    with pytest.raises(UserError, match="no TFRecord file was found"):
        source_of(tmp_path / "*.tfrecord").prepare()
