"""Label Studio's JSON export: tasks with their annotations."""

import re
from typing import Any

UPLOADS = "/data/upload/"
"""Begins the path of a file that was uploaded; its name then begins with eight hexadecimal digits and a hyphen."""

LOCAL_FILES = "/data/local-files/?d="
"""Begins the path of a file that Label Studio read where it lay, relative to its own root."""


def is_task(record: dict[str, Any]) -> bool:
    """Says whether a record is a task with its annotations; the minimal export has plain records instead."""
    return isinstance(record.get("data"), dict) and ("annotations" in record or "completions" in record)


def flatten(task: dict[str, Any]) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Returns columns -> cells, and which of them are labels: a task's data, and the choices of its annotation.

    Each group of choices is a column; its cell lists what was chosen.
    """
    data = dict(task["data"])
    choices = choices_of(newest_annotation(task) or {})
    own = {"label": list(choices)}
    if len(data) == 1:
        own["path"] = list(data)
    return {**data, **choices}, own


def newest_annotation(task: dict[str, Any]) -> dict[str, Any] | None:
    """Returns a task's newest annotation that was not cancelled, None where there is none."""
    annotations = [
        item
        for item in task.get("annotations", task.get("completions")) or []
        if isinstance(item, dict) and not (item.get("was_cancelled") or item.get("skipped"))
    ]
    return max(annotations, key=_age, default=None)


def choices_of(annotation: dict[str, Any]) -> dict[str, list[str]]:
    """Returns the name of each group of choices -> what was chosen."""
    choices: dict[str, list[str]] = {}
    for result in annotation.get("result") or []:
        value = result.get("value") if isinstance(result, dict) else None
        if isinstance(value, dict) and isinstance(value.get("choices"), list):
            choices.setdefault(str(result.get("from_name", "choice")), []).extend(value["choices"])
    return choices


def _age(annotation: dict[str, Any]) -> tuple[str, int]:
    """Returns what is largest for the newest one: times of ISO 8601 in one zone sort as texts."""
    number = annotation.get("id")
    return str(annotation.get("updated_at") or annotation.get("created_at") or ""), number if isinstance(
        number, int
    ) else 0


def without_prefix(name: str) -> str:
    """Returns the name that an uploaded file had before."""
    return re.sub(r"^[0-9a-f]{8}-", "", name)
