"""Chooses which images are used, and in which split: pure functions over small records, no image bytes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from data.bit_depth import WHOLE, least_bit_depth
from data.errors import UserError
from data.features import SPLITS
from data.originals import MAX_ORIGINALS
from data.settings import DataSettings
from data.split_origins import make_split_origins


@dataclass(frozen=True, slots=True)  # A dict each would be as much again, of 1.2 million.
class ImageRecord:
    """What is known of one image after its check.

    Attributes:
        name: where it lies, relative to its source.
        label: class name; may be empty where `problem` says why.
        split: `train`, `eval` or `test` where the source declares it, else None.
        sha256: of the original file's bytes, hexadecimal; empty where they could not be had.
        reencoded: whether its example holds a PNG in place of the original bytes.
        peak: the largest value of a channel, 0..65535; None where that has 8 bits.
        problem: why it cannot be used, else None.
        fatal: whether the problem hides further images, so that the run must stop.
        group: of `SourceImage`.
        weight: of `SourceImage`.
    """

    name: str
    label: str
    split: str | None
    sha256: str
    reencoded: bool = False
    peak: int | None = None
    problem: str | None = None
    fatal: bool = False
    group: str | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class Rules:
    """Says of each image whether and where it is used, by its content alone, since names need not be unique.

    Attributes:
        cut: `eval` and `test`, where they are cut from train -> their share of it.
        unusable: content hashes of images that are quarantined.
        only_split: content hash -> the one declared split that keeps the image.
        reencoded: content hashes of images that are stored as a PNG.
        originals: those few of them, of the test split, whose original files are kept beside the examples.
        bit_depth: how many of 16 bits a channel are used, one of `BIT_DEPTHS`.
    """

    cut: Mapping[str, float]
    unusable: frozenset[str]
    only_split: Mapping[str, str]
    reencoded: frozenset[str]
    originals: frozenset[str] = frozenset()
    bit_depth: int = WHOLE

    def split_of(self, sha256: str, declared: str | None) -> str | None:
        """Returns `train`, `eval` or `test`, or None for an image that is left out.

        A declared split stands; train is cut by the hash of the content: so the split depends on neither names nor
        order, equal images fall together, and added images move none.
        """
        declared = declared or "train"
        if sha256 in self.unusable or self.only_split.get(sha256, declared) != declared:
            return None
        if declared != "train":
            return declared
        position = int(sha256[:13], 16) / 16**13  # 52 bits: exact in a float, evenly spread over 0..1
        for split, share in self.cut.items():
            position -= share
            if position < 0:
                return split
        return "train"


@dataclass(frozen=True)
class Selection:
    """The outcome of `choose_images`.

    Attributes:
        rules: what the second reading of the images goes by.
        quarantined: (name, reason) of each image that cannot be used, by name.
        counts: split -> class -> examples, every split and class of the source among them.
        duplicates_dropped: images left out because a more protected split holds the same bytes.
        reencoded: examples that hold a PNG in place of the original bytes.
        images_read: images that the source holds.
        content_hashes: split -> SHA-256 of each distinct image, hexadecimal.
        origins: of `make_split_origins`: where each split came from.
    """

    rules: Rules
    quarantined: list[tuple[str, str]]
    counts: dict[str, dict[str, int]]
    duplicates_dropped: int
    reencoded: int
    images_read: int
    content_hashes: dict[str, set[str]]
    origins: dict[str, Any]


def choose_images(records: Iterable[ImageRecord], settings: DataSettings) -> Selection:
    """Decides on every image: quarantined, left out as a duplicate, or its split.

    Raises:
        UserError: a problem hides further images; or declared splits share images and `data.duplicates` is `fail`.
    """
    records = sorted(records, key=lambda record: record.name)
    fatal = next((record for record in records if record.fatal), None)
    if fatal:
        raise UserError(f"data.path: {fatal.name}: {fatal.problem}")

    conflicts = _label_conflicts(records)
    quarantined, usable = [], []
    for record in records:
        reason = record.problem or conflicts.get(record.sha256)
        if reason:
            quarantined.append((record.name, reason))
        else:
            usable.append(record)

    declared = {record.split for record in records}
    peaks = [record.peak for record in usable if record.peak is not None]
    bit_depth = least_bit_depth(max(peaks)) if peaks else WHOLE
    shares = {"test": settings.test_share, "eval": settings.eval_share}
    rules = Rules(
        cut={split: share for split, share in shares.items() if split not in declared},
        unusable=frozenset(record.sha256 for record in records if record.problem and record.sha256).union(conflicts),
        only_split={} if settings.duplicates == "keep" else _most_protected_splits(usable),
        # TensorFlow decodes the upper 8 of 16 bits.
        reencoded=frozenset(r.sha256 for r in usable if r.reencoded or (r.peak is not None and bit_depth < WHOLE)),
        bit_depth=bit_depth,
    )
    counts: dict[str, Counter] = {split: Counter() for split in SPLITS}
    content_hashes: dict[str, set[str]] = {split: set() for split in SPLITS}
    dropped, reencoded = [], 0
    convertible = set()
    for record in usable:
        split = rules.split_of(record.sha256, record.split)
        if split is None:
            dropped.append(record)
        else:
            counts[split][record.label] += 1
            content_hashes[split].add(record.sha256)
            if record.sha256 in rules.reencoded:
                reencoded += 1
                if split == "test":
                    convertible.add(record.sha256)
    if dropped and settings.duplicates == "fail":
        raise UserError(
            f"data.duplicates is fail, and {len(dropped)} images occur in several declared splits, such as"
            f" {dropped[0].name}, also in {rules.only_split[dropped[0].sha256]}; remove them, or choose drop_from_train"
        )
    classes = sorted({record.label for record in records if record.label})
    return Selection(
        rules=replace(rules, originals=frozenset(sorted(convertible)[:MAX_ORIGINALS])),
        quarantined=quarantined,
        counts={split: {name: counts[split][name] for name in classes} for split in SPLITS},
        duplicates_dropped=len(dropped),
        reencoded=reencoded,
        images_read=len(records),
        content_hashes=content_hashes,
        origins=make_split_origins(((record.split, _declaring(record, settings)) for record in records), rules.cut),
    )


def _declaring(record: ImageRecord, settings: DataSettings) -> str:
    """Returns what declares an image's split: its top folder, or, in other sources, the split's own name."""
    return f"{record.name.split('/')[0]}/" if settings.source == "image_folder" else record.split or ""


def _label_conflicts(records: list[ImageRecord]) -> dict[str, str]:
    """Returns content hash -> reason, of images that occur under two labels: no one can say which is right."""
    labels: dict[str, str] = {}
    several: dict[str, set[str]] = defaultdict(set)
    for record in records:
        if not record.problem and labels.setdefault(record.sha256, record.label) != record.label:
            several[record.sha256] |= {labels[record.sha256], record.label}
    return {
        sha256: f"the same image has the labels {' and '.join(map(repr, sorted(names)))}"
        for sha256, names in several.items()
    }


def _most_protected_splits(records: list[ImageRecord]) -> dict[str, str]:
    """Returns content hash -> split, of images that several declared splits hold: test before eval before train."""
    splits: dict[str, str] = {}
    several: dict[str, str] = {}
    for record in records:
        split = record.split or "train"
        first = splits.setdefault(record.sha256, split)
        if first != split:
            several[record.sha256] = max(several.get(record.sha256, first), split, key=SPLITS.index)
    return several


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
            " all of them are in summary.json and the log; mend or remove them, or raise that share"
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
