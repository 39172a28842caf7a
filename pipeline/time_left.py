"""How long a step still takes, from its pace in the last while, and how that is said."""

import time
from collections import deque
from collections.abc import Callable

_WINDOW_SECONDS = 60.0
_LEAST_SECONDS = 2.0


class TimeLeft:
    """Follows one count after the other: it begins anew where another total is told, or the count falls."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Knows nothing yet; `clock` is in seconds."""
        self._clock = clock
        self._total: int | None = None
        self._seen: deque[tuple[float, int]] = deque()

    def update(self, completed: int | None, total: int | None) -> float | None:
        """Takes in where the step is, and returns the seconds that are left, or None where nothing tells."""
        if completed is None or total is None:
            self._seen.clear()
            return None
        if total != self._total or (self._seen and completed < self._seen[-1][1]):
            self._seen.clear()
        self._total, now = total, self._clock()
        self._seen.append((now, completed))
        while len(self._seen) > 2 and now - self._seen[1][0] >= _WINDOW_SECONDS:
            self._seen.popleft()
        began, before = self._seen[0]
        if now - began < _LEAST_SECONDS or completed == before:
            return None
        return max(0, total - completed) * (now - began) / (completed - before)


def describe_count(completed: int | None, total: int | None, seconds_left: float | None) -> str:
    """Returns `1,500 of 4,000, 2 min left`, as far as it is known."""
    if completed is None:
        return ""
    count = f"{completed:,}" if total is None else f"{completed:,} of {total:,}"
    return count if seconds_left is None else f"{count}, {describe_seconds(seconds_left)} left"


def describe_seconds(seconds: float) -> str:
    """Returns a time in the greatest unit that says enough: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
