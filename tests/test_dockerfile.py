"""The Dockerfile without a base image: lint, versions, user, label, and what reaches the engine."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib  # Python 3.10

from components.lane import lane_of
from pipeline.lanes import LANES
from pipeline.locks import LOCKS
from pipeline.vertex.check import LANE_LABEL, SOURCES_LABEL
from pipeline.vertex.sources import PACKAGES, ROOT
from pipeline.vertex.worker_pools import TPU_ENVIRONMENT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
STAGES = {"pipeline": "cpu", "tpu": "tpu", "gpu": "gpu"}


def read_instructions() -> dict[str, list[tuple[str, str]]]:
    """Returns the instructions of each stage by its name; those before the first stage under ''."""
    stages: dict[str, list[tuple[str, str]]] = {"": []}
    stage = ""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    for line in filter(str.strip, text.splitlines()):
        keyword, _, rest = line.strip().partition(" ")
        if keyword == "FROM":
            stage = rest.split(" AS ")[1]
            stages[stage] = []
        stages[stage].append((keyword, " ".join(rest.split())))
    return stages


def read_pins(lane: str, name: str) -> dict[str, str]:
    """Returns package and version of a locked file, whose every requirement must have hashes; of two, the last."""
    text = (LOCKS / lane / f"{name}.txt").read_text()
    entries = re.findall(
        r"^([a-z0-9._-]+)(?:\[[^]]*\])?==(\S+)(?: ; .*)? \\\n((?:    --hash=sha256:[0-9a-f]{64}.*\n)+)",
        text,
        re.MULTILINE,
    )
    assert len(entries) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE)) > 0
    assert "index" not in re.sub(r"^[a-z0-9].*", "", text, flags=re.MULTILINE)
    return {package: version for package, version, _ in entries}


def read_argument(name: str) -> str:
    return next(rest for keyword, rest in read_instructions()[""] if keyword == "ARG" and rest.startswith(f"{name}="))


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "")


def bases() -> dict[str, str]:
    """Returns the image or stage that each stage starts from."""
    lines = [rest for stage in read_instructions().values() for keyword, rest in stage if keyword == "FROM"]
    return {stage: base for base, stage in (line.split(" AS ") for line in lines)}


@pytest.mark.parametrize("lane", LANES)
def test_the_bases_are_pinned_and_fit_what_is_locked(lane: str) -> None:
    python = ".".join(map(str, LANES[lane].pythons[0]))
    beam = read_pins(lane, "image")["apache-beam"]
    assert bases()[f"beam-{lane}"].endswith(f"/beam_python{python}_sdk:{beam}")
    assert re.search(rf"/python:{re.escape(python)}\.\d+-slim-\w+$", bases()[f"python-{lane}"])


def test_one_argument_chooses_the_bases_and_the_locks() -> None:
    assert read_argument("LANE").partition("=")[2] in LANES
    assert read_argument("PYTHON_IMAGE") == "PYTHON_IMAGE=python-${LANE}"
    assert read_argument("BEAM_IMAGE") == "BEAM_IMAGE=beam-${LANE}"
    own = {stage: base for stage, base in bases().items() if not stage.endswith(tuple(LANES))}
    assert set(own.values()) == {"${PYTHON_IMAGE}", "${BEAM_IMAGE}", "installer", "builder", "runtime"}
    assert ("COPY", "locks/setup.txt locks/${LANE}/*.txt ./") in read_instructions()["installer"]


@pytest.mark.parametrize("lane", LANES)
def test_the_image_holds_the_locked_versions_and_no_tools_of_development(lane: str) -> None:
    locked, image = read_pins(lane, "environment"), read_pins(lane, "image")
    assert image.items() <= locked.items()
    development = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    names = {re.split(r"[<>=]", name)[0].lower() for name in development} - {"pip"}
    # cryptography comes with Google's clients, too.
    assert names & set(image) <= {"cryptography"}
    assert not {"tensorflow", "libclang"} & set(image)


@pytest.mark.parametrize("lane", LANES)
def test_the_serving_image_holds_the_locked_versions_and_neither_tfx_nor_beam(lane: str) -> None:
    serving = read_pins(lane, "serving")
    assert serving.items() <= read_pins(lane, "environment").items()
    assert not {"tfx", "apache-beam", "tensorflow", "tensorflow-transform", "tf-keras", "libclang"} & set(serving)


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_every_build_of_tensorflow_is_the_locked_version(lane: str, kind: str) -> None:
    locked, pins = read_pins(lane, "environment"), read_pins(lane, kind)
    package = "tensorflow" if kind == "gpu" else f"tensorflow-{kind}"
    assert pins.pop(package) == locked["tensorflow"]
    assert {name: version for name, version in pins.items() if not name.startswith("nvidia-")}.items() <= locked.items()
    assert any(name.startswith("nvidia-cudnn") for name in pins) == (kind == "gpu")


def test_the_build_for_a_tpu_is_the_locked_version_or_the_newest_that_there_is() -> None:
    assert read_pins("tfx-1.16", "tpu") == {"tensorflow-tpu": read_pins("tfx-1.16", "environment")["tensorflow"]}
    # No 2.21 was released, and Keras 2 asks for a TensorFlow of its own version; libtpu from 0.0.52 on aborts.
    assert read_pins("tfx-1.21", "tpu") == {"tensorflow-tpu": "2.20.0", "tf-keras": "2.20.1", "libtpu": "0.0.17"}


def test_preflight_compiles_with_the_libtpu_of_the_image() -> None:
    assert read_pins(".", "tpu-compiler")["libtpu"] == read_pins("tfx-1.21", "tpu")["libtpu"]


@pytest.mark.parametrize("lane", LANES)
def test_a_lane_is_called_after_the_tfx_that_is_locked(lane: str) -> None:
    assert lane_of(read_pins(lane, "environment")["tfx"]) == lane
    assert {path.name for path in LOCKS.iterdir() if path.is_dir()} == set(LANES)


def test_no_image_runs_as_root_or_holds_the_installer() -> None:
    instructions = read_instructions()
    assert list(instructions)[-1] == "serving"
    users = [(stage, rest) for stage, lines in instructions.items() for keyword, rest in lines if keyword == "USER"]
    # Root is there for those who ask for it.
    assert users == [("runtime", "1000"), ("serving", "${SERVING_USER}")]
    assert ("ARG", "SERVING_USER=1000") in instructions["serving"]
    for stage, kind in STAGES.items():
        assert instructions[stage][0] == ("FROM", f"runtime AS {stage}")
        assert ("COPY", f"--from=builder-{kind} /opt/venv /opt/venv") in instructions[stage]
        assert not [line for line in instructions[stage] if line[0] == "RUN" or "/opt/uv" in line[1]]


def test_the_image_names_its_sources_and_finds_them() -> None:
    runtime = read_instructions()["runtime"]
    assert ("LABEL", f"{SOURCES_LABEL}=${{SOURCES_HASH}} {LANE_LABEL}=${{LANE}}") in runtime
    assert [rest for keyword, rest in runtime if keyword == "COPY" and "pipeline/image/" not in rest][1:] == [
        f"{p} {p}" for p in PACKAGES
    ]
    environment = next(rest for keyword, rest in runtime if keyword == "ENV")
    assert "PYTHONPATH=/app" in environment
    assert "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1" in environment


def test_the_tpu_stage_has_the_environment_of_a_tpu_job() -> None:
    environment = next(rest for keyword, rest in read_instructions()["tpu"] if keyword == "ENV")
    assert dict(word.split("=") for word in environment.split()) == TPU_ENVIRONMENT


@pytest.mark.skipif(shutil.which("buildah") is None, reason="needs buildah")
def test_only_sources_and_locked_requirements_reach_the_engine(tmp_path: Path) -> None:
    context = tmp_path / "context"
    wanted = {
        "data/source.py",
        "components/trainer/run_fn.py",
        "pipeline/presets/digits.yaml",
        "locks/tfx-1.21/cpu.txt",
        "locks/setup.txt",
    }
    others = {
        ".env", ".git/config", ".venv/bin/python", "output/model.keras", "key.json", "README.md", "tests/test_a.py",
        "pipeline/.env", "data/.cache/image.jpg", "pipeline/__pycache__/a.pyc", "components/trainer/__pycache__/b.pyc",
    }  # fmt: skip
    for name in wanted | others:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(name)
    (context / ".dockerignore").write_text((ROOT / ".dockerignore").read_text())
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    storage = [
        "buildah",
        "--root",
        str(tmp_path / "root"),
        "--runroot",
        str(tmp_path / "run"),
        "--storage-driver",
        "vfs",
    ]
    run = {"check": True, "capture_output": True, "text": True, "timeout": 300}
    subprocess.run([*storage, "bud", "--isolation", "chroot", "-t", "context", str(context)], **run)
    container = subprocess.run([*storage, "from", "context"], **run).stdout.strip()
    root = Path(subprocess.run([*storage, "mount", container], **run).stdout.strip())
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    subprocess.run([*storage, "rm", container], **run)
    assert found == wanted
