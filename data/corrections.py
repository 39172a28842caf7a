"""Labels that people corrected after a look at the images: a CSV file, by content, applied to any source.

An image is known by the SHA-256 of its file's bytes, so that neither moving nor renaming it loses a correction. The
source itself stays as it is.
"""

import csv
import difflib
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from data.errors import UserError
from data.features import SPLITS, normal_form
from data.image_record import ImageRecord

REMOVE = "REMOVE"
"""In place of a label: the image shows none of the classes, and is left out."""

CORRECTIONS_FILE = "corrections.csv"
"""In an `examples` artifact: the file that was applied, byte for byte."""

COLUMNS = ("content_sha256", "label", "was", "who", "when")
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Correction:
    """What somebody decided on one image.

    Attributes:
        sha256: of its file's bytes, hexadecimal.
        label: what it shows, or `REMOVE`; the same as `was` where the label was found right.
        was: the label that the source gives it.
        who: decided.
        when: as ISO 8601.
    """

    sha256: str
    label: str
    was: str
    who: str = ""
    when: str = ""


@dataclass
class Applied:
    """What corrections came to.

    Attributes:
        labels: content hash -> label, of images whose label was changed.
        removed: records that are left out.
        already: images that have the right label by now.
        not_found: content hashes that no image has.
    """

    labels: dict[str, str] = field(default_factory=dict)
    removed: list[ImageRecord] = field(default_factory=list)
    already: int = 0
    not_found: list[str] = field(default_factory=list)

    def count_by_split(self, used: Iterable[tuple[str | None, str]], removed: Iterable[str | None]) -> dict[str, Any]:
        """Returns the facts for people and programs.

        Args:
            used: split and content hash of each image that is used.
            removed: the split that each removed image would be in.
        """
        corrected = Counter(split for split, sha256 in used if sha256 in self.labels)
        left_out = Counter(removed)
        return {
            "corrected": {split: corrected[split] for split in SPLITS},
            "removed": {split: left_out[split] for split in SPLITS},
            "already": self.already,
            "not_found": len(self.not_found),
            "not_found_first": self.not_found[:3],
        }


def describe_corrections(facts: Mapping[str, Any]) -> str:
    """Returns a line for people, of the facts of `Applied.count_by_split`."""
    parts = [
        f"{', '.join(f'{count:,} in {split}' for split, count in facts[key].items() if count) or 'none'} {word}"
        for key, word in (("corrected", "corrected"), ("removed", "left out"))
    ]
    if facts["already"]:
        parts.append(f"{facts['already']:,} right already")
    if facts["not_found"]:
        first = ", ".join(f"{sha256[:12]}..." for sha256 in facts["not_found_first"])
        parts.append(f"{facts['not_found']:,} of images that are not here ({first})")
    return "; ".join(parts)


def parse_corrections(content: bytes, name: str) -> dict[str, Correction]:
    """Returns content hash -> correction, in the order of a file.

    Args:
        content: of the file.
        name: of the file, in errors.

    Raises:
        UserError: a line is no correction.
    """
    found: dict[str, Correction] = {}
    for number, row in enumerate(read_table(content, name, ("content_sha256", "label", "was")), start=2):
        one = Correction(
            row["content_sha256"].strip().lower(),
            normal_form(row["label"].strip()),
            normal_form(row["was"].strip()),
            row.get("who", ""),
            row.get("when", ""),
        )
        problem = None
        if not _SHA256.fullmatch(one.sha256):
            problem = f"has the content_sha256 {one.sha256[:80]!r}, not 64 hexadecimal digits"
        elif not one.label or not one.was:
            problem = f"leaves {'label' if not one.label else 'was'} empty; give the class name"
        elif one.sha256 in found and found[one.sha256].label != one.label:
            problem = f"gives {one.sha256[:12]}... another label than a line before it; leave one of them"
        if problem:
            raise UserError(f"{name}: row {number} {problem}")
        found[one.sha256] = one
    return found


def read_table(content: bytes, name: str, needed: Sequence[str]) -> list[dict[str, str]]:
    """Reads a CSV file as spreadsheets leave it: with commas, semicolons or tabs, with or without a byte order mark.

    Raises:
        UserError: it is not UTF-8, or lacks a column.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: is not UTF-8 ({error.reason}); save it as CSV in UTF-8") from None
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
        columns = csv.reader([first], delimiter=delimiter).__next__() if first else []
    except csv.Error as error:
        raise UserError(f"{name}: is no CSV ({error}); write it anew with python -m pipeline.labels") from None
    missing = [column for column in needed if column not in [one.strip() for one in columns]]
    if missing:
        raise UserError(
            f"{name}: has no column {missing[0]!r} but {', '.join(columns)!r}; it needs {', '.join(needed)}"
        )
    return [{str(key).strip(): value or "" for key, value in row.items() if key} for row in rows]


def merge_corrections(old: Mapping[str, Correction], new: Iterable[Correction]) -> dict[str, Correction]:
    """Adds decisions to those that are there; a newer one on the same image takes an older one's place.

    Who looked at a corrected image saw the corrected label: what the source says is still what it `was` first.
    """
    merged = dict(old)
    for one in new:
        before = merged.get(one.sha256)
        merged[one.sha256] = one if before is None or one.was != before.label else replace(one, was=before.was)
    return merged


def apply_corrections(
    records: Sequence[ImageRecord], corrections: Mapping[str, Correction], path: str
) -> tuple[list[ImageRecord], Applied]:
    """Gives images their corrected labels, and leaves out those that are to be removed.

    Copies of an image are all meant. Two labels of it are settled by one correction, if one of them is what it `was`.

    Args:
        records: of all images.
        corrections: by content hash.
        path: of the file, for errors.

    Raises:
        UserError: an image has neither the label that it `was` nor the corrected one, or the latter is no class.
    """
    applied = Applied(not_found=list(corrections.keys() - {record.sha256 for record in records}))
    applied.not_found.sort()
    classes = sorted({record.label for record in records if record.label})
    labels: dict[str, set[str]] = {}
    for record in records:
        if record.sha256 in corrections:
            labels.setdefault(record.sha256, set()).add(record.label)
    kept = []
    for record in records:
        one = corrections.get(record.sha256)
        if one is None:
            kept.append(record)
            continue
        if one.was not in labels[one.sha256] and record.label != one.label:
            raise UserError(
                f"data.corrections: {path}: {record.name} ({one.sha256[:12]}...) is labelled {record.label!r} now, not"
                f" {one.was!r}, which was to become {one.label!r}; look at it again, and mend or remove its line"
            )
        if one.label == REMOVE:
            applied.removed.append(record)
            continue
        if one.label not in classes:
            near = difflib.get_close_matches(one.label, classes, n=1)
            raise UserError(
                f"data.corrections: {path}: {record.name} ({one.sha256[:12]}...) is to become {one.label!r}, no class"
                f" of the images{f'; did you mean {near[0]!r}?' if near else ''}"
            )
        if record.label != one.label:
            applied.labels[one.sha256] = one.label
        elif one.label != one.was and labels[one.sha256] == {one.label}:
            applied.already += 1
        kept.append(replace(record, label=one.label))
    return kept, applied
