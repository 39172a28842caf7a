"""What lies in `gs://`: pushed, listed, rolled back, promoted, asked and scored, by TensorFlow's own client."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.pusher.executor import push_to_bucket
from pipeline import models
from pipeline.pushed_versions import PushedVersions
from tests.google_storage import Storage, google_storage
from tests.serving import COLOURS, make_colour_model, paint
from tests.small_runs import Folder, make_facts

# Its own client waits, retries and runs in processes of its own; test_pusher and test_models tell the same of a bucket
# in TensorFlow's memory.
pytestmark = pytest.mark.slow

ROOT = "gs://pets/served/colours"
ROOT_FOLDER = Path(__file__).parent.parent


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """The storage, with a bucket `pets`."""
    with google_storage(tmp_path) as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        found.objects["pets/other/x"] = b"x"
        yield found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models."""
    root = tmp_path_factory.mktemp("made")
    return [make_colour_model(root / str(version), version) for version in (1, 2)]


def test_a_pushed_version_is_whole_or_none_and_goes_aside_and_comes_back(
    storage: Storage, made: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first = push_to_bucket(str(made[0]), ROOT)
    written = [line for line in storage.seen if line.startswith("PUT")]
    assert written[-1] == f"PUT /session/{first.removeprefix('gs://')}/saved_model.pb"
    assert push_to_bucket(str(made[0]), ROOT) == first  # it is served
    second = push_to_bucket(str(made[1]), ROOT)
    numbers = [int(path.rpartition("/")[2]) for path in (second, first)]
    assert PushedVersions(ROOT).list() == (numbers, [])
    before = dict(storage.objects)
    assert models.main(["list", ROOT, "--json"]) == 0
    newest, _ = json.loads(capsys.readouterr().out)
    assert (newest["version"], newest["served"], newest["classes"]) == (numbers[0], True, list(COLOURS))
    assert models.main(["rollback", ROOT, "--reason", "confuses", "--yes"]) == 0
    assert PushedVersions(ROOT).list() == ([numbers[1]], [numbers[0]])
    assert models.main(["promote", ROOT, str(numbers[0]), "--yes"]) == 0
    assert {name: content for name, content in storage.objects.items() if "rolled_back" not in name} == before


def test_a_model_there_scores_images_here_into_rows_there(storage: Storage, made: list[Path], tmp_path: Path) -> None:
    storage.put(made[0], "pets/served/colours/1")
    (tmp_path / "in").mkdir()
    for colour in COLOURS:
        (tmp_path / "in" / f"{colour}.png").write_bytes(paint(colour))
    command = [sys.executable, "-m", "pipeline.predict", str(tmp_path / "in"), "--model", ROOT]
    # In a process of its own: TensorFlow lets no other thread run while it restores from a bucket.
    ended = subprocess.run(
        [*command, "--out", "gs://pets/out/scored.jsonl", "--shard-images", "2"],
        cwd=ROOT_FOLDER,
        env={**os.environ, **storage.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    rows = map(json.loads, storage.objects["pets/out/scored.jsonl"].splitlines())
    assert {row["name"]: row["label"] for row in rows} == {f"{one}.png": one for one in COLOURS}


def test_an_output_folder_knows_its_models_there(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.model_places.DEFAULT_OUTPUT", tmp_path)
    place = "gs://pets/served/p"
    folder = Folder(tmp_path / "out", make_facts(tmp_path), place)
    folder.run(1, images=1)
    folder.run(2, images=2)
    assert set(folder.run(2, images=2).values()) == {"cached"}
    model, _ = folder.folders("Trainer")
    assert models.main(["rollback", place, "--yes"]) == 0
    assert "  blessing  of" in capsys.readouterr().out
    folder.run(3, images=3)
    assert folder.baseline() == model
