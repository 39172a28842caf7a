"""The rows of scored images, and the three formats of files that hold them.

Columns are in the order of `COLUMNS`: `name`, relative to the place that was given; `sha256` of the file; `label` and
`probability` of the likeliest class; `top_k`, the likeliest classes; `decision` and `unknown_score`, of a model that
gives them; `version` of the model; `problem`, why an image cannot be used, else null; `given_label`, what the place
calls it; and `image_*`, the figures of `data.image_statistics`.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from data import gfile
from data.errors import UserError
from data.files import open_binary
from data.image_statistics import SCALES

Row = Mapping[str, Any]

FIGURE_COLUMNS = {f"image_{name}": name for name in SCALES}
"""Column -> figure."""

SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("sha256", pa.string()),
        ("label", pa.string()),
        ("probability", pa.float32()),
        ("top_k", pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float32())]))),
        ("decision", pa.string()),
        ("unknown_score", pa.float32()),
        ("version", pa.string()),
        ("problem", pa.string()),
        ("given_label", pa.string()),
        *((column, pa.float32()) for column in FIGURE_COLUMNS),
    ]
)
COLUMNS = tuple(SCHEMA.names)
_NUMBERS = ("probability", "unknown_score", *FIGURE_COLUMNS)
_BATCH_ROWS = 1024


def _to_parquet(rows: Sequence[Row]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([{name: row.get(name) for name in COLUMNS} for row in rows], SCHEMA), sink)
    return bytes(sink.getvalue())


def _to_jsonl(rows: Sequence[Row]) -> bytes:
    lines = [json.dumps({name: row.get(name) for name in COLUMNS}, ensure_ascii=False) for row in rows]
    return "".join(f"{line}\n" for line in lines).encode()


def _to_csv(rows: Sequence[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_cell(row.get(name)) for name in COLUMNS] for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


RENDER: Mapping[str, Callable[[Sequence[Row]], bytes]] = {
    ".parquet": _to_parquet,
    ".jsonl": _to_jsonl,
    ".csv": _to_csv,
}
"""End of a file's name -> rows as bytes, of CSV without the line of the columns."""

CSV_HEADER = (",".join(COLUMNS) + "\n").encode()


def read_rows(path: str) -> Iterator[dict[str, Any]]:
    """Yields the rows of what was written, local or `gs://`, a few at a time; numbers are None where there are none.

    Raises:
        UserError: it is not there, is no such file, or lacks a column.
    """
    try:
        if path.endswith(".jsonl"):
            with open_binary(path) as file:
                yield from _checked(map(json.loads, file), path)
        elif path.endswith(".csv"):
            with open_binary(path) as file:
                reader = csv.DictReader(line.decode() for line in file)
                yield from map(_with_numbers, _checked(reader, path))
        elif path.endswith(".parquet"):
            for part in _parts(path):
                with open_binary(part) as file:
                    table = pq.ParquetFile(pa.BufferReader(file.read()))
                for batch in table.iter_batches(_BATCH_ROWS):
                    yield from _checked(batch.to_pylist(), path)
        else:
            raise UserError(f"{path}: its name ends in none of {', '.join(RENDER)}; give what predict --out wrote")
    except (OSError, ValueError, tf.errors.OpError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise UserError(f"{path}: cannot be read as scored images ({reason}); give what predict --out wrote") from None


def _parts(path: str) -> list[str]:
    parts = sorted(gfile.glob(f"{path}/part-*.parquet")) if gfile.isdir(path) else [path]
    if not parts:
        raise UserError(f"{path}: holds no shard; give what predict --out wrote")
    return parts


def _checked(rows: Any, path: str) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows):
        if not number and (missing := [name for name in COLUMNS if name not in row]):
            raise UserError(f"{path}: has no column {missing[0]!r}; give what predict --out wrote")
        yield row


def _with_numbers(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: value or None for name, value in row.items()},
        "decision": row["decision"],
        **{name: float(row[name]) if row[name] else None for name in _NUMBERS},
    }
