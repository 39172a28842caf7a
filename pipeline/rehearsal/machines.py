"""Processes that stand for the machines of one job: they run together, and end together."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class Machine:
    """One machine of a job.

    Attributes:
        name: as in `worker 0`.
        command: of its container.
        environment: what the container has beside this process's own.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]


def run_machines(machines: Sequence[Machine]) -> None:
    """Runs the machines' processes; all end with the first that fails, or with this one on SIGTERM.

    Raises:
        RuntimeError: names the machine that failed.
    """

    def end(number: int, _: Any) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for machine in machines:
            environment = {**os.environ, **machine.environment}
            processes[machine.name] = subprocess.Popen(machine.command, env=environment)
        while None in (statuses := {name: process.poll() for name, process in processes.items()}).values():
            if any(statuses.values()):
                break
            time.sleep(_POLL_SECONDS)
        for name, status in statuses.items():
            if status:
                raise RuntimeError(f"the process of {name} ended with status {status}")
    finally:
        for process in processes.values():
            process.terminate()
        deadline = time.monotonic() + _GRACE_SECONDS
        for process in processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:  # it waits for one that is gone
                process.kill()
                process.wait()
        signal.signal(signal.SIGTERM, before)
