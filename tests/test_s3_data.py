"""Images in S3: every kind of source says what it says of the same files here, and what fails is told in one line."""

import hashlib
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that

from data.detect import settings_for_path
from data.errors import UserError
from data.settings import DataSettings
from data.sources import make_source
from data.sources.reading import ReadAll, ReadInOrder, parts_of
from data.sources.source import SourceImage
from data.threads import thread_count
from pipeline import run_local
from pipeline.config import load_config
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS
from pipeline.vertex import inputs
from pipeline.vertex.settings import VertexSettings
from tests import images, table_files
from tests.conftest import put_objects
from tests.faulty_s3 import answers, says_nothing
from tests.test_data_tfrecords import example, write
from tests.test_image_example_gen import read_all as read_examples
from tests.test_image_example_gen import run_in

ODD = ("Siamese + mix", "50% ünusual")


def upload(bucket: Any, folder: Path, prefix: str = "") -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    put_objects(bucket, {f"{prefix}{path.relative_to(folder)}": path.read_bytes() for path in files})


def read_source(path: str, **settings: Any) -> Iterator[SourceImage]:
    """Yields all images in the order of a run, from a source that was sent to the workers."""
    source = make_source(DataSettings(**settings_for_path(path), **settings))
    source.prepare()
    for part in parts_of(source.read()):
        assert isinstance(part, ReadAll)
        list_fn, read_fn = pickle.loads(pickle.dumps((part.list_fn, part.read_fn)))
        for reference in list_fn():
            yield from read_fn(reference)


def says(image: SourceImage) -> tuple[Any, ...]:
    sha256 = hashlib.sha256(image.encoded).hexdigest()
    return image.name, sha256, image.label, image.split, image.group, image.weight, image.problem


def fingerprint(path: str) -> str:
    return make_source(DataSettings(**settings_for_path(path))).fingerprint()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = images.make_image_tree(tmp_path_factory.mktemp("tree") / "pets", list(ODD), per_class=12, size=8)
    (root / ODD[0] / "broken.png").write_bytes(images.make_truncated_png())
    (root / "notes.txt").write_text("no image", encoding="utf-8")
    return root


def test_a_folder_in_s3_gives_the_examples_of_the_folder_here_to_the_last_byte(
    bucket: Any, tree: Path, tmp_path: Path
) -> None:
    upload(bucket, tree, "in/")
    put_objects(bucket, {"in/": b"", f"in/{ODD[1]}/": b""})
    path = "s3://pets/in"
    assert settings_for_path(path) == {"source": "image_folder", "path": path}
    here = run_in(tmp_path, "here", source="image_folder", path=str(tree))
    there = run_in(tmp_path, "there", source="image_folder", path=path)
    assert read_examples(here) == read_examples(there)
    for file in Path(here.uri).rglob("*"):
        if file.is_file():
            assert file.read_bytes() == (Path(there.uri) / file.relative_to(here.uri)).read_bytes(), file
    assert [says(image) for image in read_source(path)] == [says(image) for image in read_source(str(tree))]


@pytest.mark.parametrize("write_table", ["plain", "jsonl", "parquet_of_paths", "parquet_of_bytes", "hugging_face"])
def test_a_table_in_s3_says_what_it_says_here(bucket: Any, write_table: str, tmp_path: Path) -> None:
    pictures = table_files.make_pictures(tmp_path)
    table = getattr(table_files, write_table)(tmp_path, pictures)
    upload(bucket, tmp_path, "in/")
    path = f"s3://pets/in/{table.relative_to(tmp_path)}".removesuffix("/.")
    assert settings_for_path(path)["source"] == "table"
    settings = getattr(table_files, "SETTINGS", {}).get(getattr(table_files, write_table), lambda _: {})(tmp_path)
    here, there = list(read_source(str(table), **settings)), list(read_source(path, **settings))
    assert [says(image) for image in there] == [says(image) for image in here]
    assert not any(image.problem for image in there)


def test_a_table_names_images_of_any_bucket_by_paths_as_they_are_or_in_percents(
    bucket: Any, s3: Any, tmp_path: Path
) -> None:
    other = s3.create_bucket(Bucket="other")
    contents = {name: images.encode(images.picture(seed=number), "PNG") for number, name in enumerate("abcde")}
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "e.png").write_bytes(contents["e"])
    bucket.put_object(Key="t/a b.png", Body=contents["a"])
    bucket.put_object(Key="t/b%20.png", Body=contents["b"])
    other.put_object(Key="ü/c d.png", Body=contents["c"])
    other.put_object(Key="d+.png", Body=contents["d"])
    rows = ["a b.png", "b%20.png", "s3://other/%C3%BC/c%20d.png", "s3://other/d+.png", "s3://gone/e.png", "no.png"]
    table = "".join(f"{row},{label}\n" for row, label in zip(["file", *rows], ["label", *"xyxyxy"], strict=True))
    bucket.put_object(Key="t/images.csv", Body=table.encode())
    settings = {"uri_map": {"s3://gone": str(tmp_path / "local")}}
    read = {image.name: image for image in read_source("s3://pets/t/images.csv", **settings)}
    assert read.pop("no.png").problem == "no such file (line 7 of images.csv)"
    assert [(name, image.encoded, image.problem) for name, image in sorted(read.items())] == [
        (f"{tmp_path}/local/e.png", contents["e"], None),
        ("a b.png", contents["a"], None),
        ("b%20.png", contents["b"], None),
        ("s3://other/d+.png", contents["d"], None),
        ("s3://other/ü/c d.png", contents["c"], None),
    ]
    local = tmp_path / "images.csv"
    local.write_text("file,label\ns3://other/d+.png,x\n", encoding="utf-8")
    assert [image.encoded for image in read_source(str(local))] == [contents["d"]]
    local.write_text("file,label\nhttps://host/x.png,x\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"https://host/x\.png, and https:// is not read; copy the images to a folder"):
        list(read_source(str(local)))


@pytest.mark.parametrize("place", ["", "/*.gz", "/train.tfrecord.gz"])
def test_records_in_s3_are_read_as_here(bucket: Any, tmp_path: Path, place: str) -> None:
    for split in ("train", "test"):
        records = [example(image=images.make_png(), label=f"{split} {number}".encode()) for number in range(3)]
        write(tmp_path / f"{split}.tfrecord.gz", records, "GZIP")
    upload(bucket, tmp_path, "in/")
    path = f"s3://pets/in{place}"
    assert settings_for_path(path) == {"source": "tfrecords", "path": path}
    here = {says(image) for image in read_source(f"{tmp_path}{place}")}
    assert {says(image) for image in read_source(path)} == here
    assert len(here) == (3 if "train" in place else 6)


def test_a_fingerprint_sees_what_is_changed_added_moved_or_removed(bucket: Any) -> None:
    seen = []
    for key, content in {"cat/1": b"one", "dog/1": b"two", "dog/2": b"2", "dog/1 ": b"-", "cat/1  ": b"two"}.items():
        bucket.put_object(Key=f"in/{key.strip()}.png", Body=content)
        if key != "cat/1":
            seen.append(fingerprint("s3://pets/in"))
            assert fingerprint("s3://pets/in") == seen[-1]
    bucket.put_object(Key="table.csv", Body=b"file,label\nin/cat/1.png,a\nin/dog/1.png,b\n")
    seen.append(fingerprint("s3://pets/table.csv"))
    bucket.put_object(Key="in/cat/1.png", Body=b"owt")  # of the same size, and within the second
    seen += [fingerprint("s3://pets/table.csv"), fingerprint("s3://pets/in")]
    bucket.put_object(Key="table.csv", Body=b"file,label\nin/cat/1.png,b\nin/dog/1.png,a\n")
    seen.append(fingerprint("s3://pets/table.csv"))
    bucket.objects.filter(Prefix="in/dog/2").delete()
    seen.append(fingerprint("s3://pets/in"))
    assert len(set(seen)) == len(seen)


def test_spans_in_s3_are_the_newest(bucket: Any) -> None:
    for day in (7, 12):
        for label in ("cat", "dog"):
            bucket.put_object(Key=f"day-{day}/{label}/1.png", Body=images.make_png())
    assert settings_for_path("s3://pets/day-{SPAN}")["source"] == "image_folder"
    source = make_source(DataSettings(source="image_folder", path="s3://pets/day-{SPAN}", num_spans=2))
    assert [span.path for span in getattr(source, "spans", ())] == ["s3://pets/day-7", "s3://pets/day-12"]
    assert len(list(read_source("s3://pets/day-{SPAN}", num_spans=2))) == 4


def test_a_look_at_a_large_folder_takes_few_requests(bucket: Any, faulty: Any) -> None:
    put_objects(bucket, {f"flat/{number}.png": b"x" for number in range(25)})
    put_objects(bucket, {f"in/class-{number}/1.png": b"x" for number in range(25)})
    server = faulty(None)
    assert settings_for_path("s3://pets/in")["source"] == "image_folder"
    with pytest.raises(UserError, match=r"a folder of 25 files and no folder"):
        settings_for_path("s3://pets/flat")
    source = make_source(DataSettings(source="image_folder", path="s3://pets/in"))
    source.fingerprint()
    source.prepare()
    assert len(server.seen) < 60


# What fails.


@pytest.mark.parametrize("after", [0, 8, 25 + 8])
def test_a_run_from_which_access_is_taken_ends_in_one_line(
    bucket: Any, faulty: Any, tree: Path, tmp_path: Path, after: int
) -> None:
    upload(bucket, tree, "in/")
    faulty(answers(403, "AccessDenied"), "GET /pets/in/", after=after)
    with pytest.raises(UserError, match=r"^data\.path: s3://pets/in/.*: access is denied \(AccessDenied\)"):
        run_in(tmp_path, source="image_folder", path="s3://pets/in")


def test_of_a_server_that_is_gone_no_image_is_asked_for_after_the_first_that_failed(
    bucket: Any, faulty: Any, tree: Path, tmp_path: Path
) -> None:
    upload(bucket, tree, "in/")
    put_objects(bucket, {f"in/{ODD[0]}/more-{number}.png": b"x" for number in range(64)})  # above the number of threads
    server = faulty(says_nothing, "GET /pets/in/")
    with pytest.raises(UserError, match=r"^data\.path: s3://pets/in/.*: S3 does not answer \(Connection was closed"):
        run_in(tmp_path, source="image_folder", path="s3://pets/in")
    assert len({line for line in server.seen if "/pets/in/" in line}) <= thread_count()


def test_an_object_that_goes_away_is_quarantined_as_anywhere(bucket: Any, tree: Path) -> None:
    upload(bucket, tree, "in/")
    source = make_source(DataSettings(source="image_folder", path="s3://pets/in"))
    (read,) = parts_of(source.read())
    references = list(read.list_fn())
    bucket.objects.filter(Prefix="in/").delete()
    assert {image.problem for image in read.read_fn(references[0])} == {"cannot be read: NotFoundError"}


def test_the_command_tells_a_bucket_that_is_not_there_and_exits_2(
    bucket: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_local.main(["--data", "s3://nobodys/pets", "--output-dir", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        "error: s3://nobodys/pets: there is no such bucket (NoSuchBucket); check its name, and AWS_ENDPOINT_URL where"
        " that is set\n"
    )
    assert run_local.main(["--data", "s3://pets/none", "--output-dir", str(tmp_path / "out")]) == 2
    assert "--data is s3://pets/none, which does not exist; give " in capsys.readouterr().err
    bucket.put_object(Key="a.zip", Body=b"x")
    assert run_local.main(["--data", "s3://pets/a.zip", "--output-dir", str(tmp_path / "out")]) == 2
    assert "an archive that is not on this machine; unpack it there or here" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def _list_and_fail() -> Iterator[str]:
    yield "a"
    raise UserError("s3://pets: S3 does not answer")


def _read_one(name: str) -> list[SourceImage]:
    return [SourceImage(name, "", None, b"")]


def test_a_listing_that_fails_while_it_is_read_stops_the_run() -> None:
    for read, names in (
        (ReadAll(_list_and_fail, str, _read_one, one_by_one=True), ["a", ""]),
        (ReadAll(_list_and_fail, str, _read_one), ["a", ""]),
        (ReadInOrder(_list_and_fail), [""]),
    ):

        def check(found: Any, names: Any = names) -> None:  # Any: Beam takes annotations for its own
            images = [image for image in found if image != "a"]
            assert sorted(image.name for image in images) == sorted(names)
            assert [image.problem for image in images if image.fatal] == ["s3://pets: S3 does not answer"]

        with beam.Pipeline(argv=list(IN_PROCESS_BEAM_ARGS)) as pipeline:
            assert_that(pipeline | read, check)


def test_vertex_ai_refuses_it_when_compiled() -> None:
    with pytest.raises(UserError, match=r"^--data is s3://pets/in, which Vertex AI cannot see; copy it into a bucket"):
        inputs.data_choice("s3://pets/in")
    config = load_config("digits", overrides=["serving_model_dir=s3://pets/served"])
    with pytest.raises(UserError, match="serving_model_dir is s3://pets/served, which Vertex AI cannot see; copy it"):
        inputs.check_places(config, VertexSettings.model_construct())
