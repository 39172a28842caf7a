"""`python -m pipeline.report`: evaluations of any TFX pipeline, comparisons, formats, mistakes."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2

from components.predictor.predictions import PredictionsWriter
from components.report_gen.report_files import write_report
from pipeline import report
from pipeline.report_slices import make_slice
from tests.report_run import make_test_account


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("reports")
    for name, skill in (("good", 5.0), ("bad", 2.0)):
        config = {"name": "test", "trainer": {"seed": 1, "batch_size": 32 if name == "good" else 64}}
        write_report(replace(make_test_account(skill=skill), config=config), str(root / name))
    return [root / "good", root / "bad"]


@pytest.fixture(scope="module")
def foreign_evaluation(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An evaluation with metrics and slices of TFMA's own, as any TFX pipeline may have written it."""
    folder = str(tmp_path_factory.mktemp("foreign") / "evaluation")
    frame = pd.DataFrame({"label": [0, 1, 1, 0], "prediction": [0.2, 0.9, 0.4, 0.6], "country": ["a", "a", "b", "b"]})
    config = config_pb2.EvalConfig(
        model_specs=[config_pb2.ModelSpec(label_key="label", prediction_key="prediction")],
        slicing_specs=[config_pb2.SlicingSpec(), config_pb2.SlicingSpec(feature_keys=["country"])],
        metrics_specs=[
            config_pb2.MetricsSpec(
                metrics=[config_pb2.MetricConfig(class_name=name) for name in ("BinaryAccuracy", "ExampleCount")]
            )
        ],
    )
    tfma.analyze_raw_data(frame, config, output_path=folder)
    return folder


def test_an_evaluation_of_another_pipeline_becomes_a_page(
    foreign_evaluation: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "page.html"
    assert report.main([foreign_evaluation, "--output", str(path)]) == 0
    assert capsys.readouterr().out.strip() == str(path)
    html = path.read_text(encoding="utf-8")
    assert ">0.5000<" in html
    assert "country:a" in html
    assert (tmp_path / "model_card-page.md").is_file()


def test_its_figures_are_printed_in_every_format(foreign_evaluation: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([foreign_evaluation, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["headline"][0]["value"] == 0.5
    assert report.main([foreign_evaluation, "--format", "csv"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert ["metrics", "binary_accuracy", "0.5"] in rows
    assert report.main([foreign_evaluation, "--format", "md"]) == 0
    assert "| binary_accuracy | 0.5000 |" in capsys.readouterr().out


def test_several_runs_are_compared(reports: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "both.html"
    assert report.main([*map(str, reports), "--output", str(path)]) == 0
    table = capsys.readouterr().out
    html = path.read_text(encoding="utf-8")
    good, bad = (json.loads((folder / "facts.json").read_text(encoding="utf-8")) for folder in reports)
    for text in (table, html):
        assert f"{good['headline'][0]['value']:.4f}" in text
        assert f"{bad['headline'][0]['value']:.4f}" in text
        assert "trainer.batch_size" in text
        assert "trainer.seed" not in text
    best = html.split('<th scope="row">accuracy</th>')[1].split("</tr>")[0]
    assert best.index("best") < best.index(f"{bad['headline'][0]['value']:.4f}")


def test_a_comparison_as_json(reports: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([*map(str, reports), "--format", "json"]) == 0
    good, bad = json.loads(capsys.readouterr().out)
    assert good["metrics"]["accuracy"] > bad["metrics"]["accuracy"]
    assert (good["configuration"], bad["configuration"]) == ({"trainer.batch_size": 32}, {"trainer.batch_size": 64})


def test_no_images_leaves_the_pictures_out(reports: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    assert report.main([str(reports[0]), "--no-images", "--output", str(path)]) == 0
    assert "Pictures are left out" in path.read_text(encoding="utf-8")
    assert (tmp_path / "model_card.md").is_file()


def test_facts_of_another_version_are_refused(
    reports: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = json.loads((reports[0] / "facts.json").read_text(encoding="utf-8"))
    (tmp_path / "facts.json").write_text(json.dumps({**facts, "version": 0}), encoding="utf-8")
    assert report.main([str(tmp_path)]) == 2
    assert "was written by another version of ReportGen" in capsys.readouterr().err


def test_accounts_written_before_are_compared_with_those_of_today(
    reports: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = json.loads((reports[1] / "facts.json").read_text(encoding="utf-8"))
    del before["baseline"], before["verdict"]["refusals"]
    (tmp_path / "facts.json").write_text(json.dumps({**before, "card": [{"title": "Model", "lines": []}]}))
    printed = []
    for earlier in (reports[1], tmp_path):
        assert report.main([str(reports[0]), str(earlier), "--format", "csv"]) == 0
        printed.append(capsys.readouterr().out.replace(f",{earlier.name}\n", ",bad\n", 1))
    assert printed[0] == printed[1]
    assert "not blessed" in printed[0]


def test_a_report_names_the_first_of_many_files_in_quarantine(tmp_path: Path) -> None:
    data = {"counts": {"train": {"a": 1}}, "splits": ["train"], "sizes": {}, "anomalies": None, "images_read": 61}
    data |= {"quarantined": 60, "duplicates_dropped": 0, "reencoded": 0}
    data["quarantine"] = [{"file": f"{i}.jpg", "reason": "is cut off"} for i in range(60)]
    write_report(replace(make_test_account(), data=data), str(tmp_path))
    assert len(json.loads((tmp_path / "facts.json").read_text(encoding="utf-8"))["data"]["quarantine"]) == 50
    assert "Quarantine: 60 files, the first 50" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_damaged_facts_are_told_in_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "facts.json").write_bytes(text.encode("latin-1"))
    assert report.main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}/facts.json: is damaged (")
    assert error.endswith("; run the pipeline again\n")
    assert error.count("\n") == 1


def test_damaged_metadata_are_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pipeline_root").mkdir()
    (tmp_path / "metadata.sqlite").write_bytes(b"not a database" * 100)
    assert report.main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}/metadata.sqlite: is damaged (file is not a database); remove it")
    assert error.count("\n") == 1


def test_an_answer_of_equal_probabilities_names_its_first_classes(tmp_path: Path) -> None:
    images = 4
    columns = dict.fromkeys(("file_name", "content_sha256", "label", "format"), [""] * images)
    columns |= dict.fromkeys(("height", "width"), [8] * images)
    columns |= dict.fromkeys(("decision", "unknown_score", "embedding", "baseline_probabilities"))
    answers = np.full([images, images], 0.25, np.float32)
    with PredictionsWriter(str(tmp_path), "abcd") as writer:
        writer.write({**columns, "label_index": np.arange(images), "probabilities": answers})
    figures = {row["name"]: row["value"] for row in make_slice(str(tmp_path), [], None, 3)["figures"]}
    assert (figures["accuracy"], figures["top_3_accuracy"]) == (0.25, 0.75)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: is no run; give an output folder"),
        (["{empty}"], "is no run"),
        (["{good}", "--list"], "lies in no output folder"),
        (["{good}", "--slice", "label=x"], "has no predictions of single images"),
        (["--format", "xml"], "argument --format: invalid choice: 'xml'"),
        (["{good}", "--threshold", "much"], "argument --threshold: invalid float value: 'much'; see --help"),
        (["{good}", "--top-k", "0"], "--top-k 0: must be at least 1"),
        (["{good}", "{good}", "--output", "/proc/a/b.html"], "/proc/a/b.html: cannot be written: No such file"),
        (["{good}", "--output", "{empty}"], "is a folder; name a file in it"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    arguments: list[str], message: str, reports: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main([text.format(good=reports[0], empty=tmp_path) for text in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
