"""Runs the command of a container as a process of its own, and ends it with all its children when asked to."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

PROJECT_ROOT = Path(__file__).parent.parent.parent
_GRACE_SECONDS = 5.0


class Interrupted(Exception):
    """The rehearsal was stopped while a process ran or was about to start."""


class Processes:
    """The processes that run now; may be used from several threads."""

    def __init__(self) -> None:
        """Starts with none."""
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self.stopped = threading.Event()

    def run(self, command: Sequence[str], log_path: Path) -> int:
        """Runs a command in the project's folder to its end; what it prints is appended to the log.

        Returns:
            The exit status; -N where signal N ended it, 127 where the command could not be started.

        Raises:
            Interrupted: `stop` was called.
        """
        with log_path.open("ab") as log:
            with self._lock:
                if self.stopped.is_set():
                    raise Interrupted
                try:
                    process = subprocess.Popen(
                        command,
                        cwd=PROJECT_ROOT,
                        env=container_environment(),
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                except (OSError, ValueError) as error:
                    log.write(f"{command[0]}: cannot be started: {error}\n".encode())
                    return 127
                self._running.add(process)
            try:
                status = process.wait()
            finally:
                with self._lock:
                    self._running.discard(process)
        # What it left running would hold the machine, as it cannot on Vertex: a container ends with its first process.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if self.stopped.is_set():
            raise Interrupted
        return status

    def stop(self) -> None:
        """Ends all processes, with SIGKILL if SIGTERM did not do after some seconds; no more are started."""
        with self._lock:
            self.stopped.set()
            running = list(self._running)
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        try:
            for process in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_GRACE_SECONDS)
        finally:  # Also where a second Ctrl-C ends the waiting.
            for process in running:
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)


def container_environment() -> dict[str, str]:
    """Returns the environment of a container: that of this process; the project is importable as in the image."""
    inherited = dict(os.environ)
    paths = [str(PROJECT_ROOT), *filter(None, [inherited.get("PYTHONPATH")])]
    return {
        **inherited,
        "TF_USE_LEGACY_KERAS": "1",
        # No cloud here: Google's libraries need not wait for a machine's metadata server.
        "NO_GCE_CHECK": "true",
        "PYTHONPATH": os.pathsep.join(paths),
    }
