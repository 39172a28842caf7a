"""The command line: mistakes are one line on standard error and exit status 2, before anything is done."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2

from components.report_gen.account import Account
from pipeline import local_runner, report, run_local
from pipeline.config import describe_settings, dump_config, load_config
from pipeline.output_dir import OutputDir


def test_help_documents_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_local.main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert not [key for key, *_ in describe_settings() if f"  {key} (" not in text]


def test_print_config_reads_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_local.main(["--print-config", "--set", "trainer.seed=9"]) == 0
    printed = capsys.readouterr().out
    (tmp_path / "c.yaml").write_text(printed, encoding="utf-8")
    assert run_local.main(["--print-config", "--config", str(tmp_path / "c.yaml")]) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "trainer.seeed=1"], "unknown setting trainer.seeed; did you mean trainer.seed?"),
        (["--data", "no/such/folder"], "no/such/folder"),
        (["--config", "none.yaml"], "none.yaml: cannot be read as a configuration: No such file"),
        (["--set", "trainer.weights=no/such.h5"], "no/such.h5"),
        (["--preset", "photos"], "--data"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    tmp_path: Path, arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_local.main([*arguments, "--output-dir", str(tmp_path / "out")]) == 2
    error = capfd.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--output-dir", "{}/images/out"], "--output-dir is {}/images/out, which lies in the images ({}/images)"),
        (["--set", "serving_model_dir={}/images/served"], "serving_model_dir is {}/images/served, which lies in the"),
        (["--output-dir", "{}", "--data", "{}/pipeline_root/own"], "own, which lies in {}/pipeline_root, where a run"),
        (["--output-dir", "{}/\udcff"], "{}/\\xff is not UTF-8; rename the file or folder"),
    ],
)
def test_places_that_a_run_would_spoil_are_refused_before_it(
    tmp_path: Path, settings: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for folder in ("images", "pipeline_root/own"):
        (tmp_path / folder / "cat").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    arguments = ["--data", "{}/images", "--output-dir", "{}/free", *settings]
    assert run_local.main([argument.replace("{}", str(tmp_path)) for argument in arguments]) == 2
    error = capfd.readouterr().err
    assert message.replace("{}", str(tmp_path)) in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_other_images_than_the_last_run_s_are_told(tmp_path: Path) -> None:
    output, digits = OutputDir(tmp_path), load_config("digits")
    assert run_local._describe_other_data(digits, output) is None
    output.config_path.write_text(dump_config(digits), encoding="utf-8")
    assert run_local._describe_other_data(digits, output) is None
    other = load_config("digits", overrides=["data.source=image_folder", "data.path=/photos"])
    assert str(run_local._describe_other_data(other, output)).startswith(
        "data.path is image_folder /photos; the last run in this folder had digits:"
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [("My Flowers/", "my-flowers"), ("/a/cifar-10-python.tar.gz", "cifar-10-python"), ("図", "images")],
)
def test_the_name_comes_from_the_data(path: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.detect.settings_for_path", lambda path: {"source": "image_folder", "path": path})
    choice = run_local.data_choice(path)
    assert choice is not None
    assert choice.name == name
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", choice.name)


@pytest.mark.slow
def test_a_run_that_is_terminated_says_so_and_leaves_no_older_summary(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"status": "pushed"}', encoding="utf-8")
    command = [sys.executable, "-m", "pipeline.run_local", "--output-dir", str(tmp_path)]
    run = subprocess.Popen(command, cwd=Path(run_local.__file__).parent.parent, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (tmp_path / "pipeline_root").exists() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert run.poll() is None
    run.terminate()
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 130
    assert b"interrupted; run it again" in output
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert (summary["status"], summary["pushed_model"]) == ("failed", None)
    assert summary["error"].startswith("interrupted")


def test_a_report_that_cannot_be_written_hides_no_push(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(runner: local_runner.ObservedLocalRunner, pipeline: Any) -> None:
        pushed, page = metadata_store_pb2.Artifact(), metadata_store_pb2.Artifact()
        pushed.custom_properties[local_runner.PUSHED_DESTINATION].string_value = "/served/1"
        runner.results.append(local_runner.NodeResult("Pusher", "complete", 1.0, {"pushed_model": [pushed]}))
        runner.results.append(local_runner.NodeResult("ReportGen", "complete", 1.0, {"report": [page]}))
        (tmp_path / "report.html").mkdir()

    monkeypatch.setattr(local_runner.ObservedLocalRunner, "run", run)
    monkeypatch.setattr(run_local, "_make_pipeline", lambda *_: (None, "none"))
    monkeypatch.setattr(report, "find_run", lambda _: SimpleNamespace(load_account=Account))
    monkeypatch.setattr("components.report_gen.page.render_page", lambda account: "page")
    assert run_local.main(["--output-dir", str(tmp_path)]) == 2
    captured = capfd.readouterr()
    assert "pushed   /served/1\n" in captured.out
    assert captured.err.startswith(
        f"error: {tmp_path}/report.html: cannot be written: Is a directory; make it writable"
    )
    assert captured.err.count("\n") == 1
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert (summary["status"], summary["pushed_model"]) == ("failed", "/served/1")
    assert run_local.main(["--output-dir", str(tmp_path)]) == 2  # before anything is run
    assert "report.html: cannot be written: Is a directory; move it away" in capfd.readouterr().err
