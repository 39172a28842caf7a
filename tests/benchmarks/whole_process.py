"""Measures whole processes: wall time and peak memory, as the operating system counts them."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Measured:
    """One finished process.

    Attributes:
        seconds: wall time from start to end, imports counted.
        peak_mib: the largest resident set of the process itself, MiB.
        output: what it printed.
    """

    seconds: float
    peak_mib: float
    output: str


def run_module(module: str, arguments: Sequence[str]) -> Measured:
    """Runs `python -m module` from the checkout.

    Raises:
        RuntimeError: it ended with another status than 0 (pushed) or 3 (not blessed).
    """
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    if os.waitstatus_to_exitcode(status) not in (0, 3):
        raise RuntimeError(f"{module} failed:\n{output[-3000:]}")
    return Measured(seconds, usage.ru_maxrss / 1024, output)


def describe(values: Sequence[float]) -> str:
    """Returns median, minimum and maximum as text."""
    return f"{statistics.median(values):.2f} (min {min(values):.2f}, max {max(values):.2f})"


def describe_machine() -> str:
    """Returns the processor's name, the cores that this process may use, and its bfloat16 instructions."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next(line.partition(": ")[2] for line in info if line.startswith("model name"))
    flags = next(line for line in info if line.startswith("flags")).split()
    bfloat16 = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags]
    return f"{name}, {len(os.sched_getaffinity(0))} cores, {' '.join(bfloat16) or 'no bfloat16 instructions'}"
