"""What a table's rows say of its images."""

import contextlib
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from data.features import normal_form
from data.settings import DataSettings
from data.tables.columns import choose_columns


@dataclass(frozen=True)
class Table:
    """A table as its file holds it.

    Attributes:
        name: of the file, for people.
        columns: names, in order.
        rows: number, from 1, and a cell for each column: plain values of JSON; a label may be a list.
        unit: what is numbered.
        own: see `choose_columns`.
    """

    name: str
    columns: Sequence[str]
    rows: Iterable[tuple[int, Sequence[Any]]]
    unit: Literal["line", "row"]
    own: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """What a row says.

    Attributes:
        place: its number, for people: `line 7 of images.csv`.
        path: of the image, as the table gives it; empty where it gives none.
        label: the class name in normal form; empty where it gives none.
        split: `train`, `eval` or `test`, else None.
        group: of `SourceImage`.
        weight: of `SourceImage`.
        problem: why it cannot be used, else None.
    """

    place: str
    path: str
    label: str
    split: str | None
    group: str | None
    weight: float
    problem: str | None


def read_rows(table: Table, settings: DataSettings) -> Iterator[Row]:
    """Yields the rows.

    Args:
        table: to be read.
        settings: name the columns and the splits.

    Raises:
        UserError: as `choose_columns`, or the table cannot be read.
    """
    places = choose_columns(table.columns, settings.columns, table.name, table.own, needs_label=settings.needs_labels)
    for number, cells in table.rows:
        said = {meaning: cells[place] if place < len(cells) else None for meaning, place in places.items()}
        row = make_row(f"{table.unit} {number} of {table.name}", said, settings)
        if len(cells) > len(table.columns):
            row = replace(row, problem=f"has {len(cells)} cells, more than the {len(table.columns)} columns")
        yield row


def make_row(place: str, said: Mapping[str, Any], settings: DataSettings) -> Row:
    """Returns what a row says.

    Args:
        place: of `Row`.
        said: meaning, a key of `KNOWN_NAMES` -> its cell; a label may be a list.
        settings: name the splits.
    """
    problem = split = None
    labels = [text for item in _items(said.get("label")) if (text := _text(item))]
    if len(set(labels)) > 1:
        problem = f"has several labels: {', '.join(labels)}"
    word = _text(said.get("split"))
    if word and word.casefold() != "unassigned":
        split = settings.split_folders.split_of(word)
        if split is None:
            known = ", ".join(settings.split_folders.meanings())
            problem = f"has the split {word!r}, which is none of data.split_folders ({known}, unassigned)"
    weight = _weight(_text(said.get("weight")))
    if weight is None:
        problem = f"has the weight {said['weight']!r}, which is no finite number above 0"
    return Row(
        place=place,
        path=_text(said.get("path")),
        label=sys.intern(normal_form(labels[0])) if labels else "",  # one text for all rows of a class
        split=split,
        group=_text(said.get("group")) or None,
        weight=weight or 1.0,
        problem=problem,
    )


def _items(cell: Any) -> list[Any]:
    """Returns what a cell lists, or itself; several choices are `{"choices": [...]}` in Label Studio's small export."""
    if isinstance(cell, str) and cell.startswith('{"choices":'):
        with contextlib.suppress(ValueError):
            cell = json.loads(cell)
    if isinstance(cell, dict) and isinstance(cell.get("choices"), list):
        cell = cell["choices"]
    return cell if isinstance(cell, list) else [cell]


def _text(cell: Any) -> str:
    """Returns a cell as text, empty where it holds nothing: 1 and 1.0 are `1`, since a gap makes numbers floats."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return (cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False, default=str)).strip()


def _weight(text: str) -> float | None:
    """Returns a weight, 1 where none is given, or None where it is none."""
    try:
        weight = float(text or 1)
    except ValueError:
        return None
    return weight if math.isfinite(weight) and weight > 0 else None
