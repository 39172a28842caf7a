"""Doubtful labels go out as a spreadsheet or as tasks, and the decisions come back as corrections."""

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from components.report_gen.label_doubts import write_doubtful
from components.report_gen.report_files import write_report
from data.corrections import Correction, read_table
from data.corrections_file import read_corrections
from pipeline import labels
from pipeline.label_files import render_csv, render_labeling_config, render_tasks
from tests.report_run import make_test_account

A, B, C = (hashlib.sha256(letter.encode()).hexdigest() for letter in "abc")


def make_row(sha256: str, label: str, suggested: str, kind: str = "label") -> dict[str, Any]:
    return {
        "content_sha256": sha256,
        "name": f'{label}/{sha256[:4]}, "x".jpg',
        "split": "test",
        "label": label,
        "suggested_label": suggested,
        "kind": kind,
        "label_probability": 0.01,
        "suggested_probability": 0.9,
    }


ROWS = [make_row(A, "cat", "dog"), make_row(B, "dög", "cat"), make_row(C, "cat", "cat", "outlier")]


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report").mkdir()
    write_report(make_test_account(), str(tmp_path / "report"))
    write_doubtful(ROWS, str(tmp_path / "report"))
    return str(tmp_path / "report")


def fill(path: Path, decisions: dict[str, str], delimiter: str = ",") -> None:
    """Decides as a person does in a spreadsheet, which saves with a delimiter of its own."""
    rows = read_table(path.read_bytes(), str(path), ())
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), delimiter=delimiter)
    writer.writeheader()
    writer.writerows({**row, "new_label": decisions.get(row["content_sha256"], "")} for row in rows)
    path.write_text(text.getvalue(), encoding="utf-8-sig")


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_the_spreadsheet_comes_back(report: str, capsys: pytest.CaptureFixture[str], delimiter: str) -> None:
    assert labels.main(["export", report]) == 0
    assert "doubtful-labels.csv: 3 images" in capsys.readouterr().out
    fill(Path("doubtful-labels.csv"), {A: "dog", B: "dög", C: "remove"}, delimiter)
    assert labels.main(["import", "doubtful-labels.csv", "--to", "corrections.csv", "--who", "Zoë"]) == 0
    out = capsys.readouterr().out
    assert "1 labels corrected, 1 images left out, 1 found right; it holds 3 now" in out
    assert "--set data.corrections=corrections.csv" in out
    found = read_corrections("corrections.csv")
    assert [(one.sha256, one.label, one.was, one.who) for one in found.values()] == [
        (A, "dog", "cat", "Zoë"),
        (B, "dög", "dög", "Zoë"),
        (C, "REMOVE", "cat", "Zoë"),
    ]
    assert all(one.when.endswith("+00:00") for one in found.values())
    # Once more: the newer decision stands, and what was decided before stays.
    fill(Path("doubtful-labels.csv"), {A: "cat"}, ",")
    assert labels.main(["import", "doubtful-labels.csv", "--to", "corrections.csv"]) == 0
    assert [one.label for one in read_corrections("corrections.csv").values()] == ["cat", "dög", "REMOVE"]


def test_what_people_decided_is_not_overwritten(report: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert labels.main(["export", report, "--first", "1"]) == 0
    assert "1 images" in capsys.readouterr().out
    assert labels.main(["export", report]) == 2
    assert "doubtful-labels.csv: is there already" in capsys.readouterr().err


def test_tasks_need_the_images(report: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert labels.main(["export", report, "--format", "label-studio"]) == 2
    assert "its images are not at hand; name its output folder" in capsys.readouterr().err


def annotate(label: str | None, at: str, cancelled: bool = False, **rest: Any) -> dict[str, Any]:
    result = [] if label is None else [{"type": "choices", "value": {"choices": label.split("|")}}]
    return {"result": result, "was_cancelled": cancelled, "updated_at": at, **rest}


def decide(tmp_path: Path, *annotations: list[dict[str, Any]]) -> int:
    """Annotates the tasks that the export made, in their order, and imports them."""
    tasks = json.loads(render_tasks(ROWS, dict.fromkeys((A, B, C), "data:,")))
    done = [{**task, "annotations": made} for task, made in zip(tasks, annotations, strict=False)]
    (tmp_path / "project.json").write_text(json.dumps(done), encoding="utf-8")
    return labels.main(["import", str(tmp_path / "project.json"), "--to", str(tmp_path / "c.csv"), "--who", "me"])


def test_of_label_studio_the_newest_annotation_counts(tmp_path: Path) -> None:
    first, second = "2026-11-01T08:00:00Z", "2026-11-02T08:00:00Z"
    status = decide(
        tmp_path,
        [annotate("dog", second, completed_by={"email": "a@b"}), annotate("cat", first)],
        [annotate("REMOVE", first, completed_by=7), annotate("cat", second, cancelled=True)],
        [annotate(None, first)],
    )
    assert status == 0
    assert list(read_corrections(str(tmp_path / "c.csv")).values()) == [
        Correction(A, "dog", "cat", "a@b", second),
        Correction(B, "REMOVE", "dög", "user 7 of Label Studio", first),
    ]


def test_files_that_are_no_decisions_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert decide(tmp_path, [annotate("cat|dog", "1")]) == 2
    assert "has several labels: cat, dog; choose one" in capsys.readouterr().err
    assert decide(tmp_path, []) == 2
    assert "holds no decision" in capsys.readouterr().err
    for content, message in (
        ("[{}]", "task 1 has no data.content_sha256"),
        ("[", "is no JSON"),
        ("a,b\n", "has no column 'new_label'"),
    ):
        (tmp_path / "x").write_text(content, encoding="utf-8")
        assert labels.main(["import", str(tmp_path / "x"), "--to", str(tmp_path / "c.csv")]) == 2
        assert message in capsys.readouterr().err
    assert labels.main(["import", str(tmp_path / "nowhere"), "--to", "c.csv"]) == 2
    assert "nowhere: cannot be read: No such file" in capsys.readouterr().err
    assert not (tmp_path / "c.csv").exists()


def test_corrections_may_begin_in_a_bucket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """TensorFlow's file system in memory stands for one: a name with `://`, where nothing is yet."""
    path = tmp_path / "filled.csv"
    path.write_text(render_csv(ROWS), encoding="utf-8")
    fill(path, {A: "dog"})
    to = f"ram://{tmp_path.name}/corrections.csv"
    for _ in range(2):  # the second time to a file that is there
        assert labels.main(["import", str(path), "--to", to, "--who", "me"]) == 0
        assert [one.label for one in read_corrections(to).values()] == ["dog"]
    assert labels.main(["import", str(path), "--to", "nobody://x/corrections.csv"]) == 2
    assert "nobody://x/corrections.csv: cannot be written" in capsys.readouterr().err


def test_the_labeling_interface_offers_all_classes_and_to_remove() -> None:
    text = render_labeling_config(['a "b" & c', "d"])
    assert '<Choice value="a &quot;b&quot; &amp; c"/>' in text
    assert '<Choice value="REMOVE"/>' in text


def test_a_report_of_an_earlier_version_is_one_line(report: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(report, "doubtful.csv").unlink()
    assert labels.main(["export", report]) == 2
    assert "has no doubtful.csv, which ReportGen writes; run the pipeline again" in capsys.readouterr().err
