"""Images of one patient, camera or burst stay in one split: with their copies, and near duplicates if that is asked."""

import hashlib
import random
import re
from collections import defaultdict

import pytest

from data.errors import UserError
from data.features import GROUP_KEY, WEIGHT_KEY
from data.groups import describe_groups
from data.image_record import ImageRecord
from data.settings import DataSettings
from data.splits import choose_images


def sha(content):
    return hashlib.sha256(str(content).encode()).hexdigest()


def record(content, group=None, split=None, label=None, **rest):
    label = label or ("cat", "dog")[int(sha(content), 16) % 2]
    return ImageRecord(f"{split}/{content}", label, split, sha(content), group=group, **rest)


def patients(count=200, size=5, **rest):
    return [record(f"{number}-{i}", f"patient {number}", **rest) for number in range(count) for i in range(size)]


def where(selection, records):
    return {r.name: selection.rules.split_of(r.sha256, r.split, r.group) for r in records}


def splits_of_groups(selection, records):
    found = defaultdict(set)
    for r in records:
        found[r.group].add(selection.rules.split_of(r.sha256, r.split, r.group))
    return found


def test_a_group_is_in_one_split_and_the_shares_are_kept():
    records = patients()
    selection = choose_images(records, DataSettings(eval_share=0.2, test_share=0.2))
    found = splits_of_groups(selection, records)
    assert all(len(splits) == 1 for splits in found.values())
    shares = [sum(splits == {split} for splits in found.values()) / 200 for split in ("train", "eval", "test")]
    assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.14)  # four standard deviations of 200 draws
    assert selection.groups == {"groups": 200, "images": 1000, "near_duplicates": 0, "divided": 0, "dropped": 0}
    assert describe_groups(selection.groups) == "1,000 images in 200 groups of several"


def test_added_images_move_no_group_and_order_moves_none():
    records = patients()
    before = where(choose_images(records, DataSettings()), records)
    more = [*records, *patients(50, 9), *[record(i) for i in range(500)], *[record(f"x{i}", f"q{i}") for i in range(9)]]
    more = list({r.name: r for r in more}.values())
    after = where(choose_images(random.Random(0).sample(more, len(more)), DataSettings()), more)
    assert {name: after[name] for name in before} == before


def test_an_image_without_a_group_lands_where_it_does_without_groups():
    alone = [record(i) for i in range(500)]
    before = choose_images(alone, DataSettings())
    assert before.rules.extras == ()
    assert before.groups is None
    after = choose_images([*alone, *patients()], DataSettings())
    assert where(after, alone) == where(before, alone)
    assert after.rules.extras == (GROUP_KEY,)


def test_copies_join_groups():
    """One image of the first patient lies among those of the second, too, another one without a group."""
    records = [*patients(40), record("1-0", "patient 2"), record("3-0"), record("4-0", "patient 5", label="cat")]
    records[20] = record("4-0", "patient 4", label="cat")
    selection = choose_images(records, DataSettings(eval_share=0.3, test_share=0.3))
    found = splits_of_groups(selection, records)
    assert found["patient 1"] == found["patient 2"]
    assert found["patient 4"] == found["patient 5"]
    assert found[None] == found["patient 3"]
    assert all(len(splits) == 1 for splits in found.values())
    key = selection.rules.key_of
    assert key(sha("1-1"), "patient 1") == key(sha("2-1"), "patient 2") != key(sha("6-1"), "patient 6")
    assert key(sha("3-0"), None) == key(sha("3-1"), "patient 3") == sha("patient 3")
    assert len(selection.rules.joined) == 3  # exceptions alone: rules of a million images in groups stay small


def divided():
    """Patient 0 in train and eval, patient 1 in train and test; and one copy."""
    return [
        *[record(f"{i}", f"patient {i % 20}", "train") for i in range(100)],
        *[record(f"e{i}", "patient 0" if i < 3 else f"other {i}", "eval") for i in range(20)],
        *[record(f"t{i}", "patient 1" if i < 2 else f"another {i}", "test") for i in range(20)],
        record("99", None, "test"),
    ]


def test_of_a_group_in_two_declared_splits_the_more_protected_one_is_kept():
    selection = choose_images(divided(), DataSettings())
    found = splits_of_groups(selection, divided())
    assert found["patient 0"] == {None, "eval"}
    assert found["patient 1"] == {None, "test"}
    assert found["patient 19"] == {None}  # its image 99 lies in test: all of it is dropped from train
    assert selection.duplicates_dropped == 1
    assert selection.groups["dropped"] == 5 + 5 + 4
    assert "14 images dropped, of groups of a split that is more protected" in describe_groups(selection.groups)


def test_groups_in_two_declared_splits_may_be_kept_or_refused():
    selection = choose_images(divided(), DataSettings(duplicates="keep"))
    assert selection.groups["dropped"] == selection.duplicates_dropped == 0
    assert selection.groups["divided"] == 3
    assert "3 groups are in several declared splits" in describe_groups(selection.groups)
    with pytest.raises(UserError, match="15 images or their groups occur in several declared splits, such as train/0"):
        choose_images(divided(), DataSettings(duplicates="fail"))


def test_what_cannot_be_used_joins_nothing():
    records = [*patients(40), record("1-0", "patient 2", problem="truncated")]
    assert not choose_images(records, DataSettings()).rules.joined


def test_near_duplicates_are_joined_to_groups():
    records = [*patients(40), *[record(i, label="cat") for i in range(300)]]
    alike = {sha("1-0"): sha("2-3"), sha(5): sha(3), sha(7): sha(3), sha(9): sha("4-1"), sha("gone"): sha(4)}
    selection = choose_images(records, DataSettings(near_duplicates="keep_together"), alike)
    key = selection.rules.key_of
    assert key(sha("1-1"), "patient 1") == key(sha("2-2"), "patient 2")
    assert key(sha(5), None) == key(sha(7), None) == key(sha(3), None) == min(sha(3), sha(5), sha(7))
    assert key(sha(9), None) == sha("patient 4")
    assert selection.groups["near_duplicates"] == 8
    without = choose_images(records, DataSettings())
    others = [r for r in records[200:] if r.sha256 not in {sha(3), sha(5), sha(7), sha(9)}]
    assert where(selection, others) == where(without, others)


def test_too_much_of_a_class_in_one_chain_of_near_duplicates_is_refused():
    records = [record(i, label="cat" if i < 200 else "dog") for i in range(400)]
    chain = {sha(i): sha(i + 1) for i in range(10)}
    choose_images(records, DataSettings(), dict(list(chain.items())[:9]))
    message = "11 of the 200 images of the class 'cat' (5.5%) hang together as near duplicates, more than 5%"
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        choose_images(records, DataSettings(), chain)
    assert "\n" not in str(caught.value)


def test_a_large_group_with_a_near_duplicate_is_not_refused():
    records = [
        *[record(i, "camera", label="cat") for i in range(100)],
        *[record(i, label="cat") for i in range(100, 200)],
    ]
    assert choose_images(records, DataSettings(), {sha(150): sha(0)}).groups["images"] == 101
    halves = [record(i, f"camera {i % 2}", label="cat") for i in range(100)]
    with pytest.raises(UserError, match="100 of the 100 images of the class 'cat'"):
        choose_images(halves, DataSettings(), {sha(1): sha(0)})


def test_weights_are_an_extra_where_one_is_not_1():
    assert choose_images([record(i, weight=1.0) for i in range(9)], DataSettings()).rules.extras == ()
    selection = choose_images([record(i, weight=0.5 if i else 1.0) for i in range(9)], DataSettings())
    assert selection.rules.extras == (WEIGHT_KEY,)
