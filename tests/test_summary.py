"""The last lines of a run, from the facts of `summary.json`."""

import json
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2
from rich.console import Console

from components.report_gen.wilson import wilson_interval
from data.split_origins import make_split_origins
from pipeline.accuracy_interval import make_accuracy_interval
from pipeline.config import load_config
from pipeline.local_runner import PUSHED_DESTINATION, NodeResult
from pipeline.summary import make_summary, render_summary


def render(**facts: Any) -> str:
    summary = {**make_summary(load_config("digits"), "none", []), **facts}
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(render_summary(summary, Path("/logs/run.log"), ["do this"]), soft_wrap=True)
    return capture.get()


def gate(**facts: Any) -> dict[str, Any]:
    return {
        "metric": "accuracy",
        "slice": None,
        "kind": "min",
        "relation": ">=",
        "value": 0.5,
        "bound": 0.9,
        "passed": False,
        **facts,
    }


def test_a_run_without_results_has_failed() -> None:
    summary = make_summary(load_config("digits"), "none", [], "no images")
    assert (summary["status"], summary["error"], summary["pushed_model"]) == ("failed", "no images", None)
    assert "/logs/run.log" in render()


@pytest.mark.parametrize(("error", "status"), [(None, "pushed"), ("ReportGen: no space", "failed")])
def test_a_run_that_fails_after_the_push_has_failed_and_names_the_pushed_model(error: str | None, status: str) -> None:
    artifact = metadata_store_pb2.Artifact()
    artifact.custom_properties[PUSHED_DESTINATION].string_value = "/served/1"
    results = [NodeResult("Pusher", "complete", 1.0, {"pushed_model": [artifact]})]
    summary = make_summary(load_config("digits"), "none", results, error)
    assert (summary["status"], summary["pushed_model"]) == (status, "/served/1")
    assert "pushed   /served/1" in render(**summary)


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({}, "accuracy 0.5000 >= 0.9  refused"),
        ({"kind": "change", "value": -0.01, "bound": -0.02, "passed": True}, "blessed model -0.0100 >= -0.02  passed"),
        ({"metric": "recall", "slice": "a [b]", "passed": True}, "recall of a [b] 0.5000 >= 0.9  passed"),
        ({"metric": "log_loss", "kind": "max", "relation": "<=", "bound": 1.0}, "log_loss 0.5000 <= 1  refused"),
        ({"value": None}, "accuracy no number >= 0.9  refused"),
    ],
)
def test_each_gate_is_told_with_value_and_bound(facts: dict[str, Any], line: str) -> None:
    assert line in render(status="not_blessed", gates=[gate(**facts)])


def test_a_warm_start_and_a_baseline_that_is_not_comparable_are_told() -> None:
    text = render(
        warm_start={"description": "from Trainer/model/3: 1 of 2 classes kept, new: [b]"},
        baseline={"remark": "baseline not comparable: 1 of 3 test images trained it"},
    )
    assert "warm     from Trainer/model/3: 1 of 2 classes kept, new: [b]" in text
    assert "baseline not comparable: 1 of 3 test images trained it" in text
    assert "baseline" not in render(baseline={"remark": None})


def finding(check: str, passed: bool = True) -> dict[str, Any]:
    return {"check": check, "passed": passed, "message": f"what {check} [b] found", "value": None, "bound": None}


def test_the_checks_of_the_export_are_one_line_or_every_failure() -> None:
    measured = {"latency_p50_ms": 5.21, "latency_p95_ms": 7.89, "model_mb": 59.1}
    text = render(serving={"findings": [finding("labels"), finding("size")], "measured": measured})
    assert "serving  2 checks passed; one image in 5.2 ms, p95 7.9 ms; 59 MB" in text
    findings = [finding("labels", False), finding("size"), finding("garbage", False)]
    refusals = {"evaluator.gates": "accuracy", "serving_validator": "labels: ..."}
    text = render(status="not_blessed", serving={"findings": findings, "measured": {}}, refusals=refusals)
    assert "refused  by evaluator.gates, serving_validator, so nothing was pushed" in text
    assert "serving  labels: what labels [b] found  refused" in text
    assert "serving  garbage: what garbage [b] found  refused" in text
    assert "size" not in text


def test_drift_is_told_where_there_was_something_to_compare_with() -> None:
    row = {"statistic": "brightness", "distance": 0.25, "bound": 0.1, "passed": False}
    drift = {"compared": True, "reason": None, "drifted": ["brightness"], "rows": [row], "gate": False}
    assert "drift    drifted: brightness 0.250 (threshold 0.1)  look at the data" in render(drift=drift)
    assert "0.250 (threshold 0.1)  refused" in render(drift=drift, refusals={"drift.gate": "drifted: ..."})
    assert "drift" not in render(drift={**drift, "compared": False, "reason": "there is no blessed model"})


def test_each_format_is_told_with_its_figures_and_why_it_was_refused() -> None:
    rows = {
        "litert": {
            "kept": True,
            "reason": None,
            "megabytes": 59.04,
            "milliseconds": 4.567,
            "accuracy": 0.98,
            "agreement": 0.995,
        },
        "onnx": {
            "kept": False,
            "reason": "cannot be converted: [x]",
            "megabytes": None,
            "milliseconds": None,
            "accuracy": None,
            "agreement": None,
        },
    }
    text = render(formats={"reason": None, "formats": rows, "place": "/out/formats/digits/7"})
    assert "format   litert: 59.0 MB, 4.57 ms, accuracy 0.9800, agrees on 99.50%  kept" in " ".join(text.split("\n"))
    assert "format   onnx: cannot be converted: [x]  refused" in text
    assert "formats  /out/formats/digits/7" in text
    assert "formats  none: the model was not pushed" in render(
        formats={"reason": "the model was not pushed", "formats": {}}
    )
    assert "format" not in render()


def test_counts_quarantine_and_anomalies_are_told_and_a_long_list_is_cut() -> None:
    data = {
        "counts": {"train": {"a": 1200, "b": 3}, "eval": {"a": 1}, "test": {"b": 2}},
        "quarantined": 5,
        "duplicates_dropped": 2,
        "quarantine": [{"file": f"a/{i}[0].jpg", "reason": "is cut off"} for i in range(5)],
        "ignored": {"number": 7, "names": ["notes.txt", "cat/@eaDir"]},
        "left_out": {"Not [sure]": 1200, "Skip": 3},
        "anomalies": ["test: label: Unexpected string values"],
    }
    text = render(data=data)
    for part in (
        "train 1,203  eval 1  test 2  (2 classes)",
        "5 quarantined",
        "a/2[0].jpg: is cut off",
        "2 duplicates",
        "7 files or folders ignored, such as notes.txt, cat/@eaDir",
        "1,203 left out by data.labels: Not [sure] 1,200, Skip 3",
    ):
        assert part in text
    assert "a/3[0].jpg" not in text
    assert "Unexpected string values" in text


def test_what_declared_splits_became_is_told() -> None:
    data = {
        "counts": {split: {"a": 1, "b": 2} for split in ("train", "eval", "test")},
        "quarantined": 0,
        "duplicates_dropped": 0,
    }
    declared = [("train", "train/"), ("eval", "val/")]
    text = render(data={**data, "split_origins": make_split_origins(declared, {"test": 0.1})})
    assert "splits   train/ gave train and test (10 % cut), val/ became eval\n" in text
    assert "splits" not in render(data={**data, "split_origins": make_split_origins([], {"eval": 0.1, "test": 0.1})})


METRICS: dict[str, Any] = {
    "accuracy": 40 / 48,
    "top_5_accuracy": 1.0,
    "macro_precision": 0.98,
    "macro_auc": None,
    "ece": 0.01,
}


@pytest.mark.parametrize(
    ("images", "test_share", "declared_by", "remark"),
    [
        (48, 0.1, [], "48 test images: certain to +-10 points; data.test_share=0.2 gives more"),
        (48, 0.4, [], "48 test images: certain to +-10 points; data.test_share=0.5 gives more"),
        (48, 0.5, [], "48 test images: certain to +-10 points; only more images give more"),
        (48, 0.1, ["test"], "48 test images: certain to +-10 points; more images in test give more"),
        (100, 0.1, [], None),
    ],
)
def test_the_accuracy_has_an_interval_and_few_test_images_a_remark_of_one_line(
    images: int, test_share: float, declared_by: list[str], remark: str | None
) -> None:
    origins = {"test": {"declared_by": declared_by}}
    interval = make_accuracy_interval(METRICS["accuracy"], images, test_share, origins)
    assert interval is not None
    assert interval["remark"] == remark
    assert (interval["low"], interval["high"]) == wilson_interval(METRICS["accuracy"] * images, images)
    lines = render(metrics=METRICS, accuracy_interval=interval).splitlines()
    first = f"test     accuracy 0.8333 ({interval['low']:.3f} to {interval['high']:.3f})  top_5_accuracy 1.0000"
    assert lines[lines.index(first) + 1].split() == ["macro_precision", "0.9800", "ece", "0.0100"]
    assert (f"         {remark}" in lines) == (remark is not None)
    assert max(map(len, lines)) <= 80


def test_folders_of_test_images_are_named_with_the_setting_that_names_more() -> None:
    interval = make_accuracy_interval(0.5, 1, 0.1, {"test": {"declared_by": ["holdout/", "test/"]}})
    assert interval is not None
    assert interval["remark"] == (
        "1 test image: certain to +-45 points; more images in holdout/ and test/, or other folders in "
        "data.split_folders.test, give more"
    )


def test_no_accuracy_has_no_interval() -> None:
    assert make_accuracy_interval(None, 10, 0.1, None) is None
    assert make_accuracy_interval(0.5, 0, 0.1, None) is None
    assert "accuracy 0.8333  top_5_accuracy 1.0000" in render(metrics=METRICS)


def test_a_file_name_with_an_odd_line_end_is_one_entry(tmp_path: Path) -> None:
    (tmp_path / "data_summary.json").write_text('{"counts": {}, "quarantined": 1}', encoding="utf-8")
    item = {"file": "a\u2028b\x85.jpg", "reason": "not an image"}
    (tmp_path / "quarantine.jsonl").write_text(json.dumps(item, ensure_ascii=False) + "\n", encoding="utf-8")
    artifact = metadata_store_pb2.Artifact(uri=str(tmp_path))
    result = NodeResult("ImageExampleGen", "complete", 1.0, {"examples": [artifact]})
    assert make_summary(load_config("digits"), "none", [result])["data"]["quarantine"] == [item]


def test_paths_and_commands_are_not_folded_in_a_narrow_terminal() -> None:
    model = "/a" * 60
    lines = render(status="pushed", pushed_model=model).splitlines()
    assert f"pushed   {model}" in lines
    assert "next     do this" in lines


def test_no_line_ends_with_spaces() -> None:
    text = render(status="not_blessed", gates=[gate(), gate(metric="macro_f1", slice="a long name " * 8)])
    assert [line for line in text.split("\n") if line != line.rstrip()] == []
