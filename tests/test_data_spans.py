"""`{SPAN}` in `data.path`: the newest deliveries, found anew by each run."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
import pytest
from pydantic import ValidationError

from data.detect import settings_for_path
from data.errors import UserError
from data.image_record import ImageRecord
from data.settings import DataSettings
from data.sources import make_source
from data.sources.source import Source
from data.sources.spans import SpanSource
from data.spans import Span, describe_spans, find_spans, make_span_facts
from data.split_origins import describe_split_origins
from data.splits import choose_images
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS
from tests import images


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def numbers(pattern: Path | str, most: int = 1) -> list[int]:
    return [span.number for span in find_spans(str(pattern), most)]


def test_the_highest_numbers_are_the_newest_and_the_oldest_is_read_first(tmp_path: Path) -> None:
    touch(tmp_path, *(f"day-{number}/cat/1.png" for number in (9, 10, 2)), "day-x/1", "today-99/1", "day-11.bak/1")
    assert find_spans(f"{tmp_path}/day-{{SPAN}}") == [Span(10, f"{tmp_path}/day-10")]
    assert numbers(tmp_path / "day-{SPAN}", 2) == [9, 10]
    assert numbers(tmp_path / "day-{SPAN}", 7) == [2, 9, 10]


def test_a_width_is_that_of_all(tmp_path: Path) -> None:
    touch(tmp_path, "20261130/a", "20261201/a", "7/a", "202612011/a")
    assert find_spans(f"{tmp_path}/{{SPAN:8}}", 9)[-1] == Span(20261201, f"{tmp_path}/20261201")
    assert numbers(tmp_path / "{SPAN:8}", 9) == [20261130, 20261201]
    assert numbers(tmp_path / "{SPAN:1}") == [7]


def test_a_delivery_that_lacks_the_rest_of_the_path_is_none_yet(tmp_path: Path) -> None:
    touch(tmp_path, "1/photos/cat/1.png", "2/photos/cat/1.png", "3/being-copied")
    assert find_spans(f"{tmp_path}/{{SPAN}}/photos") == [Span(2, f"{tmp_path}/2/photos")]
    touch(tmp_path, "4/a-00000-of-00001", "5/b-00000-of-00001")
    assert find_spans(f"{tmp_path}/{{SPAN}}/a-*") == [Span(4, f"{tmp_path}/4/a-*")]


def test_a_span_may_be_in_the_name_of_files(tmp_path: Path) -> None:
    touch(tmp_path, "run-1-00000-of-00002.gz", "run-1-00001-of-00002.gz", "run-02-00000-of-00001.gz")
    assert find_spans(f"{tmp_path}/run-{{SPAN}}-*.gz") == [Span(2, f"{tmp_path}/run-02-*.gz")]


@pytest.mark.parametrize(
    ("files", "pattern", "message"),
    [
        (["a/1"], "day-{SPAN}", "holds nothing of that name; {SPAN} stands for a number, such as day-7"),
        (["1/1"], "{SPAN:3}", "{SPAN:3} stands for a number of 3 digits, such as 007"),
        (["1/1"], "{SPAN}/photos", "holds nothing of that name that holds photos; {SPAN}"),
        (["1/1", "01/1"], "{SPAN}", "are the same number; rename one, or say how many digits it has"),
        (["1/1"], "no/{SPAN}", "cannot be listed: No such file or directory"),
    ],
)
def test_what_is_no_delivery_is_told(tmp_path: Path, files: list[str], pattern: str, message: str) -> None:
    touch(tmp_path, *files)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        find_spans(f"{tmp_path}/{pattern}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "/x/{SPAN}/{VERSION}"}, "holds {VERSION}; one {SPAN} is read"),
        ({"path": "/x/{SPAN}/{SPAN}"}, "holds several spans"),
        ({"path": "/x/{YYYY}-{MM}-{DD}"}, "holds {YYYY}"),
        ({"path": "/x/{SPAN:x}"}, "holds {SPAN:x}"),
        ({"path": "/x/7", "num_spans": 2}, "num_spans is 2, but path has no {SPAN} to count"),
    ],
)
def test_patterns_that_are_not_understood_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        DataSettings(source="image_folder", **settings)


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Source], list[str]]:
    """Returns what reads the names of all images."""

    def read_names(source: Source) -> list[str]:
        with beam.Pipeline(argv=list(IN_PROCESS_BEAM_ARGS)) as pipeline:
            names = pipeline | source.read() | "Name" >> beam.Map(lambda image: image.name)
            names | "Write" >> beam.io.WriteToText(str(tmp_path / "names"), num_shards=1)  # type: ignore[operator]
        return (tmp_path / "names-00000-of-00001").read_text().split()

    return read_names


@pytest.fixture
def settings(tmp_path: Path) -> DataSettings:
    for number in (1, 2, 3):
        images.make_image_tree(tmp_path / f"day-{number}", ["cat", "dog"], per_class=number, size=4)
    return DataSettings(source="image_folder", path=f"{tmp_path}/day-{{SPAN}}")


def test_the_newest_is_read_and_a_newer_one_by_the_next_run(
    settings: DataSettings, tmp_path: Path, read: Callable[[Source], list[str]]
) -> None:
    source = make_source(settings)
    assert isinstance(source, SpanSource)
    before = source.fingerprint()
    names = read(source)
    assert len(names) == 6
    assert {name.split("/")[0] for name in names} == {"cat", "dog"}
    images.make_image_tree(tmp_path / "day-4", ["cat", "dog"], per_class=1, size=4)
    assert read(source) == names, "what a run has found stays what it reads"
    assert source.fingerprint() == before
    later = make_source(settings)
    assert later.fingerprint() != before
    assert len(read(later)) == 2


def test_a_rolling_window(settings: DataSettings, read: Callable[[Source], list[str]]) -> None:
    window = make_source(settings.model_copy(update={"num_spans": 2}))
    found = read(window)
    assert len(found) == 4 + 6
    assert {name.split("/")[0] for name in found} == {"2", "3"}
    assert window.fingerprint() != make_source(settings).fingerprint()
    facts = make_span_facts(window.spans)
    assert [fact["span"] for fact in facts] == [2, 3]
    assert describe_spans(facts) == f"2, 3 ({facts[1]['path']} and before)"
    assert describe_spans([]) is None


def test_who_declared_a_split_is_no_span() -> None:
    records = [
        ImageRecord(f"{span}/{folder}/cat/{i}", "cat", split, hashlib.sha256(f"{span}{folder}{i}".encode()).hexdigest())
        for span in (1, 2)
        for folder, split in (("training", "train"), ("val", "eval"))
        for i in range(9)
    ]
    window = DataSettings(source="image_folder", path="/x/{SPAN}", num_spans=2)
    told = describe_split_origins(choose_images(records, window).origins)
    assert told == "training/ gave train and test (10 % cut), val/ became eval"


def test_a_path_with_a_span_is_detected(settings: DataSettings) -> None:
    assert settings_for_path(str(settings.path)) == {"source": "image_folder", "path": settings.path}
    with pytest.raises(UserError, match=re.escape("--data: path is '/x/{VERSION}'")):
        settings_for_path("/x/{VERSION}")
