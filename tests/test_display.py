"""What a person sees: plain lines without a terminal, everything else in the log file."""

import io
import logging
import os
import pty
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from components.progress import passing_progress, report_progress
from pipeline.display import Display, output_to_log
from pipeline.time_left import TimeLeft, describe_count


def shown(*, terminal: bool) -> str:
    screen = io.StringIO()
    display = Display(Console(file=screen, force_terminal=terminal, width=80, color_system=None))
    with display.listening():
        display.node_started("Trainer")
        report_progress("step", completed=3, total=9)
        time.sleep(0.3 if terminal else 0)  # the live line is drawn ten times a second
        report_progress("epoch 1 loss [0.5]", lasting=True)
        display.node_ended("Trainer", "complete", 12.34)
        display.node_started("Pusher")
        display.node_ended("Pusher", "cached", 0.0)
    report_progress("nobody listens", lasting=True)
    return screen.getvalue()


def test_without_a_terminal_there_are_plain_lines_of_what_lasts() -> None:
    assert shown(terminal=False).splitlines() == [
        "     epoch 1 loss [0.5]",
        " ✓ Trainer               12.3 s",
        " = Pusher                 0.0 s  cached",
    ]


def test_a_terminal_also_sees_what_passes() -> None:
    text = shown(terminal=True)
    assert "Trainer  step" in text
    assert "epoch 1 loss [0.5]" in text


def test_without_a_terminal_a_long_step_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("pipeline.display.time", SimpleNamespace(monotonic=lambda: now[0], localtime=time.localtime))
    screen = io.StringIO()
    display = Display(Console(file=screen, width=80, color_system=None))
    display._time_left = TimeLeft(lambda: now[0])
    with display.listening():
        display.node_started("ImageExampleGen")
        for done in range(0, 5000, 500):
            now[0] += 10
            report_progress("checking images", completed=done, total=5000)
    assert screen.getvalue().splitlines() == [
        "     checking images 1,000 of 5,000, 80 s left",
        "     checking images 2,500 of 5,000, 50 s left",
        "     checking images 4,000 of 5,000, 20 s left",
    ]


def test_what_is_left_follows_the_pace_of_the_last_while() -> None:
    now = [0.0]
    left = TimeLeft(lambda: now[0])
    assert left.update(0, 1000) is None
    for _ in range(100):  # ten a second at first, one a second for the last 100 seconds
        now[0] += 0.1
        left.update(round(10 * now[0]), 1000)
    assert left.update(100, 1000) == pytest.approx(90)
    for _ in range(100):
        now[0] += 1
        found = left.update(100 + round(now[0] - 10), 1000)
    assert found == pytest.approx(800)
    assert left.update(5, 1000) is None  # another step
    now[0] += 10
    assert left.update(15, 1000) == pytest.approx(985)
    assert left.update(15, None) is None


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((None, None, None), ""),
        ((1500, None, None), "1,500"),
        ((1500, 4000, None), "1,500 of 4,000"),
        ((1500, 4000, 150.0), "1,500 of 4,000, 2 min left"),
    ],
)
def test_a_count_is_said_as_far_as_it_is_known(
    arguments: tuple[int | None, int | None, float | None], text: str
) -> None:
    assert describe_count(*arguments) == text


PRINTER = """
import logging, os, sys, warnings
from pathlib import Path
from pipeline.display import output_to_log
with output_to_log(Path(sys.argv[1]), verbose=sys.argv[2] == "verbose") as console:
    print("printed")
    os.write(2, b"from C\\n")
    logging.getLogger("tfx").info("logged")
    warnings.warn("warned")
    console.print("seen")
print("after")
"""


@pytest.mark.parametrize("mode", ["quiet", "verbose"])
def test_only_the_console_reaches_the_screen(tmp_path: Path, mode: str) -> None:
    log = tmp_path / "logs" / "run.log"
    finished = subprocess.run(
        [sys.executable, "-c", PRINTER, str(log), mode],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    logged = log.read_text(encoding="utf-8")
    for text in ("printed", "from C", "logged", "warned"):
        assert text in logged
    lines = finished.stdout.splitlines()
    assert lines[-2:] == ["seen", "after"]
    assert ("logged" in finished.stdout) == (mode == "verbose")
    assert not finished.stderr


LIVE = """
import sys, time
from pathlib import Path
from pipeline.display import Display, output_to_log
from pipeline.time_left import TimeLeft, describe_count
with output_to_log(Path(sys.argv[1]), verbose=False) as console:
    display = Display(console)
    with display.listening():
        display.node_started("Trainer")
        time.sleep(0.3)
        print("printed")
        print("a traceback", file=sys.stderr)
        display.node_ended("Trainer", "complete", 1.0)
"""


def test_what_a_node_prints_stays_out_of_a_terminal(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    leader, follower = pty.openpty()
    command = [sys.executable, "-c", LIVE, str(log)]
    process = subprocess.Popen(
        command, stdout=follower, stderr=follower, cwd=Path(__file__).parent.parent, env={**os.environ, "TERM": "xterm"}
    )
    os.close(follower)
    screen = b""
    while True:
        try:
            screen += os.read(leader, 4096)
        except OSError:  # Linux's end of a terminal that nobody holds open
            break
    os.close(leader)
    assert process.wait(timeout=60) == 0
    assert screen.count(b"Trainer") >= 2  # the live line, then the result
    assert b"printed" not in screen
    assert b"a traceback" not in screen
    assert log.read_text(encoding="utf-8").splitlines() == ["printed", "a traceback"]


def test_the_screen_comes_back_after_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    level, handlers = logging.getLogger().level, list(logging.getLogger().handlers)
    with pytest.raises(ZeroDivisionError), output_to_log(tmp_path / "run.log", verbose=False):
        _ = 1 / 0
    os.write(1, b"back\n")
    assert capfd.readouterr().out == "back\n"
    assert (logging.getLogger().level, list(logging.getLogger().handlers)) == (level, handlers)


def test_the_progress_of_a_part_passes() -> None:
    screen = io.StringIO()
    display = Display(Console(file=screen, width=80, color_system=None))
    with display.listening():
        with passing_progress("trial 1/2: "):
            report_progress("epoch 1 loss 0.5", lasting=True)
        report_progress("trial 1/2 done", lasting=True)
    assert screen.getvalue().splitlines() == ["     trial 1/2 done"]


def test_a_run_goes_on_when_nobody_reads_its_screen_any_more(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from pipeline.display import output_to_log
with output_to_log(Path(sys.argv[1]), verbose=False) as console:
    for number in range(10_000):
        console.print(number)
    print("logged")
print("after", file=sys.stderr)
sys.exit(3)
"""
    arguments = [sys.executable, "-c", code, str(tmp_path / "run.log")]
    run = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stderr is not None
    assert run.stdout.readline() == "0\n"
    run.stdout.close()
    assert run.stderr.read() == "after\n"
    assert run.wait() == 3
    assert (tmp_path / "run.log").read_text(encoding="utf-8") == "logged\n"
