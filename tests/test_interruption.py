"""Ctrl-C and SIGTERM: status 130 and one line, in a Beam step, while modules load, and pressed again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BEAM_STEP = """
import os, signal, sys
import apache_beam as beam
from pipeline.command_line import command
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS

def press(number):
    os.kill(os.getpid(), number)
    return number

@command()
def main(argv):
    with beam.Pipeline(argv=list(IN_PROCESS_BEAM_ARGS)) as pipeline:
        pipeline | beam.Create([int(sys.argv[1])]) | beam.Map(press)
    return 0

sys.exit(main())
"""
AGAIN = """
import os, signal, sys
from pipeline.command_line import command

@command()
def main(argv):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt as interrupt:
        try:
            os.kill(os.getpid(), int(sys.argv[1]))
        except KeyboardInterrupt:
            raise RuntimeError("what an interrupted clean-up says")
    return 0

status = main()
os.kill(os.getpid(), int(sys.argv[1]))
sys.exit(status)
"""
SWALLOWED = """
import os, signal, sys
from pipeline.command_line import command

@command()
def main(argv):
    try:
        os.kill(os.getpid(), int(sys.argv[1]))
    except KeyboardInterrupt:
        pass
    return 0

sys.exit(main())
"""


@pytest.mark.parametrize(
    ("script", "number"),
    [
        pytest.param(BEAM_STEP, signal.SIGINT, id="beam step, SIGINT"),
        pytest.param(BEAM_STEP, signal.SIGTERM, id="beam step, SIGTERM", marks=pytest.mark.slow),
        pytest.param(AGAIN, signal.SIGINT, id="pressed again, SIGINT"),
        pytest.param(AGAIN, signal.SIGTERM, id="pressed again, SIGTERM"),
        pytest.param(SWALLOWED, signal.SIGINT, id="swallowed, SIGINT"),
        pytest.param(SWALLOWED, signal.SIGTERM, id="swallowed, SIGTERM"),
    ],
)
def test_a_command_ends_with_130_and_one_line(script: str, number: signal.Signals) -> None:
    # A test runner in the background may have SIGINT ignored, which its children inherit.
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{script}",
            str(int(number)),
        ],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 130, run.stderr
    assert run.stderr.splitlines()[-1] == "error: interrupted"
    if script is not BEAM_STEP:  # Beam logs what it meets.
        assert run.stderr.count("\n") == 1


def test_a_command_ends_with_130_while_its_modules_are_loaded() -> None:
    code = """
import os, runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)

class Pressing:
    def find_spec(self, name, path=None, target=None):
        if name == "pipeline.config":
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Pressing())
sys.argv = ["run_local"]
runpy.run_module("pipeline.run_local", run_name="__main__", alter_sys=True)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (130, "error: interrupted\n")


def test_the_status_is_130_where_the_signal_meets_the_exec_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "meets.py").write_text(
        "import os, signal, sys\n"
        "from pipeline.command_line import command\n"
        "@command()\n"
        "def main(argv):\n"
        "    exec('os.kill(os.getpid(), signal.SIGTERM)')\n"
        "sys.exit(main())\n",
        encoding="utf-8",
    )
    path = f"{tmp_path}{os.pathsep}{Path(__file__).parent.parent}"
    run = subprocess.run(
        [sys.executable, "-m", "meets"], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (130, "error: interrupted\n")
