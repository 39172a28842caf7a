"""Which image goes where: declared splits win, the rest goes by content, and no split holds an image of another."""

import hashlib
import random
import re

import pytest

from data.errors import UserError
from data.image_record import ImageRecord
from data.originals import MAX_ORIGINALS
from data.selection_check import check_selection, describe_unjudged
from data.settings import DataSettings
from data.splits import choose_images


def sha(content):
    return hashlib.sha256(str(content).encode()).hexdigest()


def record(content, label="cat", split=None, name=None, **rest):
    return ImageRecord(name or f"{split}/{label}/{content}", label, split, sha(content), **rest)


def many(count=2000, split=None, labels=("cat", "dog"), start=0):
    return [record(i, labels[i % len(labels)], split) for i in range(start, start + count)]


def total(selection, split):
    return sum(selection.counts[split].values())


def where(selection, records):
    return {r.name: selection.rules.split_of(r.sha256, r.split) for r in records}


def test_undeclared_splits_get_their_shares():
    selection = choose_images(many(), DataSettings(eval_share=0.2, test_share=0.1))
    # Of 2,000 draws the standard deviation is 0.9 % and 0.7 %: four of them.
    assert total(selection, "eval") / 2000 == pytest.approx(0.2, abs=0.036)
    assert total(selection, "test") / 2000 == pytest.approx(0.1, abs=0.028)
    assert sum(total(selection, split) for split in ("train", "eval", "test")) == 2000


def test_split_depends_on_neither_order_nor_other_images():
    records = many()
    whole = where(choose_images(records, DataSettings()), records)
    shuffled = random.Random(0).sample(records, 1000)
    assert {name: whole[name] for name in where(choose_images(shuffled, DataSettings()), shuffled)} == where(
        choose_images(shuffled, DataSettings()), shuffled
    )


def test_equal_images_fall_into_one_split():
    records = many() + [record(i, ("cat", "dog")[i % 2], name=f"copy of {i}") for i in range(2000)]
    selection = choose_images(records, DataSettings())
    assert selection.images_read == 4000
    splits = where(selection, records)
    assert all(splits[r.name] == splits[f"copy of {i}"] for i, r in enumerate(records[:2000]))


def test_declared_splits_stand_and_the_missing_one_is_cut_from_train():
    selection = choose_images(many(1000, "train") + many(300, "test", start=1000), DataSettings(eval_share=0.2))
    assert total(selection, "test") == 300
    assert total(selection, "eval") == pytest.approx(200, abs=50)
    assert total(selection, "train") + total(selection, "eval") == 1000
    assert selection.rules.cut == {"eval": 0.2}


def test_all_splits_declared_none_is_cut():
    selection = choose_images(
        many(50, "train") + many(20, "eval", start=50) + many(10, "test", start=70), DataSettings()
    )
    assert [total(selection, split) for split in ("train", "eval", "test")] == [50, 20, 10]


def overlapping():
    """30 train images, 5 of them in eval too, another 5 in test too, and one eval image in test."""
    return (
        many(30, "train")
        + [record(i, ("cat", "dog")[i % 2], "eval") for i in (0, 1, 2, 3, 4, 40, 41)]
        + [record(i, ("cat", "dog")[i % 2], "test") for i in (5, 6, 7, 8, 9, 40, 51)]
    )


def test_duplicates_are_dropped_from_the_less_protected_split():
    records = overlapping()
    selection = choose_images(records, DataSettings(duplicates="drop_from_train"))
    assert [total(selection, split) for split in ("train", "eval", "test")] == [20, 6, 7]
    assert selection.duplicates_dropped == 11
    by_split = {"train": set(), "eval": set(), "test": set()}
    for r in records:
        if split := selection.rules.split_of(r.sha256, r.split):
            by_split[split].add(r.sha256)
    assert not by_split["train"] & (by_split["eval"] | by_split["test"])
    assert not by_split["eval"] & by_split["test"]


def test_a_test_image_is_not_cut_from_train_as_eval():
    records = many(400, "train") + [record(i, ("cat", "dog")[i % 2], "test") for i in range(0, 400, 4)]
    selection = choose_images(records, DataSettings(eval_share=0.5))
    assert selection.duplicates_dropped == 100
    assert total(selection, "train") + total(selection, "eval") == 300


def test_duplicates_can_be_kept():
    selection = choose_images(overlapping(), DataSettings(duplicates="keep"))
    assert [total(selection, split) for split in ("train", "eval", "test")] == [30, 7, 7]
    assert selection.duplicates_dropped == 0


def test_duplicates_can_be_refused():
    with pytest.raises(
        UserError, match="11 images occur in several declared splits, such as eval/cat/40, also in test"
    ):
        choose_images(overlapping(), DataSettings(duplicates="fail"))


def test_one_image_under_two_labels_is_quarantined_everywhere():
    records = [*many(50), record(7, "cat", name="wrong"), record(7, "bird", name="wronger")]
    selection = choose_images(records, DataSettings())
    assert selection.quarantined == [
        (name, "the same image has the labels 'bird' and 'cat' and 'dog'")
        for name in ("None/dog/7", "wrong", "wronger")
    ]
    assert selection.rules.split_of(sha(7), None) is None


def test_unusable_images_are_listed_and_left_out():
    selection = choose_images([*many(50), record("x", problem="not an image")], DataSettings())
    assert selection.quarantined == [("None/cat/x", "not an image")]
    assert selection.rules.split_of(sha("x"), None) is None
    assert selection.images_read == 51


def test_reencoded_images_are_counted_where_they_are_used():
    records = [
        *many(50),
        record("a", reencoded=True),
        record("b", reencoded=True, split="test"),
        record("b", split="train"),
    ]
    selection = choose_images(records, DataSettings())
    assert selection.reencoded == 2
    assert selection.rules.reencoded == {sha("a"), sha("b")}


def test_a_fatal_problem_stops():
    broken = record("x", name="a.tfrecord", problem="cannot be read after 3 records", fatal=True)
    with pytest.raises(UserError, match=re.escape("a.tfrecord: cannot be read after 3 records")):
        choose_images([*many(50), broken], DataSettings())


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "holds no images"),
        (many(labels=("cat",)), "only one class was found, 'cat'"),
        ([*many(), record("x", "bird", problem="empty file")], "the class 'bird' has no usable image"),
        (
            [*many(100, "train"), record("x", "bird", "test")],
            "the class 'bird' has no image in train (0 in eval, 1 in test)",
        ),
        (many(6), "no image is left for the split"),
        (many(100, labels=("cat", "two\nlines")), "the class 'two\\nlines' has a line break in its name; rename it"),
        (
            [*many(100, "train"), record("y", "cat", "test", problem="empty file")],
            "'test'",
        ),
        (
            many(90) + [record(f"x{i}", name=f"bad{i}.jpg", problem="empty file") for i in range(10)],
            "10 of 100 images (10.0%) cannot be used, more than data.max_quarantined_share=0.05 allows: bad0.jpg (",
        ),
    ],
)
def test_data_that_cannot_do_is_refused(records, message):
    settings = DataSettings()
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        check_selection(choose_images(records, settings), settings)
    assert "\n" not in str(caught.value)


def test_the_quarantined_share_may_just_be_reached():
    settings = DataSettings(max_quarantined_share=0.1)
    records = many(90) + [record(f"x{i}", problem="empty file") for i in range(10)]
    check_selection(choose_images(records, settings), settings)


def test_a_few_of_the_test_images_that_are_stored_anew_are_kept_as_they_were():
    records = [record(i, ("cat", "dog")[i % 2], split, reencoded=True) for split in ("train", "test") for i in range(9)]
    records += [record(f"{split} {i}", split=split) for split in ("eval", "test") for i in range(9)]
    originals = choose_images(records, DataSettings(duplicates="keep")).rules.originals
    assert originals == frozenset(sorted(sha(i) for i in range(9))[:MAX_ORIGINALS])
    train_only = [record(i, split="train", reencoded=True) for i in range(9)]
    assert not choose_images(train_only + many(4, "test", start=100), DataSettings()).rules.originals


def test_classes_that_nothing_judges_are_named() -> None:
    counts = {"train": {"a": 3, "b": 2}, "eval": {"a": 1, "b": 0}, "test": {"a": 1, "b": 1}}
    assert describe_unjudged(counts) == "eval has no image of b"
    assert describe_unjudged({**counts, "eval": counts["test"]}) is None
    many = {f"class {i}": 0 for i in range(9)}
    assert describe_unjudged({"train": many, "eval": counts["test"], "test": many}) == (
        "test has no image of class 0, class 1, class 2, class 3, class 4 and 4 more classes"
    )
