"""How a node tells a person what it is doing: structured records on one logger, whoever listens."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

LOGGER = logging.getLogger("image_classifier.progress")


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
