"""SIGTERM, the notice that a machine is about to be taken away, as a question that the training loop can ask."""

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import NoReturn


class Preemption:
    """Within it, SIGTERM waits until the loop has seen `noticed` and saved; `leave` then lets it take its course."""

    def __init__(self) -> None:
        """Catches nothing yet."""
        self.noticed = False
        self._before: object = None
        # Python delivers signals to the main thread alone, and lets no other one ask for them.
        self._possible = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> "Preemption":
        if self._possible:
            self._before = signal.signal(signal.SIGTERM, self._notice)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()
        if self.noticed:
            signal.raise_signal(signal.SIGTERM)

    def leave(self) -> NoReturn:
        """Ends the process as SIGTERM would have done, unless somebody before us handles the signal.

        Raises:
            SystemExit: with status 143, in that case.
        """
        logging.getLogger(__name__).warning("SIGTERM: the training is saved; the next run goes on from here")
        self._restore()
        self.noticed = False
        signal.raise_signal(signal.SIGTERM)
        raise SystemExit(128 + signal.SIGTERM)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        self.noticed = True

    def _restore(self) -> None:
        if self._possible and self._before is not None:
            signal.signal(signal.SIGTERM, self._before)  # type: ignore[arg-type]
            self._before = None
