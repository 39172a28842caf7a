"""Tables as JSON: a record a line, or a list of records; their keys are columns, but for three kinds of their own."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from data.errors import UserError
from data.tables import label_studio
from data.tables.rows import Table

Record = dict[str, Any]


@dataclass(frozen=True)
class Flat:
    """A record with its columns at the top.

    Attributes:
        cells: column -> cell.
        own: see `choose_columns`.
    """

    cells: Record
    own: Mapping[str, Sequence[str]]


def read_records(text: str, name: str) -> Table:
    """Returns the table.

    Raises:
        UserError: it is no such JSON.
    """
    unit: Literal["line", "row"] = "row"
    if text.lstrip().startswith("["):
        numbered = list(enumerate(_parse(text, name), 1))
    else:
        unit = "line"
        lines = enumerate(text.split("\n"), 1)  # Not splitlines: U+2028 may stand in a text.
        numbered = [(number, _parse(line, f"{name}, line {number},")) for number, line in lines if line.strip()]
    if not numbered:
        raise UserError(f"{name} is empty; it holds a record for each image")
    for number, record in numbered:
        if not isinstance(record, dict):
            raise UserError(f"{name}, {unit} {number}, holds {type(record).__name__}, not a record such as {{...}}")
    flatten = next((flatten for is_kind, flatten in _KINDS if is_kind(numbered[0][1])), _as_it_is)
    columns: dict[str, None] = {}
    own: dict[str, dict[str, None]] = {}
    flat = []
    for number, record in numbered:
        found = flatten(record)
        columns.update(dict.fromkeys(found.cells))
        for meaning, names in found.own.items():
            own.setdefault(meaning, {}).update(dict.fromkeys(names))
        flat.append((number, found.cells))
    rows = ((number, [cells.get(column) for column in columns]) for number, cells in flat)
    return Table(name, list(columns), rows, unit, {meaning: list(names) for meaning, names in own.items()})


def _parse(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{name} is no JSON ({error}); a table is a list of records, or holds one record a line"
        ) from error


def _as_it_is(record: Record) -> Flat:
    return Flat(record, {})


def _is_task(record: Record) -> bool:
    return label_studio.is_task(record)


def _flatten_task(record: Record) -> Flat:
    return Flat(*label_studio.flatten(record))


def _is_import_record(record: Record) -> bool:
    return "imageGcsUri" in record


def _flatten_import_record(record: Record) -> Flat:
    """Vertex AI's: the label in an annotation or a list of them, the split in a label of the item, named with a URL."""
    annotations = record.get("classificationAnnotations") or [record.get("classificationAnnotation")]
    labels = [item.get("displayName") for item in annotations if isinstance(item, dict)]
    others = record.get("dataItemResourceLabels")
    named = {key.rpartition("/")[2]: value for key, value in others.items()} if isinstance(others, dict) else {}
    cells = {**named, "imageGcsUri": record["imageGcsUri"], "displayName": labels}
    return Flat(cells, {"path": ["imageGcsUri"], "label": ["displayName"]})


def _is_augmented(record: Record) -> bool:
    return "source-ref" in record


def _flatten_augmented(record: Record) -> Flat:
    """SageMaker's augmented manifest: the class of `<label>` is in `<label>-metadata`; without, in itself."""
    cells, labels = {}, []
    for key, value in record.items():
        if key.endswith("-metadata"):
            continue
        metadata = record.get(f"{key}-metadata")
        cells[key] = value
        if isinstance(metadata, dict):
            labels.append(key)
            if "failure-reason" in metadata:
                cells[key] = None
            elif "class-name" in metadata:
                cells[key] = metadata["class-name"]
            elif isinstance(metadata.get("class-map"), dict):
                cells[key] = list(metadata["class-map"].values())
    return Flat(cells, {"path": ["source-ref"], **({"label": labels} if labels else {})})


_KINDS: Sequence[tuple[Callable[[Record], bool], Callable[[Record], Flat]]] = (
    (_is_task, _flatten_task),
    (_is_import_record, _flatten_import_record),
    (_is_augmented, _flatten_augmented),
)
"""Says of the first record whether all are of a kind, and brings one of them into columns."""
