"""A model in S3: pushed whole or not at all, listed, rolled back, promoted, asked and served; and the way to there."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from components.pusher.executor import Executor, push_to_bucket
from data import gfile
from data.amazon_s3 import objects
from data.errors import Fault, UserError
from pipeline import clean, models, predict
from pipeline.local_runner import _outputs_are_whole
from pipeline.output_dir import make_serving_dir
from pipeline.pushed_versions import PushedVersions
from pipeline.scoring.rows import read_rows
from pipeline.serving.model_source import ModelSource
from pipeline.serving.versions import Versions
from tests.faulty_s3 import answers
from tests.images import make_image_tree
from tests.serving import COLOURS, make_colour_model, paint
from tests.small_runs import Folder, make_facts
from tests.test_image_example_gen import read_all, run_in
from tests.test_s3_data import upload

ROOT = "s3://pets/served/colours"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models."""
    root = tmp_path_factory.mktemp("made")
    return [make_colour_model(root / str(version), version) for version in (1, 2)]


def keys(bucket: Any, prefix: str = "") -> list[str]:
    return [found.key for found in bucket.objects.filter(Prefix=prefix)]


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def served(bucket: Any, made: list[Path]) -> Any:
    """A bucket with two versions, 10 and 20."""
    for number, folder in zip((10, 20), made, strict=True):
        upload(bucket, folder, f"served/colours/{number}/")
    return bucket


def test_a_pushed_version_is_whole_or_none_and_always_the_highest(
    bucket: Any, faulty: Any, made: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = made
    server = faulty(None)
    path = push_to_bucket(str(first), ROOT)
    written = [line for line in server.seen if line.startswith(("PUT", "POST"))]
    assert written[-1].startswith(f"PUT /pets{path.removeprefix('s3://pets')}/saved_model.pb")
    assert sorted(keys(bucket)) == [f"{path}/{name}".removeprefix("s3://pets/") for name in files_of(first)]
    assert push_to_bucket(str(first), ROOT) == path  # it is served
    monkeypatch.setattr(time, "time", lambda: 0.0)  # a clock that is behind, and pushes of one second
    after = push_to_bucket(str(second), ROOT)
    assert int(after.rpartition("/")[2]) == int(path.rpartition("/")[2]) + 1
    assert PushedVersions(ROOT).list() == ([int(one.rpartition("/")[2]) for one in (after, path)], [])


@pytest.mark.parametrize("after", range(4))
def test_a_push_that_fails_leaves_no_version_that_counts(
    served: Any, faulty: Any, tmp_path: Path, made: list[Path], after: int
) -> None:
    other = make_colour_model(tmp_path / "3", 3)
    names = files_of(other)
    faulty(answers(403, "AccessDenied"), "PUT", after=min(after * 2, len(names) - 1))
    with pytest.raises(UserError, match=r"^s3://pets/served/colours/\d+/.*: access is denied \(AccessDenied\)"):
        push_to_bucket(str(other), ROOT)
    assert PushedVersions(ROOT).list() == ([20, 10], [])
    assert [candidate.number for candidate in ModelSource(ROOT).find()] == [20, 10]


def test_versions_are_listed_rolled_back_and_promoted(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    before = keys(served)
    assert models.main(["list", ROOT, "--json"]) == 0
    newest, oldest = json.loads(capsys.readouterr().out)
    assert (newest["version"], newest["served"], newest["classes"]) == (20, True, list(COLOURS))
    assert (oldest["version"], oldest["served"]) == (10, False)
    assert models.main(["rollback", ROOT, "--reason", "confuses", "--yes"]) == 0
    assert PushedVersions(ROOT).list() == ([10], [20])
    assert {key.split("/")[2] for key in keys(served)} == {"10", "rolled-back-20", "rolled_back.json"}
    assert models.main(["list", ROOT]) == 0
    assert "confuses" in capsys.readouterr().out
    assert models.main(["promote", ROOT, "20", "--yes"]) == 0
    assert [key for key in keys(served) if not key.endswith("rolled_back.json")] == before
    assert models.main(["list", "s3://nobodys/m"]) == 2
    assert (
        "s3://nobodys/m/rolled_back.json: there is no such bucket (NoSuchBucket); check its" in capsys.readouterr().err
    )


@contextmanager
def stopped_after(changes: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ends what is inside as a kill would, once so many changes were made."""
    done = iter(range(changes))

    def stop(*_: Any, act: Any, **__: Any) -> Any:
        if next(done, None) is None:
            raise KeyboardInterrupt
        return act(*_, **__)

    with monkeypatch.context() as patch:
        for name in ("copy", "remove", "rmtree", "write_bytes"):
            act = getattr(objects, name)
            patch.setattr(objects, name, lambda *a, act=act, **k: stop(*a, act=act, **k))
        yield


def test_an_interrupted_rollback_never_shows_half_a_model_and_is_gone_on_with(
    served: Any, made: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for changes in range(0, 40, 3):
        with stopped_after(changes, monkeypatch):
            status = models.main(["rollback", ROOT, "--to", "10", "--yes"])
        for place in ("20", "rolled-back-20"):
            if gfile.exists(f"{ROOT}/{place}/saved_model.pb"):
                assert len(keys(served, f"served/colours/{place}/")) == len(files_of(made[1]))
        if status == 0:
            break
        assert models.main(["rollback", ROOT, "--to", "10", "--yes"]) == 0
        assert PushedVersions(ROOT).list() == ([10], [20])
        assert models.main(["promote", ROOT, "20", "--yes"]) == 0
        assert PushedVersions(ROOT).list() == ([20, 10], [])
    assert changes > 3


def test_predict_asks_a_model_in_s3_about_images_here_and_there(
    served: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for colour in COLOURS:
        (tmp_path / "in" / f"{colour}.png").write_bytes(paint(colour))
    upload(served, tmp_path / "in", "in/")
    assert predict.main([str(tmp_path / "in" / "red.png"), "--model", ROOT, "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["label"] == "red"
    for name in ("scored.jsonl", "scored.parquet"):
        for again in range(2):
            out = f"s3://pets/out/{name}"
            assert predict.main(["s3://pets/in", "--model", f"{ROOT}/10", "--out", out, "--shard-images", "2"]) == 0
            assert {row["name"]: row["label"] for row in read_rows(out)} == {f"{one}.png": one for one in COLOURS}, (
                again
            )
    assert "out/scored.jsonl" in keys(served)
    assert predict.main(["s3://pets/in", "--model", ROOT, "--out", "s3://pets/out/scored.jsonl"]) == 2
    assert "--out s3://pets/out/scored.jsonl: holds rows with model" in capsys.readouterr().err
    assert predict.main(["x.png", "--model", "s3://pets/none"]) == 2
    assert "--model s3://pets/none: holds neither a saved_model.pb nor numbered" in capsys.readouterr().err


def test_a_server_finds_versions_in_few_requests_and_brings_one_here(
    served: Any, faulty: Any, made: list[Path], tmp_path: Path
) -> None:
    server = faulty(None)
    source = ModelSource(f"{ROOT}/")
    server.seen.clear()
    newest, _ = source.find()
    assert len(server.seen) == 3  # Of all, and of each version.
    assert (source.name, newest.number) == ("colours", 20)
    folder = source.fetch(newest, tmp_path)
    assert files_of(folder) == files_of(made[1])
    served.put_object(Key="served/colours/20/fingerprint.pb", Body=b"other")
    assert source.find()[0] != newest
    single = ModelSource(f"{ROOT}/10")
    assert (single.name, [one.number for one in single.find()]) == ("colours", [10])


def test_a_place_that_cannot_be_written_is_told_before_anything_is_trained(bucket: Any, faulty: Any) -> None:
    assert make_serving_dir("s3://pets/served/") == "s3://pets/served/"
    assert keys(bucket) == ["served/.writable"]
    with pytest.raises(UserError, match=r"^s3://nobodys/m/\.writable: there is no such bucket"):
        make_serving_dir("s3://nobodys/m")
    faulty(answers(403, "AccessDenied"), "PUT")
    with pytest.raises(UserError, match=r"^s3://pets/served/\.writable: access is denied"):
        make_serving_dir("s3://pets/served")


def test_from_images_in_s3_to_a_model_in_s3(bucket: Any, made: list[Path], tmp_path: Path) -> None:
    upload(bucket, make_image_tree(tmp_path / "images", ["cat", "dog"], per_class=12, size=8), "in/")
    examples = run_in(tmp_path, source="image_folder", path="s3://pets/in")
    assert len(read_all(examples)) == 24
    pushed, model = standard_artifacts.PushedModel(), standard_artifacts.Model()
    pushed.uri, model.uri = str(tmp_path / "pushed_model"), str(tmp_path / "model")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "Format-Serving").symlink_to(made[0])
    destination = pusher_pb2.PushDestination(filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=ROOT))
    properties = {"push_destination": proto_utils.proto_to_json(destination)}
    Executor().Do({"model": [model]}, {"pushed_model": [pushed]}, properties)
    place = pushed.get_string_custom_property("pushed_destination")
    assert place.startswith(f"{ROOT}/1")
    (answer,) = predict.predict([str(next((tmp_path / "images").rglob("*.png")))], place)
    assert answer["label"] in COLOURS
    outputs = {"pushed_model": [pushed.mlmd_artifact]}
    assert _outputs_are_whole(outputs)
    gfile.remove(f"{place}/saved_model.pb")
    assert not _outputs_are_whole(outputs)


def test_a_version_that_cannot_be_copied_now_is_tried_again(
    served: Any, faulty: Any, tmp_path: Path, made: list[Path]
) -> None:
    versions = Versions(ModelSource(ROOT), lambda model, _: model, 1, lambda _: None)
    served.objects.filter(Prefix="served/colours/20/").delete()
    versions.start()
    upload(served, made[1], "served/colours/20/")
    assert versions._look() is None
    candidate = versions._look()
    assert candidate is not None
    server = faulty(answers(403, "AccessDenied"), "GET /pets/served/colours/20/", times=1)
    with pytest.raises(Fault, match="cannot be copied: s3://pets/served/colours/20/"):
        asyncio.run(versions._change(candidate))
    assert versions._look() == candidate
    asyncio.run(versions._change(candidate))
    assert versions.current.number == 20
    assert server.seen


def test_an_output_folder_knows_its_models_in_s3(
    bucket: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Folder(tmp_path / "out", make_facts(tmp_path), "s3://pets/served/p")
    folder.run(1, images=1)
    folder.run(2, images=2)
    assert set(folder.run(2, images=2).values()) == {"cached"}
    (second, first), _ = PushedVersions("s3://pets/served/p").list()
    assert models.main(["list", str(folder.output.root)]) == 0
    assert f"{second}" in (told := capsys.readouterr().out)
    assert f"{first}" in told
    assert clean.main([str(folder.output.root), "--yes"]) == 0
    assert "2 pushed model(s), in the serving folder" in capsys.readouterr().out
    assert models.main(["rollback", str(folder.output.root), "--yes"]) == 0
    assert "  blessing  of" in capsys.readouterr().out
    assert PushedVersions("s3://pets/served/p").list() == ([first], [second])
    assert folder.run(3, images=3)["Pusher"] == "complete"
    (third, *others), _ = PushedVersions("s3://pets/served/p").list()
    assert (third > second, others) == (True, [first])
    bucket.objects.filter(Prefix=f"served/p/{third}").delete()
    assert folder.run(3, images=3)["Pusher"] == "complete"
