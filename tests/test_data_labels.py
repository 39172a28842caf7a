"""`data.labels`: renamed and left out, of every source, before anything is judged."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from data.errors import UserError
from data.image_record import ImageRecord
from data.selection_check import check_selection
from data.settings import DataSettings
from data.sources import make_source
from data.sources.relabelled import RelabelledSource, relabel
from data.sources.source import SourceImage
from data.splits import choose_images
from pipeline.config import load_config

LABELS = {"kirik": "Fracture", "Skip": None}


def choose(*images, **settings):
    """Chooses from (label, content) each, after `data.labels`."""
    records = []
    for number, (label, content) in enumerate(images):
        image = relabel(SourceImage(str(number), label, None, b"x"), LABELS)
        values = {name: value for name, value in vars(image).items() if name != "encoded"}
        records.append(ImageRecord(**values, sha256="" if image.left_out else content * 64))
    return choose_images(records, DataSettings(labels=LABELS, **settings))


def test_labels_are_renamed_and_left_out_before_conflicts_are_judged():
    selection = choose(("kirik", "1"), ("Fracture", "1"), ("Skip", "2"), ("b", "2"), ("Skip", "3"))
    assert selection.quarantined == []
    assert {name: sum(split[name] for split in selection.counts.values()) for name in selection.counts["train"]} == {
        "Fracture": 2,
        "b": 1,
    }
    assert (selection.images_read, selection.left_out) == (3, {"Skip": 2})


def test_what_is_left_out_does_not_make_room_in_the_quarantine():
    selection = choose(*[("Skip", "3")] * 99, ("kirik", "1"), ("b", "1"))
    with pytest.raises(UserError, match="2 of 2 images"):
        check_selection(selection, DataSettings())


def test_a_label_that_no_image_has_is_refused():
    with pytest.raises(UserError, match="'kirik', which is the label of no image; there are 'Skip', 'b'"):
        choose(("Skip", "1"), ("b", "2"))


def test_an_image_that_is_left_out_has_neither_bytes_nor_problem():
    image = SourceImage("1", "Skip", "test", b"x", "too large")
    assert relabel(image, LABELS) == replace(image, encoded=b"", problem=None, given_label="Skip", left_out=True)
    assert relabel(replace(image, label="b"), LABELS) == replace(image, label="b")


def test_every_source_is_relabelled():
    source = make_source(DataSettings(labels={"3": None}))
    assert isinstance(source, RelabelledSource)
    assert source.fingerprint() == make_source(DataSettings()).fingerprint()
    assert not isinstance(make_source(DataSettings()), RelabelledSource)


def test_numbers_are_labels_and_accents_have_one_form():
    config = load_config("digits", overrides=["data.labels={3: three, 4: null, cafe\u0301: caf\u00e9}"])
    assert config.data.labels == {"3": "three", "4": None, "caf\u00e9": "caf\u00e9"}
    for labels in ({"a": ""}, {"": "a"}, {"a": 1.5}, {True: "a"}):
        with pytest.raises(ValidationError):
            DataSettings(labels=labels)
