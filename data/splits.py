"""Chooses which images are used, and in which split: pure functions over small records, no image bytes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from data.bit_depth import WHOLE, least_bit_depth
from data.corrections import Correction, apply_corrections
from data.errors import UserError
from data.features import GROUP_KEY, SPLITS, WEIGHT_KEY
from data.groups import GroupCount, join_keys, make_key
from data.image_record import ImageRecord
from data.left_out import count_left_out
from data.originals import MAX_ORIGINALS
from data.settings import DataSettings
from data.split_origins import make_split_origins


@dataclass(frozen=True)
class Rules:
    """Says of each image whether and where it is used, by its content alone, since names need not be unique.

    Attributes:
        cut: `eval` and `test`, where they are cut from train -> their share of it.
        unusable: content hashes of images that are quarantined.
        only_split: key of a whole (see `data.groups`) -> the one declared split that keeps its images.
        reencoded: content hashes of images that are stored as a PNG.
        originals: those few of them, of the test split, whose original files are kept beside the examples.
        bit_depth: how many of 16 bits a channel are used, one of `BIT_DEPTHS`.
        joined: of `data.groups.join_keys`.
        extras: which features beyond those of all data sets every example holds: `WEIGHT_KEY`, `GROUP_KEY`.
        labels: content hash -> label, of images whose label is corrected.
    """

    cut: Mapping[str, float]
    unusable: frozenset[str]
    only_split: Mapping[str, str]
    reencoded: frozenset[str]
    originals: frozenset[str] = frozenset()
    bit_depth: int = WHOLE
    joined: Mapping[str, str] = field(default_factory=dict)
    extras: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def label_of(self, sha256: str, given: str) -> str:
        """Returns an image's label: the corrected one, else what the source gives it."""
        return self.labels.get(sha256, given)

    def key_of(self, sha256: str, group: str | None) -> str:
        """Returns the key of the whole that an image belongs to, see `data.groups`."""
        key = make_key(sha256, group)
        return self.joined.get(key, key)

    def split_of(self, sha256: str, declared: str | None, group: str | None = None) -> str | None:
        """Returns `train`, `eval` or `test`, or None for an image that is left out.

        A declared split stands; train is cut by the hash of the content, or of the group's name: so the split depends
        on neither other names nor order, equal images and those of a group fall together, and added ones move none.
        """
        declared = declared or "train"
        key = self.key_of(sha256, group)
        if sha256 in self.unusable or self.only_split.get(key, declared) != declared:
            return None
        if declared != "train":
            return declared
        position = int(key[:13], 16) / 16**13  # 52 bits: exact in a float, evenly spread over 0..1
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
        images_read: images that the source holds, but for those left out.
        content_hashes: split -> SHA-256 of each distinct image, hexadecimal.
        origins: of `make_split_origins`: where each split came from.
        left_out: of `count_left_out`.
        groups: of `GroupCount`; None where no image has a group.
        corrections: of `Applied.count_by_split`, where there are any.
    """

    rules: Rules
    quarantined: list[tuple[str, str]]
    counts: dict[str, dict[str, int]]
    duplicates_dropped: int
    reencoded: int
    images_read: int
    content_hashes: dict[str, set[str]]
    origins: dict[str, Any]
    left_out: dict[str, int]
    groups: dict[str, int] | None = None
    corrections: dict[str, Any] | None = None


def choose_images(
    records: Iterable[ImageRecord],
    settings: DataSettings,
    alike: Mapping[str, str] = MappingProxyType({}),
    corrections: Mapping[str, Correction] | None = None,
) -> Selection:
    """Decides on every image: quarantined, left out as a duplicate, because of its group or as corrected, or its split.

    Args:
        records: of all images.
        settings: how to decide.
        alike: content hash -> another one, of which it is a near duplicate that is to be kept together with it.
        corrections: of labels, by content hash: before labels are compared.

    Raises:
        UserError: a problem hides further images; `data.labels` names a label that none has; declared splits share
            images or groups and `data.duplicates` is `fail`; too many near duplicates hang together; or a correction
            does not fit.
    """
    records = sorted(records, key=lambda record: record.name)
    fatal = next((record for record in records if record.fatal), None)
    if fatal:
        raise UserError(": ".join(filter(None, ("data.path", fatal.name, fatal.problem))))

    left_out = count_left_out(records, settings.labels)
    records = [record for record in records if not record.left_out]
    images_read = len(records)
    records, corrected = apply_corrections(records, corrections or {}, settings.corrections or "")
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
    joined = join_keys(usable, alike)
    has = {
        GROUP_KEY: bool(joined) or any(record.group for record in usable),
        WEIGHT_KEY: any(record.weight != 1.0 for record in usable),
    }
    rules = Rules(
        cut={split: share for split, share in shares.items() if split not in declared},
        unusable=frozenset(record.sha256 for record in records if record.problem and record.sha256).union(
            conflicts, (record.sha256 for record in corrected.removed)
        ),
        only_split={},
        # TensorFlow decodes the upper 8 of 16 bits.
        reencoded=frozenset(r.sha256 for r in usable if r.reencoded or (r.peak is not None and bit_depth < WHOLE)),
        bit_depth=bit_depth,
        joined=joined,
        extras=tuple(key for key in (WEIGHT_KEY, GROUP_KEY) if has[key]),
        labels=corrected.labels,
    )
    if settings.duplicates != "keep":
        keys = ((rules.key_of(record.sha256, record.group), record.split or "train") for record in usable)
        rules = replace(rules, only_split=_most_protected_splits(keys))
    counts: dict[str, Counter] = {split: Counter() for split in SPLITS}
    content_hashes: dict[str, set[str]] = {split: set() for split in SPLITS}
    dropped, group_count, reencoded = [], GroupCount(alike), 0
    convertible = set()
    for record in usable:
        split = rules.split_of(record.sha256, record.split, record.group)
        if split is None:
            dropped.append(record)
        else:
            counts[split][record.label] += 1
            if has[GROUP_KEY]:
                group_count.add(record, rules.key_of(record.sha256, record.group), split)
            content_hashes[split].add(record.sha256)
            if record.sha256 in rules.reencoded:
                reencoded += 1
                if split == "test":
                    convertible.add(record.sha256)
    if dropped and settings.duplicates == "fail":
        first = dropped[0]
        raise UserError(
            f"data.duplicates is fail, and {len(dropped)} images {'or their groups ' if has[GROUP_KEY] else ''}occur in"
            f" several declared splits, such as {first.name}, also in"
            f" {rules.only_split[rules.key_of(first.sha256, first.group)]}; remove them, or choose drop_from_train"
        )
    lone = sum(not any(record.sha256 in hashes for hashes in content_hashes.values()) for record in dropped)
    classes = sorted({record.label for record in records if record.label})
    return Selection(
        rules=replace(rules, originals=frozenset(sorted(convertible)[:MAX_ORIGINALS])),
        quarantined=quarantined,
        counts={split: {name: counts[split][name] for name in classes} for split in SPLITS},
        duplicates_dropped=len(dropped) - lone,
        reencoded=reencoded,
        images_read=images_read,
        content_hashes=content_hashes,
        origins=make_split_origins(((record.split, _declaring(record, settings)) for record in records), rules.cut),
        left_out=left_out,
        groups=group_count.make_facts(lone) if has[GROUP_KEY] else None,
        corrections=corrected.count_by_split(
            ((rules.split_of(record.sha256, record.split, record.group), record.sha256) for record in usable),
            (replace(rules, unusable=frozenset()).split_of(r.sha256, r.split, r.group) for r in corrected.removed),
        )
        if corrections is not None
        else None,
    )


def _declaring(record: ImageRecord, settings: DataSettings) -> str:
    """Returns what declares an image's split: its top folder, or, in other sources, the split's own name."""
    # Of several spans, the names begin with that of the span.
    parts = record.name.split("/")[1 if settings.num_spans > 1 else 0 :]
    return f"{parts[0]}/" if settings.source == "image_folder" else record.split or ""


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


def _most_protected_splits(keys: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Returns key -> split, of what several declared splits hold, of (key, split): test before eval before train."""
    splits: dict[str, str] = {}
    several: dict[str, str] = {}
    for key, split in keys:
        first = splits.setdefault(key, split)
        if first != split:
            several[key] = max(several.get(key, first), split, key=SPLITS.index)
    return several
