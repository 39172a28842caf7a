"""A whole run with formats out of TensorFlow: where they lie, what they say, and the cache."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import predict, run_local
from tests.images import make_image_tree
from tests.test_end_to_end import NODES, SETTINGS

FORMATS = ["litert", "litert-int8", "onnx"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_formats_of_a_pushed_model_lie_by_its_version(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    images = make_image_tree(tmp_path / "images", ("blue", "green", "ünï"), per_class=24)
    arguments = ["--data", str(images), "--output-dir", str(tmp_path / "output"), "--set", *SETTINGS]
    # A bound that holds for any model: what is tried here is not how good it is.
    arguments += ["trainer.backbone=mobilenetv3-small", f"export.formats={FORMATS}", "export.max_accuracy_loss=1"]
    assert run_local.main(arguments) == 0
    told = capfd.readouterr().out
    summary = json.loads((tmp_path / "output" / "summary.json").read_text(encoding="utf-8"))
    assert [node["id"] for node in summary["nodes"]] == [*NODES[:-1], "ModelConverter", NODES[-1]]
    pushed = Path(summary["pushed_model"])
    place = tmp_path / "output" / "formats" / "images" / pushed.name
    assert summary["formats"]["place"] == str(place)
    assert {path.name for path in place.iterdir()} == {*FORMATS, "formats.json"}
    rows = summary["formats"]["formats"]
    assert summary["formats"]["images"] == sum(summary["data"]["counts"]["test"].values())
    assert summary["formats"]["saved_model"]["accuracy"] == pytest.approx(summary["metrics"]["accuracy"])
    for format in FORMATS:
        assert f"format   {format}: {rows[format]['megabytes']:.1f} MB" in told
    # But for a choice by the last bit, floating point answers as the SavedModel does.
    assert min(rows["litert"]["agreement"], rows["onnx"]["agreement"]) > 0.9
    for name in ("report.html", "model_card.md"):
        assert "litert-int8 was calibrated on" in (tmp_path / "output" / name).read_text(encoding="utf-8")
    image = str(next((images / "ünï").iterdir()))
    assert predict.main(["--model", str(pushed), "--json", image]) == 0
    (expected,) = json.loads(capfd.readouterr().out)
    for format in ("litert", "onnx"):
        command = [sys.executable, "-I", str(place / format / "classify.py"), image]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300)
        assert json.loads(done.stdout)["label"] == expected["label"]
    assert run_local.main(arguments) == 0
    again = json.loads((tmp_path / "output" / "summary.json").read_text(encoding="utf-8"))
    assert {node["state"] for node in again["nodes"]} == {"cached"}
    assert again["formats"] == summary["formats"]
