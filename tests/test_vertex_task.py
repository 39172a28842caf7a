"""What a task's container runs: refused with other sources, ended when its time is up."""

import subprocess
import sys
from pathlib import Path

import pytest

from components.lane import installed_lane
from pipeline.vertex.sources import PACKAGES, ROOT, make_sources_hash
from pipeline.vertex.task import ENTRY_POINT, EXIT_REFUSED, EXIT_TIMEOUT, JOB_ENTRY_POINT, main, make_command


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_the_hash_notices_an_edit_a_new_file_and_a_new_name(tmp_path: Path) -> None:
    for package in PACKAGES:
        (tmp_path / package).mkdir()
    file = tmp_path / "data" / "files.py"
    file.write_text("a")
    hashes = [make_sources_hash(tmp_path)]
    file.write_text("a  # a comment counts, too")
    hashes.append(make_sources_hash(tmp_path))
    (tmp_path / "components" / "new.py").touch()
    hashes.append(make_sources_hash(tmp_path))
    file.rename(file.with_name("other.py"))
    hashes.append(make_sources_hash(tmp_path))
    assert len(set(hashes)) == 4
    (tmp_path / "data" / "note.txt").touch()
    assert make_sources_hash(tmp_path) == hashes[-1]


def test_another_lane_is_refused_before_anything_is_imported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = make_command(make_sources_hash(), 10)
    monkeypatch.setattr("pipeline.vertex.task.installed_lane", lambda: "tfx-9.9")
    assert main([*command[3:], "--executor_class_path", "x"]) == EXIT_REFUSED
    error = capsys.readouterr().err
    compiled = f"error: this image is of the lane tfx-9.9, and the pipeline was compiled in {installed_lane()}; build"
    assert error.startswith(compiled)
    assert error.count("\n") == 1


def test_other_sources_are_refused_before_anything_is_imported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*make_command("0" * 64, 10)[3:], "--executor_class_path", "x"]) == EXIT_REFUSED
    error = capsys.readouterr().err
    assert error.startswith("error: this image holds other sources (")
    assert "than those that the pipeline was compiled from (000000000000); build and push the image again" in error


@pytest.mark.parametrize(
    ("job", "entry_point", "setting"),
    [(False, ENTRY_POINT, "task_timeout_hours"), (True, JOB_ENTRY_POINT, "trainer.timeout_hours")],
)
def test_tfx_gets_its_flags_as_if_it_had_been_called_itself(
    job: bool, entry_point: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, list[int | str]]] = []
    monkeypatch.setattr("pipeline.vertex.task.start_clock", lambda *given: seen.append(("clock", list(given))))
    monkeypatch.setattr(
        "pipeline.vertex.task.runpy.run_module", lambda name, run_name, alter_sys: seen.append((name, sys.argv[1:]))
    )
    monkeypatch.setattr(sys, "argv", ["before"])
    command = make_command(make_sources_hash(), 7, job=job)
    assert command[:3] == ("python", "-m", "pipeline.vertex.task")
    assert main([*command[3:], "--executor_class_path", "a.B", "--runner=DirectRunner"]) == 0
    assert seen == [("clock", [7, setting]), (entry_point, ["--executor_class_path", "a.B", "--runner=DirectRunner"])]


def test_the_clock_ends_a_process_that_is_stuck() -> None:
    done = run_python(
        "from pipeline.vertex.task import start_clock; import time; start_clock(1, 'a.setting'); time.sleep(500)"
    )
    assert done.returncode == EXIT_TIMEOUT
    assert done.stderr == "error: the process took longer than 1 s (a.setting)\n"


def test_the_clock_keeps_no_process_alive() -> None:
    assert run_python("from pipeline.vertex.task import start_clock; start_clock(600, 'a.setting')").returncode == 0
