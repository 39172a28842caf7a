"""ImageExampleGen as TFX runs it: what it writes, what it leaves out, and what stops it."""

import collections
import dataclasses
import functools
import hashlib
import io
import json
import logging
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tfx.types import artifact_utils, standard_artifacts

from components.image_example_gen import executor
from components.image_example_gen.component import ImageExampleGen
from components.image_example_gen.executor import ImageExampleGenExecutor
from components.progress import LOGGER
from components.serving_validator.probes import as_client
from data.bit_depth import read_bit_depth
from data.decode import decode_image
from data.errors import UserError
from data.features import SPLITS
from data.image_hashes import read_split_hashes
from data.image_record import ImageRecord
from data.image_statistics import read_image_statistics
from data.originals import read_originals
from data.selection_check import check_selection
from data.settings import DataSettings
from data.sources import make_source
from data.threads import thread_count
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS
from tests import images


def run_in(folder, name="examples", **settings):
    """Runs the executor and returns its artifact."""
    data_settings = DataSettings(**settings)
    component = ImageExampleGen(data_settings, make_source(data_settings).fingerprint(), code_hash="code")
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder / name)
    os.makedirs(artifact.uri, exist_ok=True)
    context = ImageExampleGenExecutor.Context(
        beam_pipeline_args=list(IN_PROCESS_BEAM_ARGS), tmp_dir=str(folder / "tmp"), unique_id="1"
    )
    ImageExampleGenExecutor(context).Do({}, {"examples": [artifact]}, dict(component.exec_properties))
    return artifact


@pytest.fixture
def run(tmp_path):
    return functools.partial(run_in, tmp_path)


@pytest.fixture
def run_folder(run, tmp_path):
    return lambda **settings: run(source="image_folder", path=str(tmp_path / "images"), **settings)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return run_in(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """A folder of 120 images and their examples, with the lines that were reported."""
    root, lines = tmp_path_factory.mktemp("pets"), []
    tree = images.make_image_tree(root / "images", ["cat", "dog"], per_class=60, size=8)
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: lines.append(record.progress) if hasattr(record, "progress") else None
    level = LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    artifact = run_in(root, source="image_folder", path=str(tree))
    LOGGER.setLevel(level)
    LOGGER.removeHandler(handler)
    return SimpleNamespace(tree=tree, examples=artifact, lines=lines)


def read_split(artifact, split):
    """Returns the split's examples as dicts: feature -> its one value."""
    pattern = os.path.join(artifact_utils.get_split_uri([artifact], split), "*")
    rows = []
    for record in tf.data.TFRecordDataset(tf.io.gfile.glob(pattern), "GZIP").as_numpy_iterator():
        row = {}
        for key, feature in tf.train.Example.FromString(record).features.feature.items():
            (row[key],) = getattr(feature, feature.WhichOneof("kind")).value
        rows.append(row)
    return rows


def read_all(artifact):
    return [row for split in ("train", "eval", "test") for row in read_split(artifact, split)]


def read_summary(artifact):
    with open(os.path.join(artifact.uri, "data_summary.json"), encoding="utf-8") as file:
        return json.load(file)


def read_quarantine(artifact):
    with open(os.path.join(artifact.uri, "quarantine.jsonl"), encoding="utf-8") as file:
        return {row["file"]: row["reason"] for row in map(json.loads, file)}


def test_the_images_of_each_split_are_recorded(digits):
    recorded = read_split_hashes(digits.uri)
    for split in SPLITS:
        hashes = {int(row["content_sha256"][:16], 16) for row in read_split(digits, split)}
        assert recorded[split].tolist() == sorted(hashes)


def test_the_statistics_of_each_split_count_its_images(digits):
    recorded = read_image_statistics(digits.uri)
    for split in SPLITS:
        rows = read_split(digits, split)
        assert recorded[split].images == len(rows)
        assert recorded[split].labels == collections.Counter(row["label"].decode() for row in rows)
        pixels = [decode_image(tf.constant(row["image"])).numpy() for row in rows]
        assert recorded[split].mean("brightness") == pytest.approx(np.mean(pixels) / 255, abs=1e-4)
        assert recorded[split].mean("size") == 3  # 8 x 8
        assert recorded[split].mean("colour") == pytest.approx(0, abs=1e-6)


def test_originals_of_test_are_kept_beside_what_was_made_of_them(run_folder, tmp_path):
    images.make_image_tree(tmp_path / "images" / "train", 2, per_class=4)
    images.make_image_tree(tmp_path / "images" / "eval", 2, per_class=2, seed=1)
    images.make_image_tree(tmp_path / "images" / "test", 2, per_class=2, seed=2)
    odd = {"a.webp": images.make_webp(), "b.jpg": images.make_exif_jpeg(), "c.jpg": images.make_cmyk_jpeg()}
    for name, content in odd.items():
        (tmp_path / "images" / "test" / "class_0" / name).write_bytes(content)
    # One of train is not kept: the validator sends what chose no weights.
    (tmp_path / "images" / "train" / "class_0" / "d.jpg").write_bytes(images.make_exif_jpeg(3))
    artifact = run_folder()
    stored = {row["content_sha256"].decode(): row["image"] for row in read_split(artifact, "test")}
    hashes = sorted(hashlib.sha256(content).hexdigest() for content in odd.values())
    by_hash = {hashlib.sha256(content).hexdigest(): content for content in odd.values()}
    assert read_originals(artifact.uri) == [(by_hash[sha256], stored[sha256]) for sha256 in hashes]


def test_digits(digits):
    artifact = digits
    assert artifact_utils.decode_split_names(artifact.split_names) == ["train", "eval", "test"]
    summary = read_summary(artifact)
    assert summary["images_read"] == 1797
    assert {key: summary[key] for key in ("quarantined", "duplicates_dropped", "reencoded")} == {
        "quarantined": 0,
        "duplicates_dropped": 0,
        "reencoded": 0,
    }
    assert read_quarantine(artifact) == {}
    assert summary["ignored"] == {"number": 0, "names": []}
    rows = {split: read_split(artifact, split) for split in ("train", "eval", "test")}
    assert {
        split: dict(sorted(collections.Counter(row["label"].decode() for row in rows[split]).items())) for split in rows
    } == summary["counts"]
    assert sorted(summary["counts"]["train"]) == [str(digit) for digit in range(10)]
    assert 0.75 < len(rows["train"]) / 1797 < 0.85

    from sklearn.datasets import load_digits

    scans = load_digits()
    row = next(row for row in rows["train"] if row["file_name"] == b"digits/0000.png")
    assert (row["height"], row["width"], row["format"], row["label"]) == (8, 8, b"png", b"0")
    expected = np.repeat(np.rint(scans.images[0] / 16 * 255)[..., None], 3, axis=2)
    np.testing.assert_array_equal(decode_image(tf.constant(row["image"])).numpy(), expected)
    assert row["content_sha256"].decode() == hashlib.sha256(row["image"]).hexdigest()
    assert sorted(os.listdir(artifact.uri)) == [
        "Split-eval",
        "Split-test",
        "Split-train",
        "bit_depth.json",
        "data_summary.json",
        "image_figures.npz",
        "image_hashes-eval.bin",
        "image_hashes-test.bin",
        "image_hashes-train.bin",
        "image_statistics.json",
        "quarantine.jsonl",
    ]


@pytest.fixture
def odd_tree(tmp_path):
    """Two classes of 150 good images, one of them with every odd and every bad image besides."""
    root = images.make_image_tree(tmp_path / "images", ["cat", "wilder Löwe"], per_class=150, size=8)
    for name, make in {**images.ODD_IMAGES, **images.BAD_IMAGES}.items():
        (root / "wilder Löwe" / name).write_bytes(make())
    return root


def test_no_image_kills_a_run(run_folder, odd_tree):
    artifact = run_folder()
    quarantine = read_quarantine(artifact)
    assert quarantine.keys() == {f"wilder Löwe/{name}" for name in images.BAD_IMAGES}
    assert all(quarantine.values())
    rows = {row["file_name"].decode(): row for row in read_all(artifact)}
    assert len(rows) == 300 + len(images.ODD_IMAGES)
    reencoded = 0
    for name in images.ODD_IMAGES:
        row = rows[f"wilder Löwe/{name}"]
        original = (odd_tree / "wilder Löwe" / name).read_bytes()
        assert row["label"].decode() == "wilder Löwe"
        assert row["content_sha256"].decode() == hashlib.sha256(original).hexdigest()
        pixels = decode_image(tf.constant(row["image"])).numpy()
        assert pixels.shape == (row["height"], row["width"], 3)
        if row["image"] != original:
            reencoded += 1
            assert Image.open(io.BytesIO(row["image"])).format == "PNG"
    summary = read_summary(artifact)
    assert summary["bit_depth"] == 16
    assert summary["reencoded"] == reencoded > 5
    assert summary["quarantined"] == len(images.BAD_IMAGES)
    assert summary["images_read"] == len(rows) + len(images.BAD_IMAGES)


def test_images_of_12_bits_in_16_are_not_dark(run_folder, tmp_path):
    """The depth is the data set's: the smallest that holds the largest value of all."""
    random = np.random.default_rng(0)
    pixels = {}
    for label, brightest in (("cat", 4095), ("dog", 300)):
        for i in range(40):
            name = f"{label}/{i}.png"
            pixels[name] = random.integers(0, brightest + 1, (6, 8)).astype(np.uint16)
            (tmp_path / "images" / label).mkdir(parents=True, exist_ok=True)
            (tmp_path / "images" / name).write_bytes(images.encode(pixels[name], "PNG"))
    pixels["cat/0.png"][0, 0] = 4095
    (tmp_path / "images" / "cat" / "0.png").write_bytes(images.encode(pixels["cat/0.png"], "PNG"))
    artifact = run_folder()
    assert read_bit_depth(artifact.uri) == read_summary(artifact)["bit_depth"] == 12
    rows = read_all(artifact)
    assert len(rows) == 80
    for row in rows:
        seen = decode_image(tf.constant(row["image"])).numpy()
        np.testing.assert_array_equal(seen[..., 0], pixels[row["file_name"].decode()] >> 4)
        original = (tmp_path / "images" / row["file_name"].decode()).read_bytes()
        assert as_client(original, 12) == row["image"]
    for original, stored in read_originals(artifact.uri):
        assert as_client(original, 12) == stored
    statistics = read_image_statistics(artifact.uri)
    total = sum(of_split.sums["brightness"] for of_split in statistics.values())
    assert total / 80 == pytest.approx(np.mean([(values >> 4).mean() / 255 for values in pixels.values()]))


def test_too_many_bad_images_stop_with_the_list(run_folder, odd_tree, caplog):
    count, total = len(images.BAD_IMAGES), 300 + len(images.ODD_IMAGES) + len(images.BAD_IMAGES)
    with caplog.at_level(logging.WARNING), pytest.raises(UserError) as caught:
        run_folder(max_quarantined_share=0.01)
    assert f"{count} of {total} images ({count / total:.1%}) cannot be used" in str(caught.value)
    assert "wilder Löwe/corrupt.png (truncated or corrupt png" in str(caught.value)
    for name in images.BAD_IMAGES:
        assert f"wilder Löwe/{name}: " in caplog.text


def test_declared_splits_and_duplicates(run_folder, tmp_path):
    root = tmp_path / "images"
    for seed, split in enumerate(("train", "val", "test")):
        images.make_image_tree(root / split, ["cat", "dog"], per_class=40, size=8, seed=seed)
    copied = (root / "test" / "cat" / "0003.png").read_bytes()
    (root / "train" / "cat" / "copy.png").write_bytes(copied)
    contradiction = images.make_png()
    (root / "train" / "cat" / "who.png").write_bytes(contradiction)
    (root / "val" / "dog" / "knows.png").write_bytes(contradiction)

    artifact = run_folder()
    summary = read_summary(artifact)
    assert summary["counts"] == {split: {"cat": 40, "dog": 40} for split in ("train", "eval", "test")}
    assert (summary["duplicates_dropped"], summary["quarantined"]) == (1, 2)
    assert read_quarantine(artifact).keys() == {"train/cat/who.png", "val/dog/knows.png"}
    hashes = {split: {row["content_sha256"] for row in read_split(artifact, split)} for split in summary["counts"]}
    assert not hashes["train"] & hashes["test"]
    assert hashlib.sha256(copied).hexdigest().encode() in hashes["test"]
    assert {row["file_name"][:4] for row in read_split(artifact, "eval")} == {b"val/"}


def test_examples_do_not_depend_on_the_order_of_files(pets, run_folder, tmp_path):
    for folder in ("dog", "cat"):  # Made anew in the other order, a file system lists them otherwise.
        (tmp_path / "images" / folder).mkdir(parents=True)
        for path in sorted((pets.tree / folder).iterdir(), reverse=True):
            shutil.copy(path, tmp_path / "images" / folder)
    assert read_all(run_folder()) == read_all(pets.examples)


def test_files_do_not_depend_on_the_number_of_threads(pets, run, monkeypatch):
    another = 1 if thread_count() > 1 else 2
    monkeypatch.setattr("data.threads.thread_count", lambda: another)
    artifact = run(source="image_folder", path=str(pets.tree))
    written = {path.relative_to(artifact.uri): path.read_bytes() for path in Path(artifact.uri).rglob("*.*")}
    expected = {path.relative_to(pets.examples.uri): path.read_bytes() for path in Path(pets.examples.uri).rglob("*.*")}
    assert len(written) > len(SPLITS)
    assert written == expected


def test_what_a_killed_attempt_left_is_not_read(pets, run, tmp_path):
    second = tmp_path / "second"
    record = ImageRecord("cat/gone.jpg", "cat", None, sha256="0" * 64)
    for name, content in {
        "work/records-00001-of-00002": json.dumps({"record": dataclasses.asdict(record), "figures": None}).encode(),
        "Split-train/data_tfrecord-00001-of-00002.gz": next(
            Path(pets.examples.uri, "Split-train").iterdir()
        ).read_bytes(),
        "originals/0.stored.png": images.make_png(),
    }.items():
        (second / name).parent.mkdir(parents=True)
        (second / name).write_bytes(content)
    artifact = run(name="second", source="image_folder", path=str(pets.tree))
    assert read_all(artifact) == read_all(pets.examples)
    assert read_summary(artifact) == read_summary(pets.examples)
    assert not read_originals(artifact.uri)


def test_examples_can_be_a_source(pets, run):
    """TFX's `Split-*` files: read again, they give the same examples in the same splits."""
    second = run(source="tfrecords", path=pets.examples.uri)
    for split in ("train", "eval", "test"):
        assert read_split(second, split) == read_split(pets.examples, split)


@pytest.mark.parametrize(
    ("classes", "per_class", "message"),
    [(["cat"], 60, "only one class was found, 'cat'"), (["cat", "dog"], 1, "no image is left for the split")],
)
def test_data_that_cannot_do_stops(run_folder, tmp_path, classes, per_class, message):
    images.make_image_tree(tmp_path / "images", classes, per_class=per_class, size=8)
    with pytest.raises(UserError, match=re.escape(message)):
        run_folder()


def test_a_cut_tfrecord_file_stops(run, tmp_path):
    path = tmp_path / "a.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"x" * 100)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"a.tfrecord: cannot be read after 0 records"):
        run(source="tfrecords", path=str(path))


def test_reports_its_outcome(pets):
    (lasting,) = (line.message for line in pets.lines if line.lasting)
    assert re.fullmatch(r"120 images: train \d+, eval \d+, test \d+; 0 quarantined", lasting)


def test_classes_that_differ_in_case_alone_are_named(run_folder, tmp_path, caplog):
    images.make_image_tree(tmp_path / "images", ["cat", "Cat"], per_class=30, size=8)
    with caplog.at_level(logging.INFO, LOGGER.name):
        run_folder()
    assert "learnt as different classes: 'Cat' and 'cat'; if these are one, rename one as the other" in caplog.messages


def test_cache_key_holds_settings_fingerprint_and_code():
    component = ImageExampleGen(DataSettings(), "fingerprint", "code")
    assert DataSettings.model_validate_json(component.exec_properties["data_settings"]) == DataSettings()
    assert component.exec_properties["source_fingerprint"] == "fingerprint"
    assert component.exec_properties["code_hash"] == "code"


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "cat" / "0000.jpg").unlink(),
        lambda folder: (folder / "cat" / "new.jpg").write_bytes(images.make_truncated_jpeg()),
        lambda folder: (folder / "dog" / "0002.jpg").write_bytes(images.make_text()),
    ],
)
def test_images_that_change_between_the_two_readings_stop_the_run(run_folder, tmp_path, monkeypatch, change):
    folder = images.make_image_tree(tmp_path / "images", ["cat", "dog"], per_class=60, size=8)

    def check_and_change(selection, settings):
        check_selection(selection, settings)
        change(folder)

    monkeypatch.setattr(executor, "check_selection", check_and_change)
    with pytest.raises(UserError, match="came, went or changed while they were read; run again"):
        run_folder()


def test_what_a_source_does_not_read_is_not_part_of_its_cache_key():
    def key(**settings):
        return ImageExampleGen(DataSettings(**settings), "fingerprint", "code").exec_properties["data_settings"]

    folder = {"source": "image_folder", "path": "images"}
    records = {"source": "tfrecords", "path": "a.tfrecord"}
    assert key(**folder, tfrecord_label_feature="class") == key(**folder)
    assert key(**records, tfrecord_label_feature="class") != key(**records)
    assert key(split_folders={"test": ["holdout"]}) == key()
    assert key(**folder, split_folders={"test": ["holdout"]}) != key(**folder)


def test_reports_what_the_folders_became(run_folder, tmp_path, caplog):
    images.make_image_tree(tmp_path / "images" / "train", 2, per_class=20)
    images.make_image_tree(tmp_path / "images" / "val", 2, per_class=2, seed=1)
    with caplog.at_level(logging.INFO, LOGGER.name):
        artifact = run_folder()
    messages = [record.progress.message for record in caplog.records if getattr(record, "progress", None)]
    assert messages[-1] == "splits: train/ gave train and test (10 % cut), val/ became eval"
    origins = read_summary(artifact)["split_origins"]
    assert origins["eval"] == {"declared_by": ["val/"], "cut_share": None}
    assert origins["test"] == {"declared_by": [], "cut_share": 0.1}
