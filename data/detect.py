"""Tells from a path alone what kind of source lies there."""

import os
import re

from data import gfile
from data.errors import UserError
from data.files import READ_SCHEMES, has_glob, list_names
from data.source_kinds import SOURCES
from data.spans import check_span_pattern, has_span, newest_path
from data.tables.names import find_tables

_SPREADSHEET = re.compile(r"\.(xls[xmb]?|ods|numbers)$", re.IGNORECASE)


def settings_for_path(path: str) -> dict[str, str]:
    """Returns the settings of the data section that a path stands for: `source` and `path`.

    Looks at names only, and not deep: two levels of a folder.

    Raises:
        UserError: there is no such place, or it is of no kind that can be read.
    """
    if (scheme := path.partition("://")[0]) not in (path, *READ_SCHEMES):
        raise UserError(
            f"--data is {path}, and {scheme}:// is not read; copy the images to a folder, or to gs:// or s3://"
        )
    if has_span(path):
        try:
            check_span_pattern(path)
        except ValueError as error:
            raise UserError(f"--data: {error}") from None
    place = newest_path(path)
    places = {name: kind.place for name, kind in SOURCES.items() if kind.place}
    for name in places:
        if SOURCES[name].load().lies_at(place):
            return {"source": name, "path": path}
    *most, last = places.values()
    raise UserError(f"--data is {path}, {_describe(place)}; give {', '.join(most)}, or {last}")


def settings_for_name(path: str) -> dict[str, str]:
    """Returns the same of a path that cannot be looked at, from its last part alone."""
    name = path.rstrip("/").rpartition("/")[2]
    return {"source": next(key for key, kind in SOURCES.items() if re.search(kind.bucket_name, name)), "path": path}


def _describe(path: str) -> str:
    if not gfile.exists(path):
        return "which matches no TFRecord or Parquet file" if has_glob(path) else "which does not exist"
    if not gfile.isdir(path):
        return "a spreadsheet: save it as CSV" if _SPREADSHEET.search(path) else "a file of another kind"
    names = list_names(path)
    described = f"a folder of {len(names)} files and no folder (each image lies in a folder named after its class)"
    if tables := find_tables(names):
        described += f"; is {os.path.join(path, tables[0])} their table"
    return described
