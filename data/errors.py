"""The errors that are told in one line: what a user can put right, and what nobody here can."""

from collections.abc import Mapping
from typing import Any


class UserError(Exception):
    """A mistake in the user's input: its message is shown alone, and the exit status is 2.

    The message is one line: it names the file or the setting, what was found, what is allowed and what to do.

    Attributes:
        facts: what was found out about the data before the mistake showed, of plain JSON types; else empty.
    """

    def __init__(self, message: str, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.facts = dict(facts or {})


class Fault(Exception):
    """Something outside failed, and nothing in the user's input is wrong: its message is shown alone, exit status 1."""
