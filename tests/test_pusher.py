"""A pushed version is whole or not there, whatever happens, and always the highest."""

import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tfx.proto import pusher_pb2
from tfx.types import Artifact, Channel, standard_artifacts
from tfx.utils import io_utils, proto_utils

from components.exported_model.reference import Profile, read_reference, write_profile
from components.pusher import executor
from components.pusher.component import AtomicPusher
from components.pusher.executor import LOCK_FILE, Executor, push_atomically
from data import gfile

FILES = {"saved_model.pb": "graph", "variables/variables.index": "index", "assets/label": "cat\ndog\n"}


@pytest.fixture
def model(tmp_path: Path) -> Artifact:
    for name, content in FILES.items():
        path = tmp_path / "model" / "Format-Serving" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    artifact = standard_artifacts.Model()
    artifact.uri = str(tmp_path / "model")
    return artifact


def contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def push(tmp_path: Path, **inputs: Artifact) -> Artifact:
    pushed = standard_artifacts.PushedModel()
    pushed.uri = str(tmp_path / "pushed_model")
    destination = pusher_pb2.PushDestination(
        filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(tmp_path / "serving"))
    )
    Executor().Do(
        {key: [artifact] for key, artifact in inputs.items()},
        {"pushed_model": [pushed]},
        {"push_destination": proto_utils.proto_to_json(destination)},
    )
    return pushed


def verdict(artifact: Artifact, blessed: int) -> Artifact:
    artifact.set_int_custom_property("blessed", blessed)
    return artifact


def versions(base: Path) -> list[str]:
    return sorted(path.name for path in base.iterdir() if path.name != LOCK_FILE)


def test_a_blessed_model_is_pushed_whole_with_the_stock_properties(model: Artifact, tmp_path: Path) -> None:
    pushed = push(
        tmp_path,
        model=model,
        model_blessing=verdict(standard_artifacts.ModelBlessing(), 1),
    )
    (version,) = versions(tmp_path / "serving")
    assert contents(tmp_path / "serving" / version) == FILES
    assert contents(tmp_path / "pushed_model") == FILES
    assert abs(int(version) - time.time()) < 60
    assert pushed.get_int_custom_property("pushed") == 1
    assert pushed.get_string_custom_property("pushed_destination") == str(tmp_path / "serving" / version)
    assert pushed.get_string_custom_property("pushed_version") == version


def test_a_pushed_model_and_its_archive_carry_what_it_met_on_test_and_the_exported_one_does_not(
    model: Artifact, tmp_path: Path
) -> None:
    predictions = standard_artifacts.InferenceResult()
    predictions.uri = str(tmp_path / "predictions")
    write_profile(Profile(2, Counter(cat=2)), str(tmp_path / "predictions" / "reference.json"))
    push(tmp_path, model=model, predictions=predictions)
    (version,) = versions(tmp_path / "serving")
    for folder in (tmp_path / "serving" / version, tmp_path / "pushed_model"):
        assert read_reference(str(folder)) == Profile(2, Counter(cat=2))
        assert {name: text for name, text in contents(folder).items() if name in FILES} == FILES
    assert read_reference(f"{model.uri}/Format-Serving") is None


def test_into_a_bucket_the_graph_is_copied_last(
    model: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[dict[str, str]] = []
    copy = gfile.copy

    def look_and_copy(source: str, target: str) -> None:
        there.append(contents(tmp_path / "bucket"))
        copy(source, target)

    monkeypatch.setattr(gfile, "copy", look_and_copy)
    version = Path(executor.push_to_bucket(f"{model.uri}/Format-Serving", str(tmp_path / "bucket")))
    assert contents(version) == FILES
    expected = {f"{version.name}/{name}": text for name, text in FILES.items() if name != "saved_model.pb"}
    assert there[-1] == expected


def test_without_the_blessing_nothing_is_pushed(model: Artifact, tmp_path: Path) -> None:
    pushed = push(tmp_path, model=model, model_blessing=verdict(standard_artifacts.ModelBlessing(), 0))
    assert not (tmp_path / "serving").exists()
    assert not (tmp_path / "pushed_model").exists()
    assert pushed.get_int_custom_property("pushed") == 0
    assert not pushed.get_string_custom_property("pushed_destination")


def test_versions_increase_within_one_second_and_above_a_version_of_the_future(model: Artifact, tmp_path: Path) -> None:
    source, base = os.path.join(model.uri, "Format-Serving"), tmp_path / "serving"
    pushed = [int(os.path.basename(push_atomically(source, str(base)))) for _ in range(3)]
    assert pushed == sorted(set(pushed))
    (base / "99999999999").mkdir()
    assert push_atomically(source, str(base)) == str(base / "100000000000")


def test_pushes_at_once_get_a_version_each(model: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, base = os.path.join(model.uri, "Format-Serving"), tmp_path / "serving"
    copy_dir = io_utils.copy_dir

    def copy_slowly(source: str, destination: str) -> None:
        time.sleep(0.1)
        copy_dir(source, destination)

    monkeypatch.setattr(io_utils, "copy_dir", copy_slowly)
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: push_atomically(source, str(base)), range(4)))
    assert len(set(paths)) == 4
    assert [contents(Path(path)) for path in paths] == [FILES] * 4


def _push_and_hang(source: str, base: str, hanging: object) -> None:
    """Copies one file of the model and stops there."""

    def copy_one_file(_: str, destination: str) -> None:
        os.mkdir(destination)
        Path(destination, "saved_model.pb").write_text("graph")
        hanging.set()  # type: ignore[attr-defined]
        time.sleep(600)

    io_utils.copy_dir = copy_one_file
    executor.push_atomically(source, base)


def test_a_killed_push_leaves_no_version_and_the_next_one_clears_up(model: Artifact, tmp_path: Path) -> None:
    source, base = os.path.join(model.uri, "Format-Serving"), tmp_path / "serving"
    context = multiprocessing.get_context("fork")
    hanging = context.Event()
    process = context.Process(target=_push_and_hang, args=(source, str(base), hanging))
    process.start()
    try:
        assert hanging.wait(60)
        (left,) = versions(base)
        assert not left.isdecimal()
        assert contents(base / left) == {"saved_model.pb": "graph"}
    finally:
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    # The next push is rarely within the same second, and then would not meet the same name.
    (base / left).rename(base / f"{executor.PARTIAL_PREFIX}1")
    version = push_atomically(source, str(base))
    assert versions(base) == [os.path.basename(version)]
    assert contents(Path(version)) == FILES


def test_the_node_stays_the_pusher_and_notices_changed_code() -> None:
    node = AtomicPusher(model=Channel(type=standard_artifacts.Model), base_directory="served")
    assert node.id == "Pusher"
    assert json.loads(node.exec_properties["push_destination"]) == {"filesystem": {"base_directory": "served"}}
    assert "code_hash" in node.exec_properties["custom_config"]
    assert node.executor_spec.executor_class is Executor
