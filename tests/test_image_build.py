"""What `make image` calls, and how the TPU's library is fetched."""

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipeline.locks import LOCKS
from pipeline.vertex.settings import TrainerPlacement
from pipeline.vertex.sources import ROOT, make_sources_hash
from pipeline.vertex.worker_pools import trainer_image
from tests.vertex_settings import make_settings

SYMBOL = (LOCKS / "tfx-1.16" / "libtpu-symbol.txt").read_text().strip()
LIBRARY = b"\x7fELF TpuExecutor_AllocateStream and so on"


def make_engine(folder: Path, name: str, answers: bool = True) -> None:
    """Puts an engine into a folder of programs that writes down what it is called with."""
    program = folder / name
    program.write_text(
        f'#!/bin/sh\n[ "$1" = info ] && exit {0 if answers else 1}\necho {name} "$@" >> {folder / "calls"}\n'
    )
    program.chmod(0o755)


def build(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs the build with the engines of a folder, and none of this machine."""
    for name in ("bash", "dirname", "sed"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(f"/usr/bin/{name}")
    environment = {"PATH": str(folder), "PYTHON": sys.executable, **variables}
    command = ["/bin/bash", str(ROOT / "pipeline" / "image" / "build.sh"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def test_each_stage_is_built_under_the_name_that_the_job_asks_for(tmp_path: Path) -> None:
    make_engine(tmp_path, "docker")
    make_engine(tmp_path, "buildah")
    arguments = {"LANE": "tfx-1.16", "LIBTPU_URL": "https://x/libtpu.whl", "LIBTPU_SHA256": "ab"}
    done = build(tmp_path, "europe-docker.pkg.dev/p/r/i:v1", "pipeline", "tpu", "gpu", **arguments)
    assert done.returncode == 0, done.stderr
    settings = make_settings(image="europe-docker.pkg.dev/p/r/i:v1")
    tags = {
        stage: trainer_image(settings.model_copy(update={"trainer": TrainerPlacement(**placement)}))
        for stage, placement in {"pipeline": {}, "tpu": {"tpu": "v5e-4"}, "gpu": {"gpu": "NVIDIA_L4"}}.items()
    }
    hash_argument = f"--build-arg SOURCES_HASH={make_sources_hash()}"
    bases = "--build-arg PYTHON_IMAGE=python-tfx-1.16 --build-arg BEAM_IMAGE=beam-tfx-1.16"
    libtpu = "--build-arg LIBTPU_URL=https://x/libtpu.whl --build-arg LIBTPU_SHA256=ab"
    given = f"--build-arg LANE=tfx-1.16 {bases} {libtpu}"
    assert calls(tmp_path) == [
        f"docker build {hash_argument} {given} --target {stage} --tag {tag} --file Dockerfile ."
        for stage, tag in tags.items()
    ]


def test_an_engine_that_does_not_answer_is_passed_over(tmp_path: Path) -> None:
    make_engine(tmp_path, "docker", answers=False)
    make_engine(tmp_path, "buildah")
    assert build(tmp_path, "pipeline:v1", BUILD_FLAGS="--isolation chroot").returncode == 0
    (call,) = calls(tmp_path)
    assert call.startswith("buildah bud --build-arg SOURCES_HASH=")
    assert call.endswith(" --isolation chroot --target pipeline --tag pipeline:v1 --file Dockerfile .")


def test_the_bases_are_named_whether_or_not_the_lane_is(tmp_path: Path) -> None:
    make_engine(tmp_path, "docker")
    assert build(tmp_path, "pipeline:v1").returncode == 0
    assert build(tmp_path, "pipeline:v1", PYTHON_IMAGE="docker.io/library/python@sha256:00").returncode == 0
    lane = re.search(r"^ARG LANE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1]
    default, given = calls(tmp_path)
    beam = f"--build-arg BEAM_IMAGE=beam-{lane} "
    assert f"--build-arg LANE={lane} --build-arg PYTHON_IMAGE=python-{lane} {beam}" in default
    assert f"--build-arg PYTHON_IMAGE=docker.io/library/python@sha256:00 {beam}" in given


@pytest.mark.parametrize(
    ("words", "variables", "error"),
    [
        ((), {}, "the image is ''; give it a name and a tag"),
        (("registry:5000/pipeline",), {}, "the image is 'registry:5000/pipeline'; give it a name and a tag"),
        (("pipeline:v1", "cpu"), {}, "the stage is 'cpu'; use pipeline, tpu, gpu, serving"),
        (("pipeline:v1",), {}, "no container engine answers: start docker, or install podman or buildah"),
        (("pipeline:v1",), {"ENGINE": "docker", "LANE": "new"}, "LANE is 'new'; use tfx-1.16 or tfx-1.21"),
        (("pipeline:v1",), {"ENGINE": "kaniko"}, "ENGINE is 'kaniko'; use docker, podman or buildah"),
    ],
)
def test_what_cannot_be_built_is_said(
    tmp_path: Path, words: tuple[str, ...], variables: dict[str, str], error: str
) -> None:
    make_engine(tmp_path, "docker", answers=False)
    done = build(tmp_path, *words, **variables)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {error}")
    assert not (tmp_path / "calls").exists()


def fetch(url: str, sha256: str, output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "pipeline" / "image" / "fetch_libtpu.py")]
    flags = ["--url", url, "--sha256", sha256, "--symbol", SYMBOL, "--output", str(output)]
    return subprocess.run([*command, *flags], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("kind", ["wheel", "library"])
def test_libtpu_is_taken_from_a_wheel_or_as_it_is(tmp_path: Path, kind: str) -> None:
    release = tmp_path / "release"
    if kind == "wheel":
        with zipfile.ZipFile(release, "w") as wheel:
            wheel.writestr("libtpu/libtpu.so", LIBRARY)
    else:
        release.write_bytes(LIBRARY)
    digest = hashlib.sha256(release.read_bytes()).hexdigest()
    done = fetch(release.as_uri(), digest.upper(), tmp_path / "libtpu.so")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "libtpu.so").read_bytes() == LIBRARY
    assert os.access(tmp_path / "libtpu.so", os.X_OK)


def test_without_the_right_libtpu_there_is_none(tmp_path: Path) -> None:
    release, output = tmp_path / "release", tmp_path / "libtpu.so"
    release.write_bytes(b"<html>not found</html>")
    digest = hashlib.sha256(release.read_bytes()).hexdigest()
    other = tmp_path / "other"
    other.write_bytes(b"\x7fELF of JAX")
    other_digest = hashlib.sha256(other.read_bytes()).hexdigest()
    cases = [
        (other.as_uri(), other_digest, f"LIBTPU_URL {other.as_uri()}: is not libtpu for this TensorFlow: it lacks Tpu"),
        ("", digest, "LIBTPU_URL is not given; choose libtpu for this TensorFlow from https://"),
        (release.as_uri(), "", "LIBTPU_SHA256 is not given; choose libtpu for this TensorFlow from https://"),
        (release.as_uri(), "0" * 64, f"LIBTPU_URL {release.as_uri()}: has the SHA-256 {digest}, not {'0' * 64}"),
        (release.as_uri(), digest, f"LIBTPU_URL {release.as_uri()}: is neither a shared object nor a wheel"),
        ((tmp_path / "gone").as_uri(), digest, f"LIBTPU_URL {(tmp_path / 'gone').as_uri()}: <urlopen error"),
        ("libtpu.whl", digest, "LIBTPU_URL libtpu.whl: unknown url type"),
    ]
    for url, sha256, error in cases:
        done = fetch(url, sha256, output)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {error}")
        assert done.stderr.count("\n") == 1
        assert not output.exists()
