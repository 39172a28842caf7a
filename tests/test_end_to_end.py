"""The whole pipeline on a few dozen images: push, cache, rejection, changed images, kill and re-run, prediction.

The tests of this file are one story, in order, on one output folder: each run starts where the last one ended.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from components.exported_model.manifest import read_manifest
from pipeline import predict, run_local
from tests.images import make_bmp, make_exif_jpeg, make_image_tree, make_truncated_jpeg, make_webp

CLASSES = ("blue", "green", "ünï")
NODES = [
    "ImageExampleGen",
    "StatisticsGen",
    "SchemaGen",
    "ExampleValidator",
    "Transform",
    "Trainer",
    "ModelResolver",
    "DriftValidator",
    "Predictor",
    "ServingValidator",
    "Evaluator",
    "Pusher",
    "ReportGen",
]
BEFORE_TRAINER = set(NODES[:5])
SETTINGS = [
    "transform.image_size=32",
    "trainer.weights=none",
    "trainer.recipe=quick",
    "trainer.batch_size=16",
    "data.test_share=0.2",
    "data.eval_share=0.2",
    "evaluator.gates=[{metric: accuracy, min: 0.2, min_change: -1.0}]",
]

STEPPED = [
    "trainer.recipe=manual",
    "trainer.fine_tune_epochs=1",
    "trainer.fine_tune_blocks=5",
    "trainer.seed=7",
    "evaluator.gates=[{metric: accuracy, min_change: 1.0}]",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("story")
    images = make_image_tree(folder / "images", CLASSES, per_class=24)
    (images / "blue" / "broken.jpg").write_bytes(make_truncated_jpeg())
    (images / "blue" / "turned.JPG").write_bytes(make_exif_jpeg())
    (images / "green" / "modern.webp").write_bytes(make_webp())
    return folder


def arguments(folder: Path, *settings: str) -> list[str]:
    return ["--data", str(folder / "images"), "--output-dir", str(folder / "output"), "--set", *SETTINGS, *settings]


def run(folder: Path, *settings: str) -> tuple[int, dict[str, Any]]:
    status = run_local.main(arguments(folder, *settings))
    return status, json.loads((folder / "output" / "summary.json").read_text(encoding="utf-8"))


def ran(summary: dict[str, Any]) -> set[str]:
    return {node["id"] for node in summary["nodes"] if node["state"] != "cached"}


def test_first_run_pushes_and_tells_what_it_did(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status, summary = run(folder)
    lines = capfd.readouterr().out.splitlines()
    assert status == 0
    assert summary["status"] == "pushed"
    assert [node["id"] for node in summary["nodes"]] == NODES
    assert {node["state"] for node in summary["nodes"]} == {"complete"}
    data = summary["data"]
    assert sum(sum(by_class.values()) for by_class in data["counts"].values()) == 24 * len(CLASSES) + 2
    assert set(data["counts"]) == {"train", "eval", "test"}
    assert set(data["counts"]["train"]) == set(CLASSES)
    assert data["quarantined"] == 1
    assert [item["file"] for item in data["quarantine"]] == ["blue/broken.jpg"]
    assert {"accuracy", "macro_f1", "log_loss"} <= set(summary["metrics"])
    interval = summary["accuracy_interval"]
    assert interval["low"] <= summary["metrics"]["accuracy"] <= interval["high"]
    assert interval["images"] == sum(data["counts"]["test"].values())
    assert interval["remark"].endswith("data.test_share=0.4 gives more")
    assert [(gate["metric"], gate["kind"], gate["bound"], gate["passed"]) for gate in summary["gates"]] == [
        ("accuracy", "min", 0.2, True)
    ]
    assert summary["serving"]["blessed"] is True
    assert {finding["check"] for finding in summary["serving"]["findings"]} >= {"labels", "probabilities", "garbage"}
    assert summary["drift"]["reason"] == "there is no blessed model to compare with"
    version = Path(summary["pushed_model"])
    assert version.parent == folder / "output" / "serving_model" / "images"
    assert (version / "saved_model.pb").is_file()
    assert summary["weights"] == "none"
    assert summary["config"]["trainer"]["batch_size"] == 16
    assert summary["versions"]["tfx"]
    page = (folder / "output" / "report.html").read_text(encoding="utf-8")
    assert f">{summary['metrics']['accuracy']:.4f}<" in page
    assert "images of all splits was judged by a regression on the others" in page
    assert (
        (folder / "output" / "doubtful.csv").read_text(encoding="utf-8").startswith("content_sha256,name,split,label,")
    )
    assert all(f'<th scope="row">{node}</th>' in page for node in NODES)  # durations, which the node cannot know
    assert f"open {folder / 'output' / 'report.html'} in a browser" in "\n".join(lines)
    assert len(lines) <= 60
    assert not [line for line in lines if "WARNING" in line or "\x1b" in line]
    log = next(line.split()[-1] for line in lines if line.startswith("log "))
    assert Path(log).stat().st_size > 1000


def test_unchanged_second_run_is_all_cache(folder: Path) -> None:
    status, summary = run(folder)
    assert status == 0
    assert ran(summary) == set()
    assert summary["status"] == "pushed"
    assert len(versions(folder)) == 1


@pytest.mark.slow
def test_an_export_that_serving_refuses_is_not_pushed_though_it_is_good_and_the_screen_tells_why(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status, summary = run(folder, "serving_validator.max_model_mb=1")
    assert (status, summary["status"], summary["pushed_model"]) == (3, "not_blessed", None)
    assert all(gate["passed"] for gate in summary["gates"])
    assert [finding["check"] for finding in summary["serving"]["findings"] if not finding["passed"]] == ["size"]
    assert summary["metrics"]["accuracy"] >= 0.2  # It is measured all the same.
    assert ran(summary) == {"ServingValidator", "Evaluator", "Pusher", "ReportGen"}
    screen = capfd.readouterr().out
    assert re.search(r"serving +size: \d+\.\d MB, more than 1\s+refused", screen)
    assert "refused  by serving_validator, so nothing was pushed" in screen
    page = (folder / "output" / "report.html").read_text(encoding="utf-8")
    assert "not blessed, refused by serving_validator" in page
    assert len(versions(folder)) == 1


def test_a_deleted_pushed_model_is_pushed_again(folder: Path) -> None:
    shutil.rmtree(folder / "output" / "serving_model")
    status, summary = run(folder)
    assert status == 0
    assert ran(summary) == {"Pusher"}
    assert len(versions(folder)) == 1


def test_a_moved_image_runs_all_anew_and_killed_in_the_trainer_the_run_goes_on_and_is_rejected_by_the_change_gate(
    folder: Path,
) -> None:
    (folder / "images" / "blue" / "0000.jpg").rename(folder / "images" / "green" / "moved.jpg")
    command = [sys.executable, "-m", "pipeline.run_local", *arguments(folder, *STEPPED)]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(run_local.__file__).parent.parent)
    data_dir, trainer_dir = (
        folder / "output" / "pipeline_root" / name for name in ("Transform/transform_graph", "Trainer/model")
    )
    transformed, before = list(data_dir.iterdir()), set(trainer_dir.iterdir())
    deadline = time.monotonic() + 400
    while set(trainer_dir.iterdir()) == before and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert killed.poll() is None, "the run ended before it could be killed in the Trainer"
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    (half,) = set(trainer_dir.iterdir()) - before
    assert len(list(data_dir.iterdir())) == len(transformed) + 1

    status, summary = run(folder, *STEPPED)
    assert status == 3
    assert summary["status"] == "not_blessed"
    assert summary["pushed_model"] is None
    assert not BEFORE_TRAINER & ran(summary)
    assert {"Trainer", "Evaluator", "ServingValidator", "Pusher", "ReportGen"} <= ran(summary)
    assert not half.exists()
    counts = summary["data"]["counts"]
    assert sum(by_class["green"] for by_class in counts.values()) == 24 + 2
    page = (folder / "output" / "report.html").read_text(encoding="utf-8")
    assert "not blessed, refused by evaluator.gates" in page
    assert "paired bootstrap" in page  # both models answered the same images
    (gate,) = (gate for gate in summary["gates"] if gate["kind"] == "change")
    assert (gate["metric"], gate["kind"], gate["bound"], gate["passed"]) == ("accuracy", "change", 1.0, False)
    assert gate["value"] < 1.0
    # Here there is a blessed model, with the same images behind it.
    assert summary["drift"]["compared"]
    assert summary["drift"]["drifted"] == []
    assert summary["serving"]["blessed"] is True
    assert len(versions(folder)) == 1


def test_too_many_unusable_images_stop_the_run_with_their_list(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    images = make_image_tree(tmp_path / "images", CLASSES, per_class=6)
    for number in range(3):
        (images / "blue" / f"broken{number}.jpg").write_bytes(make_truncated_jpeg())
    assert run_local.main(["--data", str(images), "--output-dir", str(tmp_path / "output")]) == 2
    captured = capfd.readouterr()
    assert captured.err.startswith("error: 3 of 21 images (14.3%) cannot be used")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.out
    summary = json.loads((tmp_path / "output" / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "failed"
    assert [(node["id"], node["state"]) for node in summary["nodes"]] == [("ImageExampleGen", "failed")]
    assert [item["file"] for item in summary["data"]["quarantine"]] == [f"blue/broken{n}.jpg" for n in range(3)]


@pytest.fixture
def odd_images(folder: Path) -> list[str]:
    odd = folder / "odd"
    odd.mkdir()
    files = {"a.webp": make_webp(), "b.bmp": make_bmp(), "broken.jpg": make_truncated_jpeg(), "d.jpg": make_exif_jpeg()}
    for name, content in files.items():
        (odd / name).write_bytes(content)
    return [str(odd / name) for name in files]


def test_predict_answers_every_image_in_order(
    folder: Path, odd_images: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(folder / "output" / "serving_model" / "images")
    status = predict.main([*odd_images, "missing.jpg", "--model", model, "--top-k", "2", "--json"])
    answers = json.loads(capsys.readouterr().out)
    assert status == 2
    assert [answer["image"] for answer in answers] == [*odd_images, "missing.jpg"]
    assert ["error" in answer for answer in answers] == [False, False, True, False, True]
    for answer in (answer for answer in answers if "error" not in answer):
        assert set(answer) == {"image", "label", "probability", "top_k", "decision", "unknown_score"}
        assert answer["decision"] == answer["label"]  # no precision was asked for
        assert answer["label"] in CLASSES
        assert len(answer["top_k"]) == 2
        assert answer["top_k"][0] == {"label": answer["label"], "probability": answer["probability"]}
        assert answer["top_k"][0]["probability"] >= answer["top_k"][1]["probability"]
    assert read_manifest(str(predict.find_model(model))).classes == CLASSES  # it was pushed with the rest
    assert predict.main([odd_images[0], "--model", model]) == 0
    assert re.search(r"a\.webp +\S+ +[01]\.\d{4}", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--top-k", "0"], "--top-k 0: must be at least 1"),
        (["--top-k", "9"], "--top-k 9: this model answers at most 3 classes"),
        (["--model", "nowhere"], "--model nowhere: holds neither"),
    ],
)
def test_predict_refuses_wrong_input_in_one_line(
    folder: Path, extra: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(folder / "output" / "serving_model" / "images")
    image = str(next((folder / "images" / "green").glob("*.png")))
    assert predict.main([image, "--model", model, *extra]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def versions(folder: Path) -> list[Path]:
    return sorted((folder / "output" / "serving_model" / "images").glob("[0-9]*"))
