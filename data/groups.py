"""Which images stay together in one split: those of one group, copies byte for byte, near duplicates where asked for.

A whole is known by its key, 64 hexadecimal digits: the SHA-256 of its group's name, or, of an image without a group,
that of its bytes. Names of patients so leave the source no further than they must.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from data.errors import UserError
from data.image_record import ImageRecord

_MOST_JOINED_SHARE = 0.05
_ALWAYS_JOINED = 10
"""Images of a burst: of a class of 40, two that are alike would already be 5 %."""


def make_key(sha256: str, group: str | None) -> str:
    """Returns the key of an image's group; of an image without one its own: that of all its copies."""
    return hashlib.sha256(group.encode()).hexdigest() if group else sha256


@dataclass
class Union:
    """Disjoint sets of keys (Tarjan 1975); a key that was never joined is a set of its own.

    Attributes:
        above: key -> another one of its set, nearer to the one that stands for all.
    """

    above: dict[str, str] = field(default_factory=dict)

    def find(self, key: str) -> str:
        """Returns the key that stands for a key's set."""
        root = key
        while root in self.above:
            root = self.above[root]
        while key != root:
            self.above[key], key = root, self.above[key]
        return root

    def join(self, one: str, other: str) -> None:
        """Makes one set of two."""
        one, other = self.find(one), self.find(other)
        if one != other:
            self.above[other] = one


def join_keys(records: Sequence[ImageRecord], alike: Mapping[str, str]) -> dict[str, str]:
    """Returns key -> the key of the whole that it belongs to, where that is another.

    That is the least of the groups' keys in it, or where there is no group, of the images': what has no group and joins
    one later does not move it.

    Args:
        records: usable images.
        alike: content hash -> another one, of which it is a near duplicate.

    Raises:
        UserError: see `_check_alike`.
    """
    if not alike and not any(record.group for record in records):
        return {}
    union = Union()
    first: dict[str, str] = {}
    keys_of_groups = {group: make_key("", group) for group in {record.group for record in records} if group}
    named = set(keys_of_groups.values())
    for record in records:
        key = keys_of_groups[record.group] if record.group else record.sha256
        union.join(first.setdefault(record.sha256, key), key)
    for one, other in alike.items():
        if one in first and other in first:
            union.join(first[one], first[other])
    wholes: dict[str, list[str]] = defaultdict(list)
    for key in {*union.above, *union.above.values()}:
        wholes[union.find(key)].append(key)
    joined = {}
    for keys in wholes.values():
        least = min([key for key in keys if key in named] or keys)
        joined.update({key: least for key in keys if key != least})
    if alike:
        _check_alike(records, joined)
    return joined


def _check_alike(records: Iterable[ImageRecord], joined: Mapping[str, str]) -> None:
    """Refuses near duplicates that chain much of a class together: its splits would hang on where that falls.

    A large group alone is not meant: the largest of a whole's groups counts as one image.

    Raises:
        UserError: with the size.
    """
    classes: Counter[str] = Counter()
    parts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for record in records:
        classes[record.label] += 1
        key = make_key(record.sha256, record.group)
        parts[record.label, joined.get(key, key)][key] += 1
    for (label, _), sizes in sorted(parts.items(), key=lambda part: -part[1].total()):
        size = sizes.total()
        if size - max(sizes.values()) + 1 > max(_MOST_JOINED_SHARE * classes[label], _ALWAYS_JOINED):
            raise UserError(
                f"data.near_duplicates is keep_together, and {size:,} of the {classes[label]:,} images of the class"
                f" {label!r} ({size / classes[label]:.1%}) hang together as near duplicates, more than"
                f" {_MOST_JOINED_SHARE:.0%}: they would all be in one split; set it to tell, or give the images that"
                " belong together a group"
            )


def describe_groups(facts: Mapping[str, int] | None) -> str | None:
    """Returns one line on what `GroupCount` counted; None where the data set has no groups."""
    if not facts:
        return None
    text = f"{facts['images']:,} images in {facts['groups']:,} groups of several"
    if facts["near_duplicates"]:
        text += f", {facts['near_duplicates']:,} of them as near duplicates"
    if facts["divided"]:
        text += f"; {facts['divided']:,} groups are in several declared splits (data.duplicates=keep)"
    if facts["dropped"]:
        text += f"; {facts['dropped']:,} images dropped, of groups of a split that is more protected"
    return text


class GroupCount:
    """Counts what became of groups, for the summary: kept in a number for each group, not for each image."""

    def __init__(self, alike: Mapping[str, str]) -> None:
        """Counts nothing yet; `alike` as in `join_keys`."""
        self._alike = {*alike, *alike.values()}
        self._sizes: Counter[str] = Counter()
        self._splits: dict[str, str] = {}
        self._divided: set[str] = set()
        self._near = 0

    def add(self, image: ImageRecord, key: str, split: str) -> None:
        """Counts an image that is used, of the whole of a key."""
        self._sizes[key] += 1
        if self._splits.setdefault(key, split) != split:
            self._divided.add(key)
        self._near += image.sha256 in self._alike

    def make_facts(self, dropped: int) -> dict[str, int]:
        """Returns the numbers.

        Args:
            dropped: images that were left out because of their group, not because they are copies.

        Returns:
            `groups` of several images and the `images` in them, copies among both; how many images are known as
            `near_duplicates`; how many groups are `divided` between splits; `dropped`.
        """
        several = [size for size in self._sizes.values() if size > 1]
        return {
            "groups": len(several),
            "images": sum(several),
            "near_duplicates": self._near,
            "divided": len(self._divided),
            "dropped": dropped,
        }
