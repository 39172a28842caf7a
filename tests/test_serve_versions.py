"""Another version takes over while requests come: none is lost, none wrong, each by exactly one version."""

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from data.errors import UserError
from pipeline.serving.answering import Answering
from pipeline.serving.limits import Limits
from pipeline.serving.model_source import ModelSource
from pipeline.serving.trial import measure_batch, probe
from pipeline.serving.versions import Versions
from tests.serving import COLOURS, Client, make_colour_model, paint, probability_of, running


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions to copy from."""
    root = tmp_path_factory.mktemp("made")
    for version in (1, 2):
        make_colour_model(root / str(version), version)
    return root


@pytest.fixture
def models(made: Path, tmp_path: Path) -> Path:
    root = tmp_path / "colours"
    shutil.copytree(made / "1", root / "1")
    return root


class Load:
    """Clients that ask all the time, and compare each answer with what its version must say."""

    def __init__(self, client: Client, clients: int = 4) -> None:
        self.wrong: list[Any] = []
        self.versions: list[int] = []
        self._stop = threading.Event()
        self._client = client
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        colour = COLOURS[number % 3]
        image = paint(colour, number)
        while not self._stop.is_set():
            try:
                status, headers, answer = self._client.predict(image)
            except OSError as error:
                self.wrong.append(error)
                continue
            version = int(headers["x-model-version"])
            right = (200, version, colour, pytest.approx(probability_of(version)))
            if (status, answer.get("model_version"), answer.get("label"), answer.get("probability")) != right:
                self.wrong.append((status, answer))
            self.versions.append(version)
            time.sleep(0.005)


def wait_for_version(client: Client, version: int) -> None:
    deadline = time.monotonic() + 60
    while client.ask("GET", "/ping")[2]["model_version"] != version:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_newer_version_takes_over_under_load_and_a_rollback_gives_the_old_one_back(models: Path, made: Path) -> None:
    with running(models) as client, Load(client) as load:
        wait_for_version(client, 1)
        shutil.copytree(made / "2", models / "2")
        wait_for_version(client, 2)
        time.sleep(0.2)
        (models / "2").rename(models / "rolled_back_2")
        wait_for_version(client, 1)
        time.sleep(0.2)
        old = client.server.versions.current
    assert not load.wrong
    assert set(load.versions) == {1, 2}
    assert old.users == 0


def test_a_version_that_fails_is_left_alone_until_it_changes(models: Path, made: Path) -> None:
    told: list[str] = []
    with running(models) as client:
        client.server.versions.tell = told.append
        (models / "3").mkdir()
        (models / "3" / "saved_model.pb").write_bytes(b"garbage")
        deadline = time.monotonic() + 30
        while not told:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.5)  # five more looks
        assert client.predict(paint("red"))[2]["model_version"] == 1
        assert len(told) == 1
        assert told[0].startswith("version 3 is left alone until it changes: ")
        assert "\n" not in told[0]
        shutil.rmtree(models / "3")
        shutil.copytree(made / "2", models / "3")
        wait_for_version(client, 3)


def spoil(folder: Path, value: float) -> None:
    """Writes a model whose first probability is what no model gives."""

    def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        count = tf.shape(image_bytes)[0]
        return {
            "labels": tf.tile(tf.constant([COLOURS]), [count, 1]),
            "probabilities": tf.tile(tf.constant([[value, 0.1, 0.05]]), [count, 1]),
        }

    module = tf.Module()
    module.serve = tf.function(serve, input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})


def make_versions(root: Path, told: list[str]) -> Versions:
    answering = Answering(Limits(max_bytes=1000, max_pixels=1000), wait_seconds=0)
    return Versions(ModelSource(str(root)), answering.make_batcher, 1, told.append)


@pytest.mark.parametrize(
    ("value", "reason"), [(float("nan"), "no finite numbers"), (1.7, "sum to 1.85"), (0.01, "is not the first")]
)
def test_a_version_whose_answers_are_not_sane_does_not_start(models: Path, value: float, reason: str) -> None:
    spoil(models / "7", value)
    told: list[str] = []
    versions = make_versions(models, told)
    versions.start()
    assert versions.current.number == 1  # the highest that can answer
    assert "version 7 is left alone" in told[0]
    assert reason in told[0]
    shutil.rmtree(models / "1")
    with pytest.raises(UserError, match="no version can answer; version 7: a made-up picture"):
        make_versions(models, told).start()


def test_a_version_that_is_still_being_copied_is_waited_for(models: Path, made: Path) -> None:
    versions = make_versions(models, [])
    versions.start()
    shutil.copytree(made / "2", models / "2")
    assert versions._look() is None
    (models / "2" / "late").write_text("x")
    assert versions._look() is None
    candidate = versions._look()
    assert candidate is not None
    assert candidate.number == 2


def test_a_single_version_is_served_under_its_number_and_the_name_of_its_model(made: Path, models: Path) -> None:
    one = ModelSource(str(models / "1"))
    assert (one.name, [candidate.number for candidate in one.find()]) == ("colours", [1])
    shutil.copytree(made / "1", models.parent / "exported")
    bare = ModelSource(str(models.parent / "exported"), name="pets")
    assert (bare.name, [candidate.number for candidate in bare.find()]) == ("pets", [1])


def test_a_version_of_a_bucket_is_copied_first(models: Path, tmp_path: Path) -> None:
    # TensorFlow's file system in memory has addresses like a bucket's.
    for path in (models / "1").rglob("*"):
        if path.is_file():
            target = f"ram://bucket/colours/1/{path.relative_to(models / '1')}"
            tf.io.gfile.makedirs(target.rpartition("/")[0])
            tf.io.gfile.copy(str(path), target, overwrite=True)
    source = ModelSource("ram://bucket/colours/")
    assert source.name == "colours"
    (candidate,) = source.find()
    local = source.fetch(candidate, tmp_path)
    assert sorted(path.name for path in local.rglob("*") if path.is_file()) == sorted(
        path.name for path in (models / "1").rglob("*") if path.is_file()
    )


def test_the_best_batch_is_measured_on_the_model(models: Path) -> None:
    from components.exported_model.loaded import LoadedModel

    model = LoadedModel(models / "1")
    probe(model)
    batch, rate = measure_batch(model)
    assert batch in (1, 2, 4, 8, 16, 32, 64)
    assert rate > 0
