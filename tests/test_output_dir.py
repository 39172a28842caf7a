"""The output folder: one run at a time, files whole or not at all."""

import subprocess
import sys
from pathlib import Path

import pytest

from data.errors import UserError
from pipeline.output_dir import OutputDir, make_serving_dir, write_whole

HOLD = """
import sys
from pathlib import Path
from pipeline.output_dir import OutputDir
with OutputDir(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_refused_and_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with (
            pytest.raises(UserError, match=rf"another run \(process {holder.pid}\) is using this output folder"),
            OutputDir(tmp_path).locked(),
        ):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with OutputDir(tmp_path).locked():
        pass


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be used as the output folder"), OutputDir(tmp_path / "file").locked():
        pass


def test_a_disk_that_is_all_but_full_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.output_dir.LEAST_FREE_BYTES", 2**62)
    with pytest.raises(UserError, match=r"lies on a disk with \d+ MiB left"), OutputDir(tmp_path).locked():
        pass


def test_write_whole_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "made" / "summary.json"
    write_whole(target, "old")
    write_whole(target, "new ü")
    assert target.read_text(encoding="utf-8") == "new ü"
    assert [path.name for path in target.parent.iterdir()] == ["summary.json"]


def test_a_serving_model_dir_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match=r"serving_model_dir is .*/file/models, which cannot be written: Not a directory"
    ):
        make_serving_dir(str(tmp_path / "file" / "models"))


def test_a_serving_model_dir_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert make_serving_dir("models") == str(tmp_path / "models")
    assert not list((tmp_path / "models").iterdir())
    assert make_serving_dir("gs://bucket/models") == "gs://bucket/models"


@pytest.mark.parametrize("name", ["[2024] run", "2024\\run"])
def test_a_folder_that_beam_takes_for_a_pattern_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"takes .* for a pattern"), OutputDir(tmp_path / name).locked():
        pass
    assert not list(tmp_path.iterdir())
