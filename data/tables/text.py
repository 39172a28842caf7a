"""Tables as text: which kind a file holds is seen from its content."""

import os

from data.errors import UserError
from data.tables.delimited import read_delimited
from data.tables.records import read_records
from data.tables.rows import Table


def read_text_table(content: bytes, path: str) -> Table:
    """Returns a table: JSON where its first letter is `[` or `{`, else CSV.

    Args:
        content: of the file.
        path: for people.

    Raises:
        UserError: it cannot be read.
    """
    text = _decode(content, path)
    read = read_records if text.lstrip()[:1] in ("[", "{") else read_delimited
    return read(text, os.path.basename(path))


def _decode(content: bytes, path: str) -> str:
    is_utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")  # as Excel's "Unicode text"
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path} is not UTF-8 text on line {line}; save it as UTF-8") from error
    if "\0" in text:
        raise UserError(f"{path} is no text, or not in UTF-8; save it as UTF-8")
    return text
