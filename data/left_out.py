"""What `data.labels` left out, and labels in it that no image has."""

from collections import Counter
from collections.abc import Iterable, Mapping

from data.errors import UserError
from data.image_record import ImageRecord

_SHOWN = 20


def count_left_out(images: Iterable[ImageRecord], labels: Mapping[str, str | None]) -> dict[str, int]:
    """Returns label -> images of it that `data.labels` leaves out.

    Args:
        images: all of them.
        labels: `data.labels`.

    Raises:
        UserError: it names a label that no image has.
    """
    left_out: Counter[str] = Counter()
    found = set()
    for image in images:
        given = image.label if image.given_label is None else image.given_label
        found.add(given)
        if image.left_out:
            left_out[given] += 1
    names = sorted(found - {""})
    if names and (unknown := sorted(labels.keys() - found)):
        raise UserError(
            f"data.labels names {unknown[0]!r}, which is the label of no image; there are"
            f" {', '.join(map(repr, names[:_SHOWN]))}{', ...' if len(names) > _SHOWN else ''}"
        )
    return dict(sorted(left_out.items()))
