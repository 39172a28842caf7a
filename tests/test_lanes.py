"""Which lane make chooses: a table of machines, what is said where none fits, and what a Python tells of itself."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from components.lane import installed_lane
from pipeline.lanes import LANES, SYMBOLS, Interpreter, NoLaneError, choose, find_interpreters, probe
from pipeline.vertex.sources import ROOT

ALL, NONE = frozenset(SYMBOLS), frozenset()
OLDER_CPP = frozenset({"GLIBC_2.38"})
OLDER_C = ALL - OLDER_CPP
NEW, OLD = "tfx-1.21", "tfx-1.16"


def machine(symbols: frozenset[str], *versions: str) -> list[Interpreter]:
    return [Interpreter(f"/python{v}", tuple(map(int, v.split("."))), symbols) for v in versions]


@pytest.mark.parametrize(
    ("found", "lane", "python"),
    [
        (machine(ALL, "3.10", "3.13"), NEW, "/python3.13"),
        (machine(ALL, "3.11", "3.13", "3.12"), NEW, "/python3.13"),
        (machine(ALL, "3.11"), NEW, "/python3.11"),
        (machine(ALL, "3.9", "3.12", "3.14"), NEW, "/python3.12"),
        (machine(ALL, "3.10", "3.14"), OLD, "/python3.10"),
        (machine(ALL, "3.10"), OLD, "/python3.10"),
        (machine(NONE, "3.10", "3.13"), OLD, "/python3.10"),
        (machine(OLDER_CPP, "3.10", "3.12"), OLD, "/python3.10"),
        (machine(OLDER_C, "3.10", "3.12"), OLD, "/python3.10"),
        # A Python of conda's with libraries of its own, beside the system's.
        (machine(NONE, "3.13") + machine(ALL, "3.11"), NEW, "/python3.11"),
    ],
)
def test_the_newer_lane_is_chosen_where_it_loads(found: list[Interpreter], lane: str, python: str) -> None:
    assert choose(found) == (lane, python)


def test_the_user_overrules() -> None:
    both = machine(ALL, "3.10", "3.13")
    assert choose(both, OLD) == (OLD, "/python3.10")
    assert choose(both, NEW) == (NEW, "/python3.13")
    assert choose(machine(ALL, "3.12"), python="/python3.12") == (NEW, "/python3.12")
    assert choose(machine(ALL, "3.10"), python="/python3.10") == (OLD, "/python3.10")


INSTALL_OLD = "tfx-1.16 needs Python 3.10 (apt install python3.10 python3.10-venv, or pyenv install 3.10)"


@pytest.mark.parametrize(
    ("found", "asked", "error"),
    [
        (
            machine(ALL, "3.14"),
            {},
            "tfx-1.21 needs Python 3.11 or 3.12 or 3.13 (apt install python3.13 python3.13-venv, or pyenv install "
            f"3.13); {INSTALL_OLD}. Install that, or name",
        ),
        (machine(NONE), {}, "tfx-1.21 needs Python 3.11 or 3.12 or 3.13 (apt install"),
        (
            machine(NONE, "3.11", "3.12"),
            {},
            "tfx-1.21 needs GLIBC_2.38, GLIBCXX_3.4.32, CXXABI_1.3.15 in the libraries that /python3.12 loads (Debian "
            f"13 and Ubuntu 24.04 have them); {INSTALL_OLD}. Install",
        ),
        (
            machine(OLDER_CPP, "3.12"),
            {},
            "tfx-1.21 needs GLIBCXX_3.4.32, CXXABI_1.3.15 in the libraries that /python3.12 loads (Debian 13",
        ),
        (machine(OLDER_C, "3.12"), {"lane": NEW}, "tfx-1.21 needs GLIBC_2.38 in the libraries that /python3.12 loads"),
        (machine(ALL, "3.13"), {"lane": OLD}, f"{INSTALL_OLD}. Install that, or name another Python: make PYTHON="),
        (
            machine(ALL, "3.13"),
            {"lane": OLD, "python": "python3.13"},
            "tfx-1.16 needs Python 3.10, and /python3.13 is 3.13. Install that",
        ),
        (
            machine(ALL, "3.14"),
            {"python": "python3.14"},
            "tfx-1.21 needs Python 3.11 or 3.12 or 3.13, and /python3.14 is 3.14; tfx-1.16 needs Python 3.10, and",
        ),
        ([], {"python": "python3.7"}, "PYTHON is 'python3.7', which is no Python that runs here; give the path of one"),
        (machine(ALL, "3.13"), {"lane": "new"}, "LANE is 'new'; use tfx-1.21 or tfx-1.16"),
        (machine(ALL, "3.13"), {"machine": "aarch64"}, "this machine is aarch64; TensorFlow Extended is released for"),
    ],
)
def test_what_is_missing_is_one_line(found: list[Interpreter], asked: dict[str, str], error: str) -> None:
    with pytest.raises(NoLaneError) as raised:
        choose(found, **asked)
    assert str(raised.value).startswith(error)
    assert "\n" not in str(raised.value)


def test_this_python_tells_what_it_is_and_what_its_libraries_have() -> None:
    item = probe(sys.executable)
    assert item is not None
    assert item.version == sys.version_info[:2]
    if platform.libc_ver()[0] == "glibc":
        assert ("GLIBC_2.38" in item.symbols) == (tuple(map(int, platform.libc_ver()[1].split("."))) >= (2, 38))
    # What is installed here loads here.
    assert item.symbols >= set(LANES[installed_lane()].symbols)


def test_pyenvs_and_uvs_pythons_are_found_where_the_path_has_none_and_what_does_not_run_is_none(tmp_path: Path) -> None:
    version = ".".join(map(str, sys.version_info[:2]))
    for place in ("pyenv/versions/{}.5/bin", "home/.local/share/uv/python/cpython-{}.7-linux/bin", "bin"):
        folder = tmp_path / place.format(version)
        folder.mkdir(parents=True)
        program = folder / f"python{version}"
        if place == "bin":
            program.write_text("#!/bin/sh\nexit 127\n")
            program.chmod(0o755)
        else:
            program.symlink_to(sys.executable)
    environ = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home"), "PYENV_ROOT": str(tmp_path / "pyenv")}
    found = [item.path for item in find_interpreters(environ=environ)]
    assert [Path(path).relative_to(tmp_path).parts[0] for path in found] == ["pyenv", "home"]
    assert find_interpreters(f"python{version}", environ) == []
    assert [item.path for item in find_interpreters(sys.executable, environ)] == [sys.executable]


def make(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # Nothing of a make that runs these tests.
    outer = ("LANE", "PYTHON", "ARGS", "CHOICE", "MFLAGS")
    environment = {k: v for k, v in os.environ.items() if k not in outer and not k.startswith("MAKE")}
    return subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory", *words],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_make_takes_the_environment_of_the_lane_of_the_python_that_it_is_given() -> None:
    done = make("-n", "run", f"PYTHON={sys.executable}", "INSTALLED=")
    assert done.stdout.strip() == f"{LANES[installed_lane()].environment}/bin/python -m pipeline.run_local"


def test_make_says_in_one_line_that_no_lane_fits_where_it_is_needed_and_helps_all_the_same() -> None:
    done = make("run", "LANE=tfx-0")
    assert done.stderr.splitlines()[0] == f"error: LANE is 'tfx-0'; use {' or '.join(LANES)}"
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.search(r"make run +Run the pipeline", make("help", "LANE=tfx-0").stdout)


@pytest.mark.parametrize(
    ("programs", "line"),
    [
        ({"id": "echo 1000"}, "Python 3.13 not tested: a Debian 13 root is made and entered by root alone"),
        ({"id": "echo 0", "unshare": "exit 1"}, "Python 3.13 not tested: this machine allows no mounts (unshare"),
        (
            {"id": "echo 0", "unshare": "exit 0", "debootstrap": "echo E: no network; exit 1"},
            "Python 3.13 not tested: the root could not be made in time, or without a network: E: no network",
        ),
    ],
)
@pytest.mark.parametrize(("mode", "status"), [("smoke", 0), ("full", 2)])
def test_where_no_debian_13_can_be_had_a_line_says_so_and_only_a_small_run_passes(
    tmp_path: Path, programs: dict[str, str], line: str, mode: str, status: int
) -> None:
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [str(ROOT / "tests" / "py313.sh"), mode],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin:/usr/sbin", "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status, done.stderr
    assert done.stdout.splitlines()[-1].startswith(line)
    assert done.stderr == ""
