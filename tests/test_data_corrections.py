"""Corrected labels: read, merged, applied before labels are compared, and refused where they no longer fit."""

import hashlib
from pathlib import Path

import pytest

from data.corrections import REMOVE, Correction, describe_corrections, merge_corrections, parse_corrections
from data.corrections_file import corrected_fingerprint, read_corrections, write_corrections
from data.errors import UserError
from data.image_record import ImageRecord
from data.settings import DataSettings
from data.splits import Selection, choose_images

SETTINGS = DataSettings(corrections="/c.csv")


def sha(content: object) -> str:
    return hashlib.sha256(str(content).encode()).hexdigest()


def record(content: object, label: str, split: str | None = None, **rest: str) -> ImageRecord:
    return ImageRecord(f"{label}/{content}", label, split, sha(content), **rest)


def apply(records: list[ImageRecord], *corrections: Correction) -> Selection:
    return choose_images(records, SETTINGS, corrections={one.sha256: one for one in corrections})


RECORDS = [record(i, "cat" if i % 2 else "dog", ("train", "eval", "test")[i % 3]) for i in range(12)]


def test_a_corrected_image_has_the_new_label_and_keeps_its_split() -> None:
    before, after = choose_images(RECORDS, SETTINGS), apply(RECORDS, Correction(sha(2), "cat", "dog"))
    assert after.rules.label_of(sha(2), "dog") == "cat"
    assert after.counts["test"] == {"cat": before.counts["test"]["cat"] + 1, "dog": before.counts["test"]["dog"] - 1}
    assert after.rules.split_of(sha(2), "test") == "test"
    assert after.corrections is not None
    assert after.corrections["corrected"] == {"train": 0, "eval": 0, "test": 1}
    assert describe_corrections(after.corrections) == "1 in test corrected; none left out"


def test_a_removed_image_is_left_out_and_is_no_quarantine() -> None:
    after = apply(RECORDS, Correction(sha(3), REMOVE, "cat"))
    assert after.rules.split_of(sha(3), "train") is None
    assert not after.quarantined
    assert sum(after.counts["train"].values()) == 3
    assert after.images_read == 12
    assert after.corrections is not None
    assert after.corrections["removed"] == {"train": 1, "eval": 0, "test": 0}


def test_a_correction_settles_two_labels_of_one_image() -> None:
    records = [*RECORDS, record(2, "cat", "test")]
    assert len(choose_images(records, SETTINGS).quarantined) == 2
    after = apply(records, Correction(sha(2), "cat", "dog"))
    assert not after.quarantined
    assert after.counts["test"]["cat"] == 4
    assert after.corrections is not None
    assert (after.corrections["corrected"]["test"], after.corrections["already"]) == (2, 0)


def test_what_no_longer_fits_is_refused_and_what_is_right_already_is_not() -> None:
    with pytest.raises(UserError, match=r"cat/3 .* is labelled 'cat' now, not 'dog', which was to become 'REMOVE'"):
        apply(RECORDS, Correction(sha(3), REMOVE, "dog"))
    with pytest.raises(UserError, match=r"is to become 'Cat', no class of the images; did you mean 'cat'\?"):
        apply(RECORDS, Correction(sha(2), "Cat", "dog"))
    after = apply(RECORDS, Correction(sha(3), "cat", "dog"), Correction(sha("gone"), "cat", "dog"))
    assert not after.rules.labels
    assert after.corrections is not None
    assert (after.corrections["already"], after.corrections["not_found"]) == (1, 1)
    assert describe_corrections(after.corrections).endswith(
        f"1 right already; 1 of images that are not here ({sha('gone')[:12]}...)"
    )


def test_a_label_that_was_found_right_changes_nothing() -> None:
    after = apply(RECORDS, Correction(sha(3), "cat", "cat"))
    assert after.counts == choose_images(RECORDS, SETTINGS).counts
    assert after.corrections is not None
    assert (after.corrections["already"], after.corrections["corrected"]["train"]) == (0, 0)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = str(tmp_path / "corrections.csv")
    corrections = {
        sha(1): Correction(sha(1), 'say "cat", ä', "dog", "Zoë", "2026-11-26T10:00:00+00:00"),
        sha(2): Correction(sha(2), REMOVE, "cat"),
    }
    write_corrections(corrections, path)
    assert read_corrections(path) == corrections
    assert [one.name for one in tmp_path.iterdir()] == ["corrections.csv"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_of_spreadsheets_are_read(delimiter: str) -> None:
    lines = [("content_sha256", "label", "was"), (sha(1).upper(), "a\u0308", "b")]
    content = "\r\n".join(delimiter.join(line) for line in lines).encode("utf-8-sig")
    assert parse_corrections(content, "x") == {sha(1): Correction(sha(1), "ä", "b")}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("content_sha256,label\n", "has no column 'was'"),
        ("", "has no column 'content_sha256'"),
        (f"content_sha256,label,was\n{'a' * 63},cat,dog\n", "row 2 has the content_sha256 'a{63}', not 64"),
        (f"content_sha256,label,was\n{sha(1)},,dog\n", "row 2 leaves label empty"),
        (f"content_sha256,label,was\n{sha(1)},a,b\n{sha(1)},c,b\n", "row 3 gives .* another label than a line before"),
        (b"content_sha256,label,was\n\xff", "is not UTF-8"),
    ],
)
def test_a_damaged_file_is_one_line(lines: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=f"^data.corrections: c.csv: {message}"):
        parse_corrections(lines if isinstance(lines, bytes) else lines.encode(), "data.corrections: c.csv")


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.csv, which cannot be read \(No such file or directory\)"):
        corrected_fingerprint("0", str(tmp_path / "nowhere.csv"))


def test_the_fingerprint_changes_with_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("1", encoding="utf-8")
    first = corrected_fingerprint("0", str(path))
    assert first == corrected_fingerprint("0", str(path))
    path.write_text("2", encoding="utf-8")
    assert len({first, corrected_fingerprint("0", str(path)), corrected_fingerprint("0", None)}) == 3


def test_a_later_decision_takes_the_place_of_an_earlier_one() -> None:
    first = {sha(1): Correction(sha(1), "cat", "dog", "a"), sha(2): Correction(sha(2), "cat", "dog", "a")}
    # Seen after the first was applied: the source still says "dog".
    merged = merge_corrections(first, [Correction(sha(1), "fox", "cat", "b"), Correction(sha(3), "cat", "fox", "b")])
    assert merged[sha(1)] == Correction(sha(1), "fox", "dog", "b")
    assert merged[sha(2)] == first[sha(2)]
    assert list(merged) == [sha(1), sha(2), sha(3)]
    # Looked at again, and found right: the correction stays.
    assert merge_corrections(first, [Correction(sha(1), "cat", "cat", "b")])[sha(1)] == Correction(
        sha(1), "cat", "dog", "b"
    )
