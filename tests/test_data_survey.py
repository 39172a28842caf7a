"""What can be known of images before a run: counts from listings, contents where they are read, a sample's faults."""

from pathlib import Path

import pytest
import tensorflow as tf

from data import survey
from data.settings import DataSettings
from data.sources import make_source
from data.sources.reading import count_listed
from data.survey import survey_source
from tests.images import make_image_tree, make_jpeg, make_truncated_jpeg


def resize(image: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.image.resize(image, [32, 32]), tf.uint8)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image_tree(tmp_path_factory.mktemp("survey") / "images", ["a", "b"], per_class=50)


def look(path: Path, read_seconds: float = 20.0) -> survey.Survey:
    settings = DataSettings(source="image_folder", path=str(path))
    return survey_source(make_source(settings), settings, resize, read_seconds)


def test_all_contents_are_read_where_there_is_time(tree: Path) -> None:
    found = look(tree)
    assert (found.images, len(found.records), found.sampled, found.bad) == (100, 100, survey.SAMPLE, [])
    assert found.contents_known
    sizes = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())
    assert found.encoded_bytes == pytest.approx(sizes)


def test_without_time_the_listing_tells_number_and_classes(tree: Path) -> None:
    found = look(tree, read_seconds=0.0)
    assert (found.images, len(found.records), found.sampled) == (100, 100, survey.SAMPLE)
    assert not found.contents_known
    assert sorted(record.label for record in found.records) == ["a"] * 50 + ["b"] * 50
    assert len({record.sha256 for record in found.records}) == 100


def test_what_is_bad_in_the_sample_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "good.jpg").write_bytes(make_jpeg())
    (tmp_path / "a" / "bad.jpg").write_bytes(make_truncated_jpeg())
    found = look(tmp_path)
    ((name, reason),) = found.bad
    assert name == "a/bad.jpg"
    assert [(record.name, record.problem) for record in found.records if record.problem] == [(name, reason)]


def test_the_number_of_records_is_reckoned_from_the_sizes_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "SAMPLE", 10)
    image = make_jpeg()
    for number in range(4):
        with tf.io.TFRecordWriter(str(tmp_path / f"images-{number:05}-of-00004.tfrecord")) as writer:
            for label in ["a", "b"] * 25:
                example = tf.train.Example()
                example.features.feature["image/encoded"].bytes_list.value.append(image)
                example.features.feature["image/class/text"].bytes_list.value.append(label.encode())
                writer.write(example.SerializeToString())
    features = {"tfrecord_image_feature": "image/encoded", "tfrecord_label_feature": "image/class/text"}
    settings = DataSettings(source="tfrecords", path=str(tmp_path), **features)
    whole = survey_source(make_source(settings), settings, resize)
    assert (whole.images, whole.contents_known) == (200, True)
    begun = survey_source(make_source(settings), settings, resize, read_seconds=0.0)
    assert len(begun.records) == 10
    assert begun.images == pytest.approx(200, rel=0.3)  # what is not the image is small
    assert count_listed(make_source(settings)) is None


def test_a_listing_of_images_gives_their_number(tree: Path) -> None:
    assert count_listed(make_source(DataSettings(source="image_folder", path=str(tree)))) == 100
    assert count_listed(make_source(DataSettings(source="digits"))) is None


def test_a_source_that_is_read_in_one_place_is_read() -> None:
    settings = DataSettings(source="digits")
    found = survey_source(make_source(settings), settings, resize)
    assert (found.images, found.contents_known) == (1797, True)
    assert found.transformed_bytes > 0


@pytest.mark.parametrize("read_seconds", [20.0, 0.0])
def test_labels_are_those_of_a_run(tree: Path, read_seconds: float) -> None:
    settings = DataSettings(source="image_folder", path=str(tree), labels={"a": "cat", "b": None})
    found = survey_source(make_source(settings), settings, resize, read_seconds)
    assert (
        sorted((record.label, record.left_out) for record in found.records)
        == [("b", True)] * 50 + [("cat", False)] * 50
    )
    assert count_listed(make_source(settings)) == 100


@pytest.mark.parametrize("read_seconds", [20.0, 0.0])
def test_all_spans_are_looked_at(tmp_path: Path, read_seconds: float) -> None:
    for number in (7, 8):
        make_image_tree(tmp_path / f"day-{number}", ["a", "b"], per_class=40)
    settings = DataSettings(source="image_folder", path=str(tmp_path / "day-{SPAN}"), num_spans=2)
    found = survey_source(make_source(settings), settings, resize, read_seconds)
    assert (found.images, len(found.records)) == (160, 160)
    assert found.sampled == survey.SAMPLE
