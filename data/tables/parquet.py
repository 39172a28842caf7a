"""Parquet files: of paths, or of the images' bytes, also as Hugging Face's `image: {bytes, path}`."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from data import gfile
from data.errors import UserError
from data.files import is_remote
from data.settings import DataSettings
from data.tables.columns import choose_columns
from data.tables.rows import Row, make_row

UNREADABLE = (pa.ArrowException, OSError, tf.errors.OpError)
"""What reading a file that is cut off or corrupt raises."""

_BATCH_ROWS = 16
"""Images that are held at once."""


class ParquetTable:
    """An open file, of which only the footer was read.

    Attributes:
        name: of the file, for people.
        image_column: which holds the images' bytes; None where the file holds paths.
        row_groups: how many parts can be read apart.
    """

    def __init__(self, path: str, name: str, settings: DataSettings) -> None:
        """Opens the file, which people know by the name.

        Raises:
            UserError: it is no Parquet, lacks a column, or has several that may be one.
        """
        self.name = name
        self._settings = settings
        try:
            self._file = pq.ParquetFile(_open(path))
        except UNREADABLE as error:
            raise UserError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from error
        self.row_groups: int = self._file.num_row_groups
        schema = self._file.schema_arrow
        self.image_column = _find_images(schema, settings.columns.path, self.name)
        columns = settings.columns
        if self.image_column == columns.path:  # What else is called like a path then names the image.
            columns = columns.model_copy(update={"path": None})
        others = [name for name in schema.names if name != self.image_column]
        places = choose_columns(
            others, columns, self.name, {}, self.image_column is None, needs_label=settings.needs_labels
        )
        self.columns = {meaning: others[place] for meaning, place in places.items()}
        self._class_names = _read_class_names(schema, self.columns.get("label"))

    def read_paths(self) -> Iterator[Row]:
        """Yields the rows of a file without bytes."""
        for number, values in self._read(self.columns.values(), range(self.row_groups)):
            yield self._make_row(number, values)

    def read_images(self, row_group: int) -> Iterator[tuple[Row, bytes | None]]:
        """Yields the rows of a part, and their images' bytes, None where there are none.

        Raises:
            UNREADABLE: it cannot be read.
        """
        assert self.image_column is not None
        for number, values in self._read([*self.columns.values(), self.image_column], [row_group]):
            image = values[self.image_column]
            image = image if isinstance(image, dict) else {"bytes": image}
            row = self._make_row(number, values)
            yield replace(row, path=row.path or image.get("path") or ""), image["bytes"]

    def _make_row(self, number: int, values: dict[str, Any]) -> Row:
        said = {meaning: values[column] for meaning, column in self.columns.items()}
        label = said.get("label")
        if self._class_names and isinstance(label, int):
            said["label"] = self._class_names[label] if 0 <= label < len(self._class_names) else None
        return make_row(f"row {number} of {self.name}", said, self._settings)

    def _read(self, columns: Iterable[str], row_groups: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields number, from 1, and values of each row."""
        number = sum(self._file.metadata.row_group(part).num_rows for part in range(min(row_groups, default=0)))
        for batch in self._file.iter_batches(_BATCH_ROWS, row_groups=list(row_groups), columns=list(columns)):
            for values in batch.to_pylist():
                number += 1
                yield number, values


def _open(path: str) -> Any:
    if not is_remote(path):
        return path
    if gfile.is_s3(path):
        return gfile.open_binary(path)
    from apache_beam.io.filesystems import FileSystems  # pyarrow takes no GFile, which lacks what it asks of a file

    return FileSystems.open(path)


def _find_images(schema: pa.Schema, chosen: str | None, name: str) -> str | None:
    found = [field.name for field in schema if _holds_bytes(field.type)]
    if chosen in schema.names:
        found = [column for column in found if column == chosen]
    if len(found) > 1:
        raise UserError(
            f"{name} has {' and '.join(map(repr, found))}, each of which may be the images; name one: --set"
            f" data.columns.path={found[0]}"
        )
    return found[0] if found else None


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(kind[i].name == "bytes" and _holds_bytes(kind[i].type) for i in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _read_class_names(schema: pa.Schema, label: str | None) -> list[str]:
    """Returns the names of Hugging Face's numbered classes, which the file's metadata holds; else none."""
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = described["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return []
    return names if isinstance(names, list) else []
