"""The record that a model was rolled back: it stays with the model, so that no later evaluation blesses it again."""

import os
from dataclasses import asdict, dataclass
from typing import Any

from data.json_files import find_json, write_json

ROLLBACK_FILE = "rollback.json"
"""In the folder of a `model` artifact, beside its SavedModel: a `Rollback`."""

ROLLBACK_GATE = "rollback"
"""Among the gates that refused a model: a person, after it was pushed."""


@dataclass(frozen=True)
class Rollback:
    """Why a model is no longer served.

    Attributes:
        reason: in words; may be empty.
        by: who rolled it back; may be empty.
        at: local time with its offset, in seconds, ISO 8601.
    """

    reason: str
    by: str
    at: str

    def describe(self) -> str:
        """Says it in one line."""
        by = f" by {self.by}" if self.by else ""
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.at[:16].replace('T', ' ')}{by}{reason}"

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return asdict(self)


def write_rollback(model_uri: str, rollback: Rollback) -> None:
    """Writes the record into the folder of a model."""
    write_json(os.path.join(model_uri, ROLLBACK_FILE), rollback.to_json())


def read_rollback(model_uri: str) -> Rollback | None:
    """Returns the record of a model, or None of one that was not rolled back."""
    found = find_json(os.path.join(model_uri, ROLLBACK_FILE))
    return found and Rollback(**found)


def remove_rollback(model_uri: str) -> None:
    """Removes the record, if there is one."""
    from data.files import remove_path  # TensorFlow; the account of a run is read without it

    remove_path(os.path.join(model_uri, ROLLBACK_FILE))
