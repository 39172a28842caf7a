"""A table of images: a file whose rows give path and label, and may give split, group and weight."""

import hashlib
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import apache_beam as beam

from data import gfile
from data.errors import UserError
from data.files import has_glob, is_left_behind, list_names, open_binary, read_bytes, stat_file
from data.settings import DataSettings
from data.sources.image_file import ImageFile, mix, read_image, source_image
from data.sources.reading import ReadAll
from data.sources.source import SourceImage
from data.tables.columns import choose_columns
from data.tables.matching import IGNORING, Matched, match, name_of
from data.tables.names import TABLE_NAME
from data.tables.parquet import UNREADABLE, ParquetTable
from data.tables.rows import Row, read_rows
from data.tables.text import read_text_table

_SHOWN_NOTES = 3
_LOOKED_AT = 10
"""Folders below a folder."""
_HEAD_BYTES = 2**16


@dataclass(frozen=True)
class RowGroup:
    """A part of a Parquet file that holds images.

    Attributes:
        path: of the file.
        name: of the file, relative to the source's root.
        number: of the part, from 0.
        split: of its images, where they name none themselves.
    """

    path: str
    name: str
    number: int
    split: str | None


class TableSource:
    """A table, a folder with one as Hugging Face writes it, or Parquet files (a file, folder or glob)."""

    def __init__(self, settings: DataSettings) -> None:
        """Keeps the settings; `settings.path` is where the table is."""
        self._settings = settings
        self._needs_labels = settings.needs_labels
        self._notes: list[str] = []

    @staticmethod
    def lies_at(path: str) -> bool:
        """See `Source`: by the names of files, and in a folder by a `metadata` file that has `file_name`."""
        if has_glob(path) and not gfile.exists(path):
            return any(name.lower().endswith(".parquet") for name in gfile.glob(path))
        if not gfile.isdir(path):
            return bool(TABLE_NAME.search(path)) and gfile.exists(path)
        return bool(_tables_of_folder(path))

    def fingerprint(self) -> str:
        """See `Source`: hashes what the rows say, and each file's path, size and time."""
        digest = hashlib.sha256()
        content = self._look()
        matched = content.matched
        for item in (*map(stat_file, content.tables), *matched.files, *matched.images, *matched.ignored):
            digest.update(repr(item).encode())
        return digest.hexdigest()

    def prepare(self) -> list[str]:
        """See `Source`."""
        content = self._look()
        self._notes = content.notes
        return content.matched.ignored

    def notes(self) -> Sequence[str]:
        """See `Source`: which column of the tables means what."""
        return self._notes

    def read(self) -> beam.PTransform:
        """See `Source`: images that a table holds itself come in the order of its parts."""
        holds_images = any(map(_is_parquet, self._files()))
        return ReadAll(self.list_references, _key_of, partial(self._read, self._root), one_by_one=not holds_images)

    def list_references(self) -> list[ImageFile | RowGroup]:
        """Returns all image files, and the parts of tables that hold images.

        Raises:
            UserError: as `fingerprint`.
        """
        content = self._look()
        return [*mix(content.matched.images), *content.parts]

    @property
    def _path(self) -> str:
        assert self._settings.path is not None  # DataSettings sees to it
        return self._settings.path

    @property
    def _root(self) -> str:
        return self._path.rstrip("/") if gfile.isdir(self._path) else posixpath.dirname(self._path)

    def _look(self) -> "_Content":
        notes, parts = [], []
        tables: list[tuple[str, Iterable[Row]]] = []
        files = self._files()
        for path, split in files.items():
            name, folder = name_of(path, self._root), posixpath.dirname(path)
            if _is_parquet(path):
                parquet = ParquetTable(path, name, self._settings)
                columns, rows = parquet.columns, iter(()) if parquet.image_column else parquet.read_paths()
                if parquet.image_column:
                    columns = {"image": parquet.image_column, **columns}
                    parts += [RowGroup(path, name, number, split) for number in range(parquet.row_groups)]
            else:
                table = read_text_table(read_bytes(path), path)
                places = choose_columns(
                    table.columns, self._settings.columns, table.name, table.own, needs_label=self._needs_labels
                )
                columns = {meaning: table.columns[place] for meaning, place in places.items()}
                rows = read_rows(table, self._settings)
            notes.append(f"{name}: {', '.join(f'{meaning} from {column}' for meaning, column in columns.items())}")
            tables.append((folder, rows if split is None else _with_split(rows, split)))
        names = ", ".join(name_of(path, self._root) for path in files)
        matched = match(tables, self._root, names, self._settings)
        if not matched.images and not parts:
            what = "no row with a label" if self._needs_labels else "no row of an image"
            raise UserError(f"data.path is {self._path}, which holds {what}; give a table of images")
        return _Content(list(files), notes[:_SHOWN_NOTES], parts, matched)

    def _files(self) -> dict[str, str | None]:
        """Returns the tables' paths -> the split that all images of one are in, as its name or folder declares it.

        Raises:
            UserError: there is none, or only some of them declare a split: the others would all be for training.
        """
        if gfile.isdir(self._path):
            paths = _tables_of_folder(self._path)
        elif has_glob(self._path) and not gfile.exists(self._path):
            paths = sorted(path for path in gfile.glob(self._path) if _is_parquet(path))
        else:
            return {stat_file(self._path).path: None}
        if not paths:
            raise UserError(
                f"data.path is {self._path}, where no table was found: a metadata.csv or metadata.jsonl with file_name,"
                " or Parquet files; give one, or another table by its own path"
            )
        split_of = self._settings.split_folders.split_of
        splits = {
            path: split_of(_stem(path)) or split_of(posixpath.basename(posixpath.dirname(path))) for path in paths
        }
        without = [path for path, split in splits.items() if split is None]
        if 0 < len(without) < len(paths):
            known = ", ".join(self._settings.split_folders.meanings())
            raise UserError(
                f"data.path: {without[0]} lies beside tables of declared splits and names none; remove it, or name a"
                f" word of its name, or its folder, in data.split_folders (known: {known})"
            )
        return splits

    def _read(self, root: str, reference: ImageFile | RowGroup) -> Iterator[SourceImage]:
        if isinstance(reference, ImageFile):
            yield read_image(reference, root)
        else:
            yield from self._read_part(reference)

    def _read_part(self, part: RowGroup) -> Iterator[SourceImage]:
        folder, count = posixpath.dirname(part.path), 0
        try:
            for row, encoded in ParquetTable(part.path, part.name, self._settings).read_images(part.number):
                count += 1
                problem = row.problem
                if not row.label and not problem and self._needs_labels:
                    if self._settings.unlabelled == "ignore":
                        continue
                    problem = f"gives no label; {IGNORING}"
                if encoded is None and not row.path:
                    problem = problem or "holds no image"
                image = ImageFile(
                    row.path or row.place,
                    row.label,
                    row.split or part.split,
                    f"{row.place} {problem}" if problem else None,
                    row.group,
                    row.weight,
                )
                yield read_image(image, folder) if encoded is None else source_image(image, encoded)
        except UNREADABLE as error:
            problem = f"cannot be read after {count} rows ({type(error).__name__}); copy the file anew or remove it"
            yield SourceImage(part.path, "", None, b"", problem, fatal=True)


@dataclass(frozen=True)
class _Content:
    """What the tables hold.

    Attributes:
        tables: their paths.
        notes: which column means what.
        parts: of those that hold images.
        matched: rows of the others.
    """

    tables: list[str]
    notes: list[str]
    parts: list[RowGroup]
    matched: Matched


def _with_split(rows: Iterable[Row], split: str) -> Iterator[Row]:
    return (replace(row, split=row.split or split) for row in rows)


def _key_of(reference: ImageFile | RowGroup) -> str:
    return reference.path if isinstance(reference, ImageFile) else f"{reference.path}#{reference.number}"


def _is_parquet(path: str) -> bool:
    return path.lower().endswith(".parquet")


def _stem(path: str) -> str:
    return posixpath.basename(path).partition(".")[0]


def _tables_of_folder(folder: str) -> list[str]:
    """Returns the tables that a folder is made for: Hugging Face's, of images in files or of images in Parquet."""
    paths = [os.path.join(folder, name) for name in sorted(list_names(folder))]
    folders = sorted(os.path.join(folder, name) for name in gfile.list_folders(folder) if not is_left_behind(name))
    below = [os.path.join(inner, name) for inner in folders[:_LOOKED_AT] for name in sorted(list_names(inner))]
    for level in (paths, below):
        if found := [path for path in level if _is_metadata(path)]:
            return found
    if all(map(_is_parquet, below)):
        return [path for path in (*paths, *below) if _is_parquet(path)]
    return []


def _is_metadata(path: str) -> bool:
    if posixpath.basename(path) not in ("metadata.csv", "metadata.jsonl"):
        return False
    with open_binary(path) as file:
        return b"file_name" in file.read(_HEAD_BYTES).split(b"\n")[0]
