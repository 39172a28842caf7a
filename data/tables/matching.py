"""From a table's rows to image files: each file once, and what does not fit together by name."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from data.files import FileEntry, is_left_behind
from data.folder_layout import IMAGE_SUFFIXES
from data.settings import DataSettings
from data.sources.image_file import ImageFile, find_problem
from data.tables.places import find_files, refuse_unreadable
from data.tables.rows import Row

IGNORING = "data.unlabelled=ignore leaves such images out"


@dataclass(frozen=True)
class Matched:
    """What the rows of one table or several, and the files beside theirs, come to.

    Attributes:
        images: each file of the rows once, what cannot be used among them.
        ignored: names of images that have no label, where the settings leave them out.
        files: of `images`, as far as they are there.
    """

    images: list[ImageFile]
    ignored: list[str]
    files: list[FileEntry]


def match(tables: Sequence[tuple[str, Iterable[Row]]], root: str, names: str, settings: DataSettings) -> Matched:
    """Finds the files of rows.

    Args:
        tables: the folder that a table's paths are relative to, and its rows.
        root: what names are relative to.
        names: of all tables, for people.
        settings: of the data section.

    Raises:
        UserError: a path is of a service that cannot be read, or a folder cannot be listed.
    """
    rows_of: dict[str, list[Row]] = defaultdict(list)
    problems: dict[str, str] = {}
    found: dict[str, FileEntry] = {}
    listed: dict[str, FileEntry] = {}
    for folder, rows in tables:
        kept = list(rows)
        for row in kept:
            refuse_unreadable(row.path, row.place, settings.uri_map)
        places, there = find_files({row.path for row in kept if row.path}, folder, settings.uri_map)
        listed.update(there)
        for row in kept:
            place = places.get(row.path, "names no image")
            if isinstance(place, FileEntry):
                name = name_of(place.path, root)
                found[name] = place
            else:
                name = row.path or row.place
                problems[name] = place
            rows_of[name].append(row)
    images, ignored = [], []
    for name, rows in rows_of.items():
        row, problem = _merge(rows, settings.labels)
        if problem and not settings.needs_labels:  # Whatever the rows say of it, the image can be looked at.
            row, problem = replace(row, label="" if len({one.label for one in rows}) > 1 else row.label), None
        problem = problem or (f"{problems[name]} ({row.place})" if name in problems else None)
        if problem is None and not row.label and settings.needs_labels:
            if settings.unlabelled == "ignore":
                ignored.append(name)
                continue
            problem = f"{row.place} gives no label; {IGNORING}"
        problem = problem or find_problem(found[name], settings.max_pixels)
        images.append(ImageFile(name, row.label, row.split, problem, row.group, row.weight))
    without_row = [name_of(path, root) for path in _beside(listed, {file.path for file in found.values()})]
    if settings.unlabelled == "ignore" or not settings.needs_labels:
        ignored += without_row
    else:
        images += [ImageFile(name, "", None, f"has no row in {names}; {IGNORING}") for name in without_row]
    return Matched(images, sorted(ignored), [found[image.path] for image in images if image.path in found])


def name_of(path: str, root: str) -> str:
    """Returns a whole path relative to a folder, if it lies there."""
    return path.removeprefix(f"{root.rstrip('/')}/")


def _merge(rows: Sequence[Row], labels: Mapping[str, str | None]) -> tuple[Row, str | None]:
    """Returns the one row that stands for all rows of an image, and why it cannot be used.

    What `data.labels` makes of their labels is compared: a label that it leaves out says nothing.
    """
    rows = [row for row in rows if labels.get(row.label, row.label) is not None] or rows
    first = rows[0]
    for other in rows[1:]:
        for what in ("label", "split", "group", "weight"):
            one, another = getattr(first, what), getattr(other, what)
            if one != another and (what != "label" or labels.get(one, one) != labels.get(another, another)):
                return first, f"{first.place} gives the {what} {one!r}, and {other.place} {another!r}"
    broken = next((row for row in rows if row.problem), None)
    return first, f"{broken.place} {broken.problem}" if broken else None


def _beside(listed: Mapping[str, FileEntry], found: Collection[str]) -> list[str]:
    """Returns the images without a row, in the folders that rows name images of."""
    folders = {path.rpartition("/")[0] for path in found}
    return sorted(
        path
        for path in listed
        if path not in found
        and path.lower().endswith(IMAGE_SUFFIXES)
        and path.rpartition("/")[0] in folders
        and not is_left_behind(path.rpartition("/")[2])
    )
