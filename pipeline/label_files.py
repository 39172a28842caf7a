"""Doubtful labels as a spreadsheet and as tasks of Label Studio, and the decisions that come back in either."""

import csv
import html
import io
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from components.report_gen.label_doubts import COLUMNS
from data.corrections import REMOVE, Correction, read_table
from data.errors import UserError
from data.features import normal_form
from data.tables.label_studio import choices_of, newest_annotation

NEW_LABEL, WHO = "new_label", "who"
"""Columns of the spreadsheet that a person fills in."""

_CHOICE = "label"
_IMAGE = "image"

Row = Mapping[str, str]


def render_csv(rows: Iterable[Row]) -> str:
    """Returns the spreadsheet: what is doubted, and two empty columns; its first bytes tell Excel that it is UTF-8."""
    text = io.StringIO()
    writer = csv.DictWriter(text, (NEW_LABEL, WHO, *COLUMNS), extrasaction="ignore", restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return f"\ufeff{text.getvalue()}"


def render_tasks(rows: Iterable[Row], images: Mapping[str, str]) -> str:
    """Returns the JSON of tasks, each with its picture and the suggested label as a prediction.

    Args:
        rows: what is doubted.
        images: content hash -> data URI.
    """
    return json.dumps([_make_task(row, images[row["content_sha256"]]) for row in rows], ensure_ascii=False, indent=1)


def _make_task(row: Row, image: str) -> dict[str, Any]:
    choice = {
        "from_name": _CHOICE,
        "to_name": _IMAGE,
        "type": "choices",
        "value": {"choices": [row["suggested_label"]]},
    }
    return {
        "data": {_IMAGE: image, **row},
        "predictions": [
            {"model_version": "suggested", "score": float(row["suggested_probability"]), "result": [choice]}
        ],
    }


def render_labeling_config(classes: Sequence[str]) -> str:
    """Returns what Label Studio wants as the project's labeling interface."""
    choices = "".join(f'    <Choice value="{html.escape(name)}"/>\n' for name in (*classes, REMOVE))
    return (
        f'<View>\n  <Header value="$name: labelled $label"/>\n  <Image name="{_IMAGE}" value="${_IMAGE}"/>\n'
        f'  <Choices name="{_CHOICE}" toName="{_IMAGE}" choice="single" showInLine="true">\n{choices}'
        "  </Choices>\n</View>\n"
    )


def read_decisions(content: bytes, name: str, who: str, when: str) -> list[Correction]:
    """Reads what people decided: rows with a `new_label`, or Label Studio's JSON export; others are not decided.

    Args:
        content: of the file.
        name: of the file, for errors.
        who: decided, where the file does not say.
        when: as ISO 8601, where the file does not say.

    Raises:
        UserError: it is neither, or something in it is no decision.
    """
    if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{"):
        return _read_tasks(content, name, who, when)
    found = []
    for row in read_table(content, name, (NEW_LABEL, "content_sha256", "label")):
        if label := row[NEW_LABEL].strip():
            found.append(_decide(row, label, row.get(WHO, "").strip() or who, when))
    return found


def _decide(row: Mapping[str, Any], label: str, who: str, when: str) -> Correction:
    label = REMOVE if label.casefold() == REMOVE.casefold() else normal_form(label)
    return Correction(str(row["content_sha256"]).strip(), label, normal_form(str(row["label"]).strip()), who, when)


def _read_tasks(content: bytes, name: str, who: str, when: str) -> list[Correction]:
    try:
        tasks = json.loads(content.decode("utf-8-sig"))
    except ValueError as error:
        raise UserError(f"{name}: is no JSON ({error}); export the project as JSON again") from None
    found = []
    for number, task in enumerate(tasks if isinstance(tasks, list) else [tasks], start=1):
        data = task.get("data") if isinstance(task, dict) else None
        if not isinstance(data, dict) or not {"content_sha256", "label"} <= data.keys():
            raise UserError(
                f"{name}: task {number} has no data.content_sha256 and data.label; export the project of the tasks that"
                " python -m pipeline.labels export made, as JSON (not JSON-MIN)"
            )
        newest = newest_annotation(task)
        if newest is None:
            continue
        chosen = list(itertools.chain.from_iterable(choices_of(newest).values()))
        if len(chosen) > 1:
            raise UserError(
                f"{name}: task {number} ({data.get('name')}) has several labels: {', '.join(chosen)}; choose one"
            )
        if chosen:
            by, at = _who(newest.get("completed_by")), newest.get("updated_at") or newest.get("created_at")
            found.append(_decide(data, chosen[0], by or who, str(at or when)))
    return found


def _who(completed_by: Any) -> str:
    if isinstance(completed_by, dict):
        return str(completed_by.get("email") or completed_by.get("username") or completed_by.get("id") or "")
    return "" if completed_by is None else f"user {completed_by} of Label Studio"
