"""ImageExampleGen on a table: the bytes that it writes for the folder itself, and what it tells."""

import json
import os
import shutil

import pytest
import tensorflow as tf
from tfx.types import artifact_utils

from data.features import SPLITS
from data.sources import archive
from tests import images, table_files
from tests.test_image_example_gen import read_quarantine, read_summary, run_in


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    root = tmp_path_factory.mktemp("pets") / "pets"
    pictures = table_files.make_pictures(root)
    return root, pictures, written(run_in(root.parent, "folder", source="image_folder", path=str(root)))


def written(artifact):
    """Returns the examples of each split, in order."""
    return {
        split: [
            record
            for path in sorted(tf.io.gfile.glob(os.path.join(artifact_utils.get_split_uri([artifact], split), "*")))
            for record in tf.data.TFRecordDataset(path, "GZIP").as_numpy_iterator()
        ]
        for split in SPLITS
    }


def test_a_table_gives_the_examples_of_the_folder(pets, tmp_path):
    root, pictures, expected = pets
    rows = [(one.path, one.label, one.split) for one in pictures]
    path = table_files.write_csv(root / "plain.csv", ("path", "label", "split"), rows)
    assert written(run_in(tmp_path, source="table", path=str(path))) == expected
    assert all(len(records) == 8 for records in expected.values())


def test_parquet_with_bytes_gives_the_examples_of_the_folder(pets, tmp_path):
    root, pictures, expected = pets
    path = table_files.hugging_face(root, pictures)
    found = written(run_in(tmp_path, source="table", path=str(path), columns={"group": "", "weight": ""}))
    assert {split: sorted(records) for split, records in found.items()} == {
        split: sorted(records) for split, records in expected.items()
    }


def test_an_archive_gives_the_examples_of_the_folder(pets, tmp_path, monkeypatch):
    root, _, expected = pets
    monkeypatch.setattr(archive.pooch, "os_cache", lambda name: str(tmp_path / name))
    path = shutil.make_archive(str(tmp_path / "pets"), "zip", root.parent, "pets")
    assert written(run_in(tmp_path, source="archive", path=path)) == expected


def test_what_has_no_row_or_no_file_and_what_is_left_out_is_counted(tmp_path):
    images.make_image_tree(tmp_path / "pets", ["cat", "dog", "unsure"], per_class=20, size=8)
    paths = sorted(path.relative_to(tmp_path / "pets").as_posix() for path in (tmp_path / "pets").rglob("*.*"))
    rows = [(path, path.split("/")[0]) for path in paths if path != "cat/0003.png"]
    rows += [("cat/none.png", "cat"), ("dog/0001.png", "cat")]
    table = table_files.write_csv(tmp_path / "pets" / "t.csv", ("path", "label"), rows)
    labels = {"dog": "hound", "unsure": None}
    artifact = run_in(
        tmp_path, source="table", path=str(table), labels=labels, max_quarantined_share=0.1, eval_share=0.2
    )
    assert read_quarantine(artifact) == {
        "cat/0003.png": "has no row in t.csv; data.unlabelled=ignore leaves such images out",
        "cat/none.png": "no such file (line 61 of t.csv)",
        "dog/0001.png": "line 22 of t.csv gives the label 'dog', and line 62 of t.csv 'cat'",
    }
    summary = read_summary(artifact)
    assert (summary["images_read"], summary["quarantined"], summary["left_out"]) == (41, 3, {"unsure": 20})
    assert set(summary["counts"]["train"]) == {"cat", "hound"}
    assert json.dumps(summary)
