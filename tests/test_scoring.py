"""Whole folders through a model: what is found, the rows, and what is left after a kill."""

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from data.settings import UnlabelledDataSettings
from pipeline import predict
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS
from pipeline.scoring.images import find_images
from pipeline.scoring.job import ScoringOptions, make_plan, run_here, run_on_beam
from pipeline.scoring.place import Place
from pipeline.scoring.rows import COLUMNS, read_rows
from pipeline.scoring.shards import divide
from tests.images import encode, make_exif_jpeg, make_truncated_jpeg, make_webp
from tests.scoring_model import CLASSES, make_scoring_model

SETTINGS = UnlabelledDataSettings(source="image_folder", path="/")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_scoring_model(folder / "plain" / "7")
    make_scoring_model(folder / "deciding" / "8", decides=True)
    return folder


def shade(value: int) -> bytes:
    return encode(np.full((6, 9, 3), value, np.uint8), "PNG")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven files in two folders and beside them, two of which cannot be used, and a note."""
    folder = tmp_path_factory.mktemp("images")
    for inner in ("light", "2026-11"):
        (folder / inner).mkdir()
    for number in range(4):
        (folder / "light" / f"{number}.png").write_bytes(shade(150 + number))
        (folder / "2026-11" / f"{number}.png").write_bytes(shade(60 + number))
    (folder / "turned.JPG").write_bytes(make_exif_jpeg())
    (folder / "broken.jpg").write_bytes(make_truncated_jpeg())
    (folder / "modern.webp").write_bytes(make_webp())
    (folder / "notes.txt").write_text("no image")
    return folder


def score(images: Path | str, out: Path, model: Path, *more: str) -> int:
    return predict.main([str(images), "--model", str(model), "--out", str(out), *more])


def rows_of(path: Path) -> list[dict[str, Any]]:
    return list(read_rows(str(path)))


def bytes_of(path: Path) -> dict[str, bytes]:
    return {part.name: part.read_bytes() for part in path.glob("part-*")} if path.is_dir() else {"": path.read_bytes()}


def test_a_folder_without_classes_gets_a_row_an_image_with_the_reason_where_there_is_none(
    images: Path, models: Path, tmp_path: Path
) -> None:
    assert score(images, tmp_path / "scored.parquet", models / "plain", "--shard-images", "4", "--batch-size", "3") == 0
    rows = {row["name"]: row for row in rows_of(tmp_path / "scored.parquet")}
    assert list(rows) == sorted(rows)
    assert len(rows) == 11
    assert "truncated or corrupt" in rows["broken.jpg"]["problem"]
    assert rows["broken.jpg"]["label"] is None
    first = rows["light/0.png"]
    assert first["sha256"] == hashlib.sha256((images / "light" / "0.png").read_bytes()).hexdigest()
    assert (first["label"], first["given_label"], first["version"], first["problem"]) == ("light", "light", "7", None)
    assert first["probability"] == pytest.approx(150 / 255)
    assert [item["label"] for item in first["top_k"]] == ["light", "dark"]
    assert first["decision"] is None
    assert first["unknown_score"] is None
    assert first["image_brightness"] == pytest.approx(150 / 255)
    assert first["image_aspect"] == pytest.approx(np.log2(9 / 6))
    assert rows["2026-11/0.png"]["given_label"] is None  # a folder, and no class of the model
    assert rows["2026-11/0.png"]["label"] == "dark"
    sizes = [pq.read_metadata(part).num_rows for part in sorted((tmp_path / "scored.parquet").glob("part-*"))]
    assert sizes == [4, 4, 3]
    assert pq.read_table(tmp_path / "scored.parquet").column_names == list(COLUMNS)


def test_the_three_formats_say_the_same(images: Path, models: Path, tmp_path: Path) -> None:
    model = models / "deciding" / "8"
    found = []
    for name in ("a.parquet", "b.jsonl", "c.csv"):
        assert score(images, tmp_path / name, model, "--shard-images", "4", "--top-k", "1") == 0
        found.append(rows_of(tmp_path / name))
    parquet, jsonl, text = found
    assert len(parquet) == len(jsonl) == len(text) == 11
    for one, two, three in zip(parquet, jsonl, text, strict=True):
        sure = one["probability"] and one["probability"] > 0.7
        decided = None if one["problem"] else one["label"] if sure else ""
        assert one["decision"] == two["decision"] == decided
        assert three["decision"] == (decided or "")  # CSV knows no null
        for column in ("name", "sha256", "label", "version", "problem", "given_label"):
            assert one[column] == two[column] == three[column]
        for column in ("probability", "unknown_score", "image_sharpness"):
            wanted = None if one[column] is None else pytest.approx(one[column], rel=1e-6)
            assert two[column] == wanted
            assert three[column] == wanted
    assert json.loads((tmp_path / "b.jsonl").read_text().splitlines()[1])["name"] == "2026-11/1.png"
    with open(tmp_path / "c.csv", newline="") as file:
        assert next(csv.reader(file)) == list(COLUMNS)
    assert sorted(path.name for path in (tmp_path / "c.csv.job").iterdir()) == ["_job.json", "_lock"]


def test_killed_at_any_shard_and_started_again_it_ends_with_the_same_bytes_and_scores_no_shard_twice(
    images: Path, tmp_path: Path
) -> None:
    model = make_scoring_model(tmp_path / "slow" / "1", turns=10)
    many = tmp_path / "many"
    many.mkdir()
    for number in range(40):
        (many / f"{number:02d}.png").write_bytes(shade(4 * number))
    more = ("--shard-images", "2", "--batch-size", "2")
    out = tmp_path / "killed.jsonl"
    shards = tmp_path / "killed.jsonl.job"
    command = [sys.executable, "-m", "pipeline.predict", str(many), "--model", str(model), "--out", str(out), *more]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(shards.glob("part-*.jsonl"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {path.name: path.stat() for path in shards.glob("part-*.jsonl")}
    assert 3 <= len(before) < 20
    assert not out.exists()
    (shards / "part-00019-of-00020.jsonl.1.tmp").write_text("half a")  # as a kill within a writing leaves it
    place, options = Place(str(out)), ScoringOptions(str(model), 2, 2, None, SETTINGS)
    plan = make_plan([str(many)], place, options)
    assert len(plan.missing) == 20 - len(before)
    assert run_here(plan, place, options)["images"] == 40 - 2 * len(before)
    after = {path.name: path.stat() for path in shards.glob("part-*.jsonl")}
    assert {name: after[name].st_ino for name in before} == {name: of.st_ino for name, of in before.items()}
    place.finish(len(plan.shards))
    assert score(many, tmp_path / "whole.jsonl", model, *more) == 0
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert [path.name for path in shards.iterdir() if path.name not in ("_job.json", "_lock")] == []


def test_a_second_start_of_what_is_done_changes_nothing(
    images: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("scored.parquet", "scored.csv"):
        out = tmp_path / name
        assert score(images, out, models / "plain", "--json") == 0
        before = bytes_of(out)
        capsys.readouterr()
        assert score(images, out, models / "plain", "--json") == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["images"], facts["images_before"], facts["version"]) == (11, 11, "7")
        assert bytes_of(out) == before


def change_model(images: Path, models: Path) -> list[str]:
    return ["--model", str(models / "deciding")]


def change_data(images: Path, models: Path) -> list[str]:
    os.utime(images / "modern.webp")
    return []


def change_settings(images: Path, models: Path) -> list[str]:
    return ["--set", "data.max_pixels=1000"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            change_model,
            r"holds rows with model 7 \(\w{16}\), and this is 8 \(\w{16}\); name another, or remove .*csv.job",
        ),
        (change_data, r"holds rows with data .*images\d+ \(\w{16}\), and this is .*images\d+ \(\w{16}\)"),
        (change_settings, "holds rows with data.max_pixels null, and this is 1000; name another"),
    ],
)
def test_another_model_other_data_and_other_settings_are_told_in_one_line_and_not_mixed(
    change: Callable[[Path, Path], list[str]],
    message: str,
    images: Path,
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "scored.csv"
    assert score(images, out, models / "plain") == 0
    before = out.read_bytes()
    assert score(images, out, models / "plain", *change(images, models)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(message, error), error
    assert out.read_bytes() == before


def test_two_at_once_do_not_meet_in_one_place(
    images: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Place(str(tmp_path / "scored.parquet"))
    first.begin({})
    assert score(images, tmp_path / "scored.parquet", models / "plain") == 2
    assert "another process scores into it" in capsys.readouterr().err
    first.finish(0)


@pytest.fixture(scope="module")
def places(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The eight shades of the folder, as a table of paths, an archive, a table of bytes and records."""
    folder = tmp_path_factory.mktemp("places")
    files = sorted(images.glob("*/*.png"))
    (folder / "paths.csv").write_text("image\n" + "".join(f"{path}\n" for path in files) + "/no/such.png\n")
    with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
        for path in files:
            archive.write(path, f"all/{path.parent.name}-{path.name}")
    held = [path.read_bytes() for path in files]
    pq.write_table(pa.table({"image": held}), folder / "bytes.parquet", row_group_size=3)
    for number, part in enumerate((held[:5], held[5:])):
        with tf.io.TFRecordWriter(str(folder / f"r-0000{number}-of-00002.tfrecord")) as writer:
            for encoded in part:
                feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
                example = tf.train.Example(features=tf.train.Features(feature={"image": feature}))
                writer.write(example.SerializeToString())
    return {
        "table": folder / "paths.csv",
        "archive": folder / "archive.zip",
        "bytes": folder / "bytes.parquet",
        "records": folder / "*.tfrecord",
    }


def test_a_table_is_given_by_its_bare_name(
    images: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    shutil.copy(next(images.glob("*/*.png")), tmp_path / "photos" / "a.png")
    (tmp_path / "images.csv").write_text("image\nphotos/a.png\n")
    monkeypatch.chdir(tmp_path)
    assert score(Path("images.csv"), tmp_path / "scored.jsonl", models / "plain") == 0
    (row,) = rows_of(tmp_path / "scored.jsonl")
    assert (row["name"], row["problem"]) == ("photos/a.png", None)


@pytest.mark.parametrize("kind", ["table", "archive", "bytes", "records"])
def test_tables_archives_and_records_need_no_labels(
    kind: str, places: dict[str, Path], images: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert score(places[kind], tmp_path / "scored.parquet", models / "plain", "--shard-images", "4") == 0
    rows = rows_of(tmp_path / "scored.parquet")
    wanted = {hashlib.sha256(path.read_bytes()).hexdigest() for path in images.glob("*/*.png")}
    assert {row["sha256"] for row in rows if not row["problem"]} == wanted
    missing = [row for row in rows if row["problem"]]
    assert [row["name"] for row in missing] == (["/no/such.png"] if kind == "table" else [])
    parts = sorted((tmp_path / "scored.parquet").glob("part-*"))
    assert [pq.read_metadata(part).num_rows for part in parts] == [4, 4, *([1] if kind == "table" else [])]


def test_labels_of_a_table_come_along(images: Path, models: Path, tmp_path: Path) -> None:
    first, second = sorted(images.glob("light/*.png"))[:2]
    (tmp_path / "t.csv").write_text(f"file,says\n{first},dark\n{second},\n")
    assert score(tmp_path / "t.csv", tmp_path / "o.jsonl", models / "plain", "--set", "data.columns.label=says") == 0
    assert {Path(row["name"]).name: row["given_label"] for row in rows_of(tmp_path / "o.jsonl")} == {
        "0.png": "dark",
        "1.png": None,
    }


def test_shards_are_of_one_size_across_files_that_hold_several_images() -> None:
    shards = list(divide(["a", "b", "c"], [5, 1, 4], 4))
    pieces = [[(piece.reference, piece.start, piece.stop) for piece in shard.pieces] for shard in shards]
    assert pieces == [[("a", 0, 4)], [("a", 4, 5), ("b", 0, 1), ("c", 0, 2)], [("c", 2, 4)]]
    assert [len(shard) for shard in shards] == [4, 4, 2]


@pytest.mark.parametrize("kind", ["folder", "records"])
def test_beam_writes_the_same_bytes(
    kind: str, places: dict[str, Path], images: Path, models: Path, tmp_path: Path
) -> None:
    where = str(images if kind == "folder" else places[kind])
    options = ScoringOptions(str(models / "plain" / "7"), 3, 2, None, SETTINGS)
    here, there = Place(str(tmp_path / "here.parquet")), Place(str(tmp_path / "there.parquet"))
    run_here(make_plan([where], here, options), here, options)
    run_on_beam(make_plan([where], there, options), there, options, IN_PROCESS_BEAM_ARGS)
    assert bytes_of(Path(here.path)) == bytes_of(Path(there.path)) != {}
    assert make_plan([where], there, options).missing == []
    here.finish(1)
    there.finish(1)


def test_image_files_alone_may_be_scored_too(images: Path, models: Path, tmp_path: Path) -> None:
    files = [str(images / "turned.JPG"), str(images / "modern.webp")]
    arguments = [*files, "--model", str(models / "plain"), "--out", str(tmp_path / "two.csv")]
    assert predict.main(arguments) == 0
    assert [row["name"] for row in rows_of(tmp_path / "two.csv")] == files


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{images}", "--out", "scored.xlsx"], "--out scored.xlsx: ends in none of .parquet, .jsonl, .csv; choose one"),
        (["{images}", "--out", "s.csv", "--shard-images", "0"], "--shard-images 0: must be at least 1"),
        (
            ["{images}", "--out", "s.csv", "--set", "trainer.seed=1"],
            "--set trainer.seed=1: scoring reads settings of data",
        ),
        (["{images}", "{images}", "--out", "s.csv"], "is no image file; give one folder, table or archive"),
        (["{images}/nothing", "--out", "s.csv"], "nothing, which does not exist"),
        (["{images}", "--shard-images", "5"], "--shard-images is for whole folders; give --out, or leave it out"),
        (["{images}", "--beam-runner", "dataflow"], "--beam-runner is for whole folders; give --out"),
        (
            [
                *("{images}", "--out", "s.csv", "--beam-runner", "dataflow", "--project", "my-project", "--region"),
                *("us-central1", "--pipeline-root", "gs://bucket/root", "--image", "us-docker.pkg.dev/p/r/i:1"),
            ],
            "--out s.csv: Dataflow's workers cannot reach it; give a place in a bucket, gs://...",
        ),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    message: str,
    images: Path,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [argument.replace("{images}", str(images)) for argument in arguments]
    assert predict.main([*given, "--model", str(models / "plain")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_empty_folder_is_told(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert score(tmp_path / "empty", tmp_path / "s.csv", models / "plain") == 2
    assert "empty holds no image; give a folder, table or archive of images" in capsys.readouterr().err
    assert not (tmp_path / "s.csv.job").exists()


def test_a_folder_is_listed_in_the_order_of_its_names(images: Path) -> None:
    found = find_images([str(images)], SETTINGS, CLASSES)
    assert [reference.path for reference in found.references] == sorted(
        reference.path for reference in found.references
    )
