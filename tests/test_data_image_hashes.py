"""Which images a split holds and a model has learned from."""

import hashlib
from pathlib import Path

import numpy as np

from data.features import SPLITS
from data.image_hashes import (
    find_overlap,
    make_image_hashes,
    read_image_hashes,
    read_split_hashes,
    split_hashes_file,
    write_image_hashes,
)


def hashes(*names: str) -> np.ndarray:
    return make_image_hashes(hashlib.sha256(name.encode()).hexdigest() for name in names)


def test_equal_images_count_once_and_are_read_back(tmp_path: Path) -> None:
    written = hashes("b", "a", "b")
    write_image_hashes(written, str(tmp_path / "x.bin"))
    assert (tmp_path / "x.bin").stat().st_size == 2 * 8
    np.testing.assert_array_equal(read_image_hashes(str(tmp_path / "x.bin")), written)
    assert (
        sorted(written.tolist())
        == written.tolist()
        == [
            int.from_bytes(digest[:8], "big")
            for digest in sorted(hashlib.sha256(name).digest() for name in (b"a", b"b"))
        ]
    )


def test_no_images_are_not_the_same_as_no_record(tmp_path: Path) -> None:
    write_image_hashes(hashes(), str(tmp_path / "x.bin"))
    read = read_image_hashes(str(tmp_path / "x.bin"))
    assert read is not None
    assert len(read) == 0
    assert read_image_hashes(str(tmp_path / "x.bin")) is not None
    assert read_image_hashes(str(tmp_path / "y.bin")) is None


def test_splits_are_recorded_all_or_none(tmp_path: Path) -> None:
    for split in SPLITS:
        assert read_split_hashes(str(tmp_path)) is None
        write_image_hashes(hashes(split), str(tmp_path / split_hashes_file(split)))
    assert read_split_hashes(str(tmp_path)) == {split: hashes(split) for split in SPLITS}


def test_overlap_counts_test_images_that_only_the_model_has_learned() -> None:
    splits = {"train": hashes("a", "b"), "eval": hashes("c"), "test": hashes("b", "c", "x", "y", "z")}
    # b and c are kept duplicates: every model of these splits learns them.
    overlap = find_overlap(hashes("a", "b", "c", "x", "y", "gone"), splits)
    assert (overlap.images, overlap.test_images) == (2, 5)
    assert str(overlap) == "2 of 5 test images trained it"
    assert find_overlap(hashes("a", "b", "c", "gone"), splits).images == 0
