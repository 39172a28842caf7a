"""How a node tells a person what it is doing: structured records on one logger, whoever listens."""

import logging
from dataclasses import dataclass

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
