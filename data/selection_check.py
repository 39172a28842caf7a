"""Refuses data that no classifier can be trained or judged on."""

from collections.abc import Mapping

from data.errors import UserError
from data.features import SPLITS
from data.settings import DataSettings
from data.splits import Selection

_SHOWN = 5


def check_selection(selection: Selection, settings: DataSettings) -> None:
    """Refuses data that no classifier can be trained or judged on.

    Raises:
        UserError: no images, too many unusable ones, fewer than two classes, a class without a usable or without a
            train image, a class name of several lines, or a split left empty.
    """
    if not selection.images_read:
        raise UserError(f"data.path is {settings.path}, which holds no images; give a place that holds some")
    bad = len(selection.quarantined)
    if bad > settings.max_quarantined_share * selection.images_read:
        first = "; ".join(f"{name} ({reason})" for name, reason in selection.quarantined[:5])
        raise UserError(
            f"{bad:,} of {selection.images_read:,} images ({bad / selection.images_read:.1%}) cannot be used, more than"
            f" data.max_quarantined_share={settings.max_quarantined_share} allows: {first}{'; ...' if bad > 5 else ''};"
            " a run lists all of them in its log and summary.json; mend or remove them, or raise that share"
        )
    totals = {name: sum(selection.counts[split][name] for split in SPLITS) for name in selection.counts["train"]}
    if len(totals) < 2:
        raise UserError(f"only one class was found, {next(iter(totals), None)!r}; a classifier needs at least two")
    for name, total in totals.items():
        if "\n" in name or "\r" in name:  # The vocabulary is a text file, one class a line.
            raise UserError(f"the class {name!r} has a line break in its name; rename it")
        if not total:
            raise UserError(f"the class {name!r} has no usable image, see summary.json; add some or remove the class")
        if not selection.counts["train"][name]:
            places = ", ".join(f"{selection.counts[split][name]} in {split}" for split in ("eval", "test"))
            raise UserError(
                f"the class {name!r} has no image in train ({places}); add images of it"
                f"{', or lower data.eval_share and data.test_share' if selection.rules.cut else ' to train'}"
            )
    for split in SPLITS:
        if not any(selection.counts[split].values()):
            raise UserError(
                f"no image is left for the split {split!r} out of {sum(totals.values())} usable images; add images"
                f"{f', or raise data.{split}_share' if split in selection.rules.cut else f' to {split}'}"
            )


def describe_unjudged(counts: Mapping[str, Mapping[str, int]]) -> str | None:
    """Returns one line on classes that `eval` or `test` has no image of, None where both have all.

    Args:
        counts: of `Selection`.
    """
    found = []
    for split in ("eval", "test"):
        if missing := [name for name, count in counts[split].items() if not count]:
            more = f" and {len(missing) - _SHOWN:,} more classes" if len(missing) > _SHOWN else ""
            found.append(f"{split} has no image of {', '.join(missing[:_SHOWN])}{more}")
    return "; ".join(found) or None
