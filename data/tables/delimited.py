"""Tables as text with delimiters: CSV and its kin with a first line of names, and Vertex AI's import file without."""

import csv
import io
import re
from collections.abc import Iterator

from data.errors import UserError
from data.tables.rows import Table

_DELIMITERS = ",;\t|"


def read_delimited(text: str, name: str) -> Table:
    """Returns the table; its delimiter is the one that its first line has most of, `,` `;` `|` or a tab.

    Raises:
        UserError: it holds nothing; and while its rows are read: quotes are not closed.
    """
    declared = re.match(r"sep=(.)\r?\n", text)  # Excel's
    body = text[declared.end() :] if declared else text
    first = re.sub('"[^"]*"', "", next(filter(str.strip, body.splitlines()), ""))
    delimiter = declared[1] if declared else max(_DELIMITERS, key=first.count)
    skipped = text.count("\n", 0, len(text) - len(body))
    lines = _read_lines(body, delimiter, name, skipped)
    number, header = next(lines, (0, []))
    if not header:
        raise UserError(f"{name} is empty; its first line names the columns, such as path,label")
    if any(cell.startswith("gs://") for cell in header[:2]):
        return Table(name, ("split", "path", "label"), _read_import_file(number, header, lines), "line")
    return Table(name, header, lines, "line")


def _read_import_file(number: int, header: list[str], lines: Iterator[tuple[int, list[str]]]) -> Iterator:
    """Yields Vertex AI's lines, `[ML_USE,]gs://path[,label]`."""
    for at, cells in [(number, header), *lines]:
        use, rest = ("", cells) if "://" in cells[0] else (cells[0], cells[1:])
        yield at, (use, rest[0] if rest else "", [label for label in rest[1:] if label])


def _read_lines(text: str, delimiter: str, name: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """Yields number and cells of each line that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"{name} cannot be read: {error}, in what begins on line {start + skipped}; mend its quotes"
            ) from error
        if any(cells):
            yield start + skipped, cells
