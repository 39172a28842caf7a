"""What came of the formats, as JSON for the screen, `summary.json`, the report and the model card."""

from collections.abc import Iterator
from typing import Any

FORMATS_KEY = "formats"
FORMATS_FILE = "formats.json"
"""In the `formats` artifact, beside a folder for each format that was kept:

`{"reason", "machine", "images", "max_accuracy_loss", "calibration_images", "saved_model", "formats"}`. `reason` says
why nothing was converted, else it is null. `saved_model` and each of `formats` (by name) have `megabytes`,
`milliseconds` (of one image at a time, the median, without decoding and resizing) and `accuracy`; a format also `kept`,
`reason` (why it was refused) and `agreement` (the share of test images that it gives the SavedModel's class). What
could not be measured is null."""


def describe_formats(record: dict[str, Any] | None) -> Iterator[tuple[str, bool]]:
    """Yields a line for each format, and whether it was kept."""
    for name, row in ((record or {}).get("formats") or {}).items():
        figures = describe_figures(row)
        yield (
            f"{name}: {'' if row['kept'] else row['reason']}{'; ' * bool(row['reason'] and figures)}{figures}",
            row["kept"],
        )


def describe_figures(row: dict[str, Any]) -> str:
    """Returns size, latency, accuracy and agreement, as far as they are known."""
    known = [
        (row["megabytes"], "{:.1f} MB"),
        (row["milliseconds"], "{:.2f} ms"),
        (row["accuracy"], "accuracy {:.4f}"),
        (row.get("agreement"), "agrees on {:.2%}"),
    ]
    return ", ".join(text.format(value) for value, text in known if value is not None)


def describe_conditions(record: dict[str, Any]) -> str:
    """Returns how the figures were measured, in sentences."""
    calibrated = (
        f" litert-int8 was calibrated on {record['calibration_images']:,} images of train."
        if record["calibration_images"]
        else ""
    )
    return (
        f"Milliseconds are the median of one image at a time on the machine of the run ({record['machine']}), without"
        f" decoding and resizing, with the threads that a runtime takes by itself (LiteRT one). Accuracy and agreement"
        f" are of all {record['images']:,} test images, through the client that lies beside each format.{calibrated}"
    )
