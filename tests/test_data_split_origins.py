"""What each split came from, in one line."""

import pytest

from data.image_record import ImageRecord
from data.settings import DataSettings
from data.split_origins import describe_split_origins
from data.splits import choose_images


def origins_of(*folders: str, source: str = "image_folder", eval_share: float = 0.1) -> dict:
    """Returns what `choose_images` says of one image in each folder."""
    splits = {"train": "train", "val": "eval", "dev": "eval", "test": "test"}
    records = [
        ImageRecord(f"{folder}/cat/{i}.jpg", "cat", splits.get(folder), f"{i:064x}") for i, folder in enumerate(folders)
    ]
    settings = DataSettings(source=source, path="/images", eval_share=eval_share)
    return choose_images(records, settings).origins


@pytest.mark.parametrize(
    ("folders", "line"),
    [
        (("train", "val"), "train/ gave train and test (10 % cut), val/ became eval"),
        (("train", "test"), "train/ gave train and eval (12.5 % cut), test/ became test"),
        (("train", "val", "dev"), "train/ gave train and test (10 % cut), dev/ and val/ became eval"),
        (("train",), "train/ gave train, eval (12.5 % cut) and test (10 % cut)"),
        (("train", "val", "test"), None),
        (("cats", "dogs"), None),
    ],
)
def test_what_each_declared_split_became(folders: tuple[str, ...], line: str | None) -> None:
    assert describe_split_origins(origins_of(*folders, eval_share=0.125)) == line


def test_sources_without_folders_name_the_split() -> None:
    line = "train gave train and test (10 % cut), eval became eval"
    assert describe_split_origins(origins_of("train", "val", source="tfrecords")) == line


def test_the_facts_name_what_declared_a_split_and_the_share_of_a_cut_one() -> None:
    assert origins_of("train", "val") == {
        "train": {"declared_by": ["train/"], "cut_share": None},
        "eval": {"declared_by": ["val/"], "cut_share": None},
        "test": {"declared_by": [], "cut_share": 0.1},
    }
