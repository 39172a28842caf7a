"""How a node tells a person what it is doing: structured records on one logger, whoever listens."""

import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakValueDictionary

LOGGER = logging.getLogger("image_classifier.progress")

_TELL_SECONDS, _LOG_SECONDS = 1.0, 60.0
"""How often an `ImageCount` tells at most where somebody listens, and where each report is a line of a log."""


@dataclass(frozen=True)
class Progress:
    """One report of a node.

    Attributes:
        message: what to show, one line.
        completed: units of work done, or None.
        total: units of work in all, or None where unknown.
        lasting: True for a result that stays on screen (an epoch's metrics), False for a passing state.
    """

    message: str
    completed: int | None = None
    total: int | None = None
    lasting: bool = False


def report_progress(
    message: str, *, completed: int | None = None, total: int | None = None, lasting: bool = False
) -> None:
    """Sends a `Progress` to the listeners of `LOGGER`; without listeners it is an ordinary log line."""
    LOGGER.info(message, extra={"progress": Progress(message, completed, total, lasting)})


@contextmanager
def passing_progress(prefix: str) -> Iterator[None]:
    """Inside it, every report is a passing one and begins with a prefix: for work that is a part of something."""

    def subordinate(record: logging.LogRecord) -> bool:
        if progress := getattr(record, "progress", None):
            record.progress = replace(progress, message=prefix + progress.message, lasting=False)
        return True

    LOGGER.addFilter(subordinate)
    try:
        yield
    finally:
        LOGGER.removeFilter(subordinate)


class ImageCount:
    """Tells how many images a Beam job has taken so far, while it runs in this process.

    Beam pickles its steps: in the process that made it, each copy is this count; elsewhere, it tells nothing.
    """

    def __init__(self, *passes: tuple[str, int | None]) -> None:
        """Begins at none.

        Args:
            *passes: what the job does with the images one after the other, for people, and with how many; of one that
                does not know its number nothing is told.
        """
        self._passes = list(passes)
        self._done, self._told_at = 0, -_LOG_SECONDS
        self._key = uuid.uuid4().hex
        _COUNTS[self._key] = self

    def __call__(self, _: object = None) -> int:
        """Counts one image, and returns 1."""
        if not self._passes:
            return 1
        self._done += 1
        message, total = self._passes[0]
        if total is not None and self._done <= total:
            now = time.monotonic()
            if self._done == total or now - self._told_at >= (_TELL_SECONDS if LOGGER.handlers else _LOG_SECONDS):
                report_progress(message, completed=self._done, total=total)
                self._told_at = now
        if self._done == total:
            self._done = 0
            del self._passes[0]
        return 1

    def __reduce__(self) -> tuple[Any, ...]:
        return _recall_count, (self._key,)


_COUNTS: WeakValueDictionary[str, ImageCount] = WeakValueDictionary()


def _recall_count(key: str) -> ImageCount:
    return _COUNTS.get(key) or ImageCount()
