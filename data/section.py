"""The base class of every section of settings, apart from all of them: a node imports its own section only."""

import os
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


def absolute_unless(*words: str) -> AfterValidator:
    """Returns what makes a path of this machine absolute: a stored one is read from other folders, too.

    Args:
        words: values that are no path; remote ones stay as they are, too.
    """

    def make_absolute(path: str) -> str:
        return os.path.abspath(os.path.expanduser(path)) if path not in words and "://" not in path else path

    return AfterValidator(make_absolute)


LocalPath = Annotated[str, absolute_unless("")]
"""A path, remote or of this machine; the latter is absolute."""


class Settings(BaseModel):
    """Base of all settings: frozen, typed, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)
