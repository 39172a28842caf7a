"""How many training steps one call of the device does."""

from typing import Literal

_WANTED_SECONDS = 0.25
_MOST_STEPS = 1024


class Pace:
    """The steps of the next call: as many as are set, or as many as a person and a checkpoint do not wait for.

    A call costs the host some milliseconds whatever it holds, and after it the host reads back the losses. In a quarter
    of a second both no longer count, and progress, SIGTERM and checkpoints still come soon. What is learnt does not
    depend on it: the same function does one step or many, to the same bits.
    """

    def __init__(self, setting: int | Literal["auto"]) -> None:
        """Starts at what is set, or at one step."""
        self._measures = setting == "auto"
        self.steps = 1 if setting == "auto" else int(setting)
        self._calls = 0

    def measure(self, steps: int, seconds: float) -> None:
        """Learns how long a call took; the first holds the tracing of the function and does not count."""
        self._calls += 1
        if self._measures and self._calls > 1:
            wanted = int(_WANTED_SECONDS * steps / max(seconds, 1e-9))
            self.steps = max(1, min(wanted, 2 * self.steps, _MOST_STEPS))
