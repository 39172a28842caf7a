"""How far the test images leave the accuracy uncertain, and what gives more of them."""

from collections.abc import Mapping
from typing import Any

from components.report_gen.wilson import WILSON, wilson_interval

FEW_IMAGES = 100
MAX_SHARE = 0.5
"""The largest `data.test_share`."""


def make_accuracy_interval(
    accuracy: float | None, images: int, test_share: float, origins: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Returns the 95 % interval of the accuracy, of plain JSON types; None without test images or an accuracy.

    Args:
        accuracy: 0..1.
        images: those of the test split.
        test_share: `data.test_share`.
        origins: of `data.split_origins.make_split_origins`, None where they are not known.

    Returns:
        `low`, `high`, `method`, `images`, and `remark`: below `FEW_IMAGES` images, one line on how little that is and
        what gives more; else None.
    """
    interval = wilson_interval(accuracy * images, images) if accuracy is not None else None
    if interval is None:
        return None
    low, high = interval
    remark = None
    if images < FEW_IMAGES:
        noun = "image" if images == 1 else "images"
        # Short enough for one line of 80 columns, beside the name of the row.
        remark = f"{images} test {noun}: certain to +-{50 * (high - low):.0f} points; {_more(test_share, origins)}"
    return {"low": low, "high": high, "method": WILSON, "images": images, "remark": remark}


def _more(test_share: float, origins: Mapping[str, Any] | None) -> str:
    """Says what gives more test images."""
    if names := origins["test"]["declared_by"] if origins else []:
        # Folders alone end in a slash: other sources declare splits, too.
        others = ", or other folders in data.split_folders.test," if names[0].endswith("/") else ""
        return f"more images in {' and '.join(names)}{others} give more"
    if test_share < MAX_SHARE:
        return f"data.test_share={min(MAX_SHARE, 2 * test_share):.2g} gives more"
    return "only more images give more"
