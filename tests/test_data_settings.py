"""The data section: it survives JSON, and refuses what contradicts itself."""

import os
import re

import pytest
from pydantic import ValidationError

from data.settings import DataSettings


def test_survives_json():
    settings = DataSettings(
        source="image_folder",
        path="images",
        split_folders={"train": ["train"], "eval": [], "test": ["val"]},
        duplicates="fail",
        class_names="names.txt",
    )
    assert DataSettings.model_validate_json(settings.model_dump_json()) == settings


def test_home_is_expanded():
    assert DataSettings(source="image_folder", path="~/images").path == os.path.expanduser("~/images")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"path": "images"}, "source=digits reads no path"),
        ({"source": "image_folder"}, "needs path"),
        ({"source": "tfrecords"}, "needs path"),
        ({"source": "cifar10", "class_names": "names.txt"}, "brings its own names"),
        ({"eval_share": 0.5, "test_share": 0.5}, "leave nothing to train on"),
        ({"eval_share": 0}, "eval_share"),
        ({"test_share": 0.6}, "test_share"),
        ({"max_pixels": 0}, "max_pixels"),
        ({"max_quarantined_share": 1.5}, "max_quarantined_share"),
        ({"split_folders": {"eval": ["val"], "test": ["VAL"]}}, "'val' is named twice"),
        ({"split_folders": {"train": []}}, "train names no folder"),
        ({"sourse": "digits"}, "sourse"),
    ],
)
def test_refuses(values, message):
    with pytest.raises(ValidationError, match=re.escape(message)):
        DataSettings(**values)
