"""The image's start script as a process, with a model inside the image, in a bucket of Google's, or without any."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.google_storage import Storage, google_storage
from tests.serving import make_colour_model, paint, probability_of
from tests.test_serve_process import ROOT, Process

SERVE = ("sh", "pipeline/image/serve.sh", "serve")
HERE = {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "SERVE_OPTIONS": "--host 127.0.0.1 --port 0 --batch 2 --poll-seconds 0.2",
}
# What `COPY VERSIONS /opt/ml/model` does, in a view of the files that only this process has.
_BAKE = """
mount --rbind /opt "$1" && mount -t tmpfs tmpfs /opt || exit
for one in "$1"/*; do
    name="${one##*/}"
    [ "$name" = ml ] || [ ! -d "$one" ] || { mkdir "/opt/$name" && mount --rbind "$one" "/opt/$name"; }
done
mkdir /opt/ml && cp -r "$2" /opt/ml/model && mount -o remount,ro /opt || exit
shift 2
exec "$@"
"""
_VIEW = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _BAKE, "sh")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("container") / "colours"
    for version in (4, 5):
        make_colour_model(root / str(version), version)
    return root


@pytest.fixture
def started() -> Iterator[Callable[..., Process]]:
    processes: list[Process] = []

    def start(command: tuple[str, ...] = SERVE, **environment: str) -> Process:
        processes.append(Process(command=command, environment={**HERE, **environment}))
        return processes[-1]

    yield start
    for one in processes:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with google_storage(tmp_path) as found:
        yield found


def test_a_model_inside_the_image_is_the_one_that_answers(
    started: Callable[..., Process], models: Path, tmp_path: Path
) -> None:
    (tmp_path / "opt").mkdir()
    view = (*_VIEW, str(tmp_path / "opt"), str(models))
    try:
        tried = subprocess.run([*view, "ls", "/opt/ml/model"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("unshare is not there")
    if tried.returncode:
        pytest.skip(f"this system gives no view of the files of its own: {tried.stderr.strip()}")
    assert tried.stdout.split() == ["4", "5"]
    process = started((*view, *SERVE))
    assert process.lines[0] == "version 5 of model answers, from /opt/ml/model"
    status, headers, answer = process.client.predict(paint("red"), "/invocations")
    assert (status, headers["x-model-version"], answer["label"]) == (200, "5", "red")
    health = {**os.environ, **HERE, "AIP_HTTP_PORT": str(process.client.port)}
    assert subprocess.run(["sh", "pipeline/image/ask_health.sh"], cwd=ROOT, env=health, check=False).returncode == 0
    status, out, err = process.stop()
    assert (status, out) == (0, "stopped; what was taken has been answered\n")
    assert "POST /invocations status=200" in err  # The log of a container is standard error.


@pytest.mark.slow
def test_a_model_in_google_s_storage_is_read_at_start_and_its_next_version_later(
    started: Callable[..., Process], storage: Storage, models: Path
) -> None:
    storage.put(models / "4", "bucket/models/colours/4")
    place = "gs://bucket/models/colours"
    process = started(AIP_STORAGE_URI=place, GCS_STAT_CACHE_MAX_AGE="0", **storage.environment)
    assert process.lines[0] == f"version 4 of colours answers, from {place}"
    status, _, answer = process.client.predict(paint("green"), "/predict")
    assert (status, answer["label"]) == (200, "green")
    assert answer["probability"] == pytest.approx(probability_of(4))
    storage.put(models / "5", "bucket/models/colours/5")
    until = time.monotonic() + 60
    while process.client.predict(paint("green"), "/predict")[1]["x-model-version"] != "5":
        assert time.monotonic() < until
        time.sleep(0.1)
    assert all(line.startswith("GET ") for line in storage.seen)
    assert process.stop()[0] == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "/opt/ml/model: holds neither a saved_model.pb nor numbered versions of a model"),
        pytest.param(
            ["--model", "gs://bucket/none"],
            "gs://bucket/none: holds neither a saved_model.pb nor numbered versions of a m",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["--model", "gs://nobodys/models"],
            "gs://nobodys/models: cannot be read: Error executing an HTTP request",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_without_a_model_it_ends_with_one_line(arguments: list[str], told: str, storage: Storage) -> None:
    if not arguments and Path("/opt/ml/model").exists():
        pytest.skip("there is one")
    storage.objects["bucket/other"] = b"x"
    environment = {**os.environ, **HERE, **storage.environment}
    command = [*SERVE, *arguments]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"error: --model {told}")
    assert ended.stderr.count("\n") == 1
