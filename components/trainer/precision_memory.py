"""What was measured on this machine before, where there is a place to remember: a file in the user's cache folder."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from data.json_files import read_json, write_json

_MOST_ENTRIES = 200


def memory_path() -> Path | None:
    """Returns the file, which need not exist; None where there is no home.

    Source: XDG Base Directory Specification: a folder that is not absolute is ignored.
    """
    root = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = Path(root) if os.path.isabs(root) else Path.home() / ".cache"
    except RuntimeError:
        return None
    return folder / "image-classification-pipeline" / "precision.json"


def recall(key: dict[str, Any]) -> object:
    """Returns what was remembered under a key of JSON's types, or None; a damaged file holds nothing."""
    return _read().get(_flatten(key))


def remember(key: dict[str, Any], value: dict[str, Any]) -> None:
    """Puts a value of JSON's types into the file, by a rename; where that cannot be written, nothing is remembered.

    Of two runs that end at the same moment one may be forgotten: it only measures again.
    """
    path = memory_path()
    if path is None:
        return
    entries = _read()
    entries.pop(_flatten(key), None)
    entries[_flatten(key)] = value
    kept = dict(list(entries.items())[-_MOST_ENTRIES:])
    with contextlib.suppress(OSError):
        write_json(str(path), kept)


def _read() -> dict[str, Any]:
    path = memory_path()
    try:
        entries = read_json(str(path)) if path and path.is_file() else {}
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _flatten(key: dict[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)
