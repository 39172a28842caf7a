"""A folder without locks: who is there is seen, who was killed is not waited for."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import tensorflow as tf

from components.trainer.lease import LEASE_FILE, Lease

HOLD = """
import sys, time
from components.trainer.lease import Lease
assert Lease(sys.argv[1], seconds=0.1).take()
print("taken", flush=True)
time.sleep(60)
"""


def lease(folder: Path) -> Lease:
    return Lease(str(folder), seconds=0.1)


def test_a_folder_is_refused_while_another_process_lives_and_had_once_it_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "taken\n"
        assert not lease(folder).take()
        holder.kill()
    assert (folder / LEASE_FILE).exists()
    second = lease(folder)
    assert second.take()
    second.release()


def test_a_released_folder_is_had_at_once(tmp_path: Path) -> None:
    first, second = lease(tmp_path), Lease(str(tmp_path), seconds=60.0)
    assert first.take()
    first.release()
    assert not (tmp_path / LEASE_FILE).exists()
    assert second.take()
    second.release()


def test_a_process_that_ends_lets_it_go(tmp_path: Path) -> None:
    code = HOLD.replace("time.sleep(60)", "time.sleep(0.35); raise SystemExit(3)")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert not (tmp_path / LEASE_FILE).exists()


def test_a_folder_that_was_taken_from_a_process_stays_with_the_other(tmp_path: Path) -> None:
    stood_still, other = lease(tmp_path), lease(tmp_path)
    assert stood_still.take()
    (tmp_path / LEASE_FILE).write_text("other 7")
    time.sleep(0.3)
    assert (tmp_path / LEASE_FILE).read_text() == "other 7"
    stood_still.release()
    assert (tmp_path / LEASE_FILE).exists()
    assert other.take()  # nobody gives signs
    other.release()


def test_who_leaves_while_it_is_watched_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Lease(str(tmp_path), seconds=30.0), Lease(str(tmp_path), seconds=30.0)
    assert first.take()
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        first.release()

    monkeypatch.setattr(time, "sleep", pause)
    assert second.take()
    assert pauses == [15.0]
    second.release()


def test_a_place_that_cannot_be_reached_does_not_fail_who_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> None:
        raise tf.errors.UnavailableError(None, None, path)

    holder = lease(tmp_path)
    assert holder.take()
    monkeypatch.setattr(tf.io.gfile, "remove", fail)
    holder.release()


def test_a_removed_folder_stays_removed(tmp_path: Path) -> None:
    holder = lease(tmp_path / "folder")
    assert holder.take()
    (tmp_path / "folder" / LEASE_FILE).unlink()
    (tmp_path / "folder").rmdir()
    time.sleep(0.3)
    assert not (tmp_path / "folder").exists()
