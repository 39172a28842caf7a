"""Which column of a table means what, by its name."""

import re
import shlex
from collections.abc import Mapping, Sequence

from data.errors import UserError
from data.section import Settings

# Compared by letters and digits alone: `fileName`, `File name` and `file_name` are one.
KNOWN_NAMES: Mapping[str, tuple[str, ...]] = {
    "path": (
        *("path", "file", "file_name", "file_path", "image", "image_path", "image_file", "image_name", "image_id"),
        *("image_uri", "image_bytes", "img", "img_path", "uri", "source_ref"),
    ),
    "label": ("label", "labels", "label_name", "class", "class_name", "category", "target", "choice"),
    "split": ("split", "subset", "set", "partition", "ml_use"),
    "group": (
        *("group", "group_id", "patient", "patient_id", "subject", "subject_id"),
        *("camera", "camera_id", "burst", "burst_id"),
    ),
    "weight": ("weight", "sample_weight"),
}
_NEEDED = ("path", "label")
_SHOWN = 12


class TableColumns(Settings):
    """Names of a table's columns, where they are others than the known ones, or several are known."""

    path: str | None = None
    """The images' paths or, in Parquet, their bytes. Null: the one that is called `path`, `file_name`, `image`, ..."""
    label: str | None = None
    """The class. Null: the one that is called `label`, `class`, `category`, ..."""
    split: str | None = None
    """`train`, `val`, `test` and what else `split_folders` names. Null: the one that is called `split`, `subset`, ...,
    if there is one; "": none."""
    group: str | None = None
    """What images have in common that must stay in one split: a patient, a camera. Null: the one that is called
    `group`, `patient_id`, ..., if there is one; "": none."""
    weight: str | None = None
    """What an image weighs in training, above 0. Null: the one that is called `weight`, if there is one; "": none."""


def choose_columns(
    columns: Sequence[str],
    chosen: TableColumns,
    table: str,
    own: Mapping[str, Sequence[str]],
    needs_path: bool = True,
    needs_label: bool = True,
) -> dict[str, int]:
    """Returns what a column means (a key of `KNOWN_NAMES`) -> its place, of those that are there.

    Args:
        columns: names, in order.
        chosen: names that the user gave.
        table: its name, for people.
        own: meaning -> the columns that the table's own kind gives it; they take the place of the known names.
        needs_path: whether there must be one of paths.
        needs_label: whether there must be one of labels.

    Raises:
        UserError: there is none of paths or labels, several are called alike, or one that the user names is not there.
    """
    places = {}
    for meaning, known in KNOWN_NAMES.items():
        name = getattr(chosen, meaning)
        if name == "" and meaning not in _NEEDED:
            continue
        if name is not None:
            found = [place for place, column in enumerate(columns) if column == name]
            if not found:
                raise UserError(f"data.columns.{meaning} is {name!r}, but {table} has {describe_columns(columns)}")
        elif meaning in own:
            found = [place for place, column in enumerate(columns) if column in own[meaning]]
        else:
            keys = {_key(name) for name in known}
            found = [place for place, column in enumerate(columns) if _key(column) in keys]
        if len(found) > 1:
            names = " and ".join(repr(columns[place]) for place in found)
            none = f", or data.columns.{meaning}='\"\"' for none" if meaning not in _NEEDED else ""
            one = shlex.quote(f"data.columns.{meaning}={columns[found[0]]}")
            raise UserError(f"{table} has {names}, each of which may be the {meaning}; name one: --set {one}{none}")
        if found:
            places[meaning] = found[0]
        elif (meaning == "label" and needs_label) or (meaning == "path" and needs_path):
            raise UserError(
                f"{table} has no column that is known as the {meaning} ({', '.join(known)}), but"
                f" {describe_columns(columns)}; name it, --set data.columns.{meaning}=NAME, or the first line, if that"
                " names no columns"
            )
    return places


def describe_columns(columns: Sequence[str]) -> str:
    """Returns the names, for people."""
    shown = ", ".join(repr(name[:40]) for name in columns[:_SHOWN]) or "none"
    return f"the columns {shown}{', ...' if len(columns) > _SHOWN else ''}"


def _key(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())
