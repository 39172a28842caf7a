"""What a look at something before it runs has found: one line each, with what to do."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: `error` stops a submission; `skipped` could not be looked at here.
        subject: what it is about.
        text: what was found, and what to do.
    """

    level: Level
    subject: str
    text: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.level:<8} {self.subject}: {' '.join(self.text.split())}"
