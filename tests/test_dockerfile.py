"""The Dockerfile without a base image: lint, versions, user, label, and what reaches the engine."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomli

from pipeline.vertex.check import PYTHON, SOURCES_LABEL
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


def read_pins(name: str) -> dict[str, str]:
    """Returns package and version of a locked file, whose every requirement must have hashes."""
    text = (ROOT / name).read_text()
    entries = re.findall(
        r"^([a-z0-9._-]+)(?:\[[^]]*\])?==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}.*\n)+)", text, re.MULTILINE
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


def test_the_bases_are_pinned_and_fit_what_is_locked() -> None:
    beam = read_pins("pipeline/image/requirements.txt")["apache-beam"]
    assert read_argument("BEAM_IMAGE").endswith(f"/beam_python{PYTHON}_sdk:{beam}")
    assert re.search(rf"/python:{re.escape(PYTHON)}\.\d+-slim-\w+$", read_argument("PYTHON_IMAGE"))
    bases = {
        rest.split(" AS ")[0] for stage in read_instructions().values() for keyword, rest in stage if keyword == "FROM"
    }
    assert bases == {"${PYTHON_IMAGE}", "${BEAM_IMAGE}", "builder", "runtime"}


def test_the_image_holds_the_locked_versions_and_no_tools_of_development() -> None:
    locked, image = read_pins("requirements.txt"), read_pins("pipeline/image/requirements.txt")
    assert image.items() <= locked.items()
    development = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    names = {re.split(r"[<>=]", name)[0].lower() for name in development} - {"pip"}
    # cryptography comes with Google's clients, too.
    assert names & set(image) <= {"cryptography"}
    assert not {"tensorflow", "libclang"} & set(image)


@pytest.mark.parametrize("kind", ["cpu", "tpu", "gpu"])
def test_every_build_of_tensorflow_is_the_locked_version(kind: str) -> None:
    locked, pins = read_pins("requirements.txt"), read_pins(f"pipeline/image/{kind}.txt")
    package = "tensorflow" if kind == "gpu" else f"tensorflow-{kind}"
    assert pins.pop(package) == locked["tensorflow"]
    assert {name: version for name, version in pins.items() if not name.startswith("nvidia-")}.items() <= locked.items()
    assert any(name.startswith("nvidia-cudnn") for name in pins) == (kind == "gpu")


def test_no_image_runs_as_root_or_holds_the_installer() -> None:
    instructions = read_instructions()
    assert list(instructions)[-1] in STAGES
    users = [(stage, rest) for stage, lines in instructions.items() for keyword, rest in lines if keyword == "USER"]
    assert users == [("runtime", "1000")]
    for stage, kind in STAGES.items():
        assert instructions[stage][0] == ("FROM", f"runtime AS {stage}")
        assert ("COPY", f"--from=builder-{kind} /opt/venv /opt/venv") in instructions[stage]
        assert not [line for line in instructions[stage] if line[0] == "RUN" or "/opt/uv" in line[1]]


def test_the_image_names_its_sources_and_finds_them() -> None:
    runtime = read_instructions()["runtime"]
    assert ("LABEL", f"{SOURCES_LABEL}=${{SOURCES_HASH}}") in runtime
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
        "pipeline/image/cpu.txt",
        "requirements-setup.txt",
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
