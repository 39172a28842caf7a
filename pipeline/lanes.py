"""Which lane a machine can have: which tested set of TFX, by its Python and the C and C++ libraries that this loads.

    python pipeline/lanes.py     prints the lane, the Python to make its environment with, and the environment's folder

A script that make starts before any environment exists: any Python from 3.8 on runs it, with no packages.
From the environment: LANE and PYTHON, what the user asks for.
"""

from __future__ import annotations

import glob
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Version = tuple  # of ints, such as (3, 13)


@dataclass(frozen=True)
class Lane:
    """A tested set.

    Attributes:
        pythons: versions of Python that it runs on, the one to prefer first.
        symbols: versions of symbols that the C and C++ libraries must have; what the set's native parts link to.
        environment: its folder.
    """

    pythons: tuple[Version, ...]
    symbols: tuple[str, ...]
    environment: str


# The lane to prefer first. GLIBC_2.38 is TFDV's need, the others ml-metadata's.
LANES = {
    "tfx-1.21": Lane(((3, 13), (3, 12), (3, 11)), ("GLIBC_2.38", "GLIBCXX_3.4.32", "CXXABI_1.3.15"), ".venv-tfx-1.21"),
    "tfx-1.16": Lane(((3, 10),), (), ".venv"),
}
SYMBOLS = tuple(symbol for lane in LANES.values() for symbol in lane.symbols)


@dataclass(frozen=True)
class Interpreter:
    """A Python of this machine.

    Attributes:
        path: of the program.
        version: such as (3, 13).
        symbols: those of `SYMBOLS` that the libraries which it loads have.
    """

    path: str
    version: Version
    symbols: frozenset[str]


class NoLaneError(ValueError):
    """No lane fits; the message is one line with what is missing."""


def choose(found: Sequence[Interpreter], lane: str = "", python: str = "", machine: str = "x86_64") -> tuple[str, str]:
    """Returns the lane and the path of the Python for it: the first lane, and in it the newest Python, that fits.

    Args:
        found: this machine's; where `python` is given, that one alone.
        lane: the one that the user asks for, or none.
        python: how the user named the Python, or nothing.
        machine: the processor's kind.

    Raises:
        NoLaneError: none fits.
    """
    if machine != "x86_64":
        raise NoLaneError(f"this machine is {machine}; TensorFlow Extended is released for x86-64 Linux alone")
    if lane and lane not in LANES:
        raise NoLaneError(f"LANE is '{lane}'; use {' or '.join(LANES)}")
    if python and not found:
        raise NoLaneError(f"PYTHON is '{python}', which is no Python that runs here; give the path of one")
    missing = []
    for name in [lane] if lane else LANES:
        fitting = [item for item in found if item.version in LANES[name].pythons]
        for item in sorted(fitting, key=lambda item: item.version, reverse=True):
            if item.symbols.issuperset(LANES[name].symbols):
                return name, item.path
        missing.append(f"{name} needs {_what_is_missing(LANES[name], fitting, found if python else ())}")
    raise NoLaneError(f"{'; '.join(missing)}. Install that, or name another Python: make PYTHON=/path/to/python3 ...")


def _what_is_missing(lane: Lane, fitting: Sequence[Interpreter], named: Sequence[Interpreter]) -> str:
    if fitting:
        newest = max(fitting, key=lambda item: item.version)
        symbols = [symbol for symbol in lane.symbols if symbol not in newest.symbols]
        return f"{', '.join(symbols)} in the libraries that {newest.path} loads (Debian 13 and Ubuntu 24.04 have them)"
    versions = " or ".join(map(_dotted, sorted(lane.pythons)))
    if named:
        return f"Python {versions}, and {named[0].path} is {_dotted(named[0].version)}"
    wanted = _dotted(lane.pythons[0])
    return f"Python {versions} (apt install python{wanted} python{wanted}-venv, or pyenv install {wanted})"


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


# What a Python says of itself: its version, and what is in the libraries that it has loaded.
_PROBE = """
import ctypes, json, sys
for name in ("libc.so.6", "libstdc++.so.6"):
    try:
        ctypes.CDLL(name)
    except OSError:
        pass
with open("/proc/self/maps") as maps:
    paths = {line.split()[-1] for line in maps if "/libc.so" in line or "/libc-" in line or "/libstdc++.so" in line}
content = b"".join(open(path, "rb").read() for path in sorted(paths))
symbols = [symbol for symbol in sys.argv[1:] if b"\\0" + symbol.encode() + b"\\0" in content]
print(json.dumps([sys.implementation.name, list(sys.version_info[:2]), symbols]))
"""


def find_interpreters(python: str = "", environ: Mapping[str, str] = os.environ) -> list[Interpreter]:
    """Returns this machine's Pythons: those on the PATH, pyenv's and uv's; where `python` is given, that one alone."""
    names = [f"python{_dotted(version)}" for lane in LANES.values() for version in lane.pythons]
    paths = [python] if python else [*names, "python3", *_managed(environ)]
    found: dict[str, Interpreter] = {}
    for name in paths:
        path = shutil.which(name, path=environ.get("PATH"))
        if path and path not in found and (item := probe(path)):
            found[path] = item
    return list(found.values())


def _managed(environ: Mapping[str, str]) -> Iterator[str]:
    """Yields the Pythons of pyenv and uv, whose programs on the PATH may choose another version, or none."""
    home = environ.get("HOME", "/nonexistent")
    pyenv = environ.get("PYENV_ROOT", f"{home}/.pyenv")
    for lane in LANES.values():
        for version in lane.pythons:
            dotted = _dotted(version)
            yield from sorted(glob.glob(f"{pyenv}/versions/{dotted}.*/bin/python{dotted}"))
            yield from sorted(glob.glob(f"{home}/.local/share/uv/python/cpython-{dotted}.*/bin/python{dotted}"))


def probe(path: str) -> Interpreter | None:
    """Asks a Python what it is; None where it does not run, as pyenv's stand-in for a version that is not chosen."""
    try:
        done = subprocess.run(
            [path, "-I", "-c", _PROBE, *SYMBOLS], capture_output=True, text=True, timeout=60, check=True
        )
        implementation, version, symbols = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Interpreter(path, tuple(version), frozenset(symbols)) if implementation == "cpython" else None


def main(environ: Mapping[str, str] = os.environ, find: Callable[..., list[Interpreter]] = find_interpreters) -> int:
    """Prints the choice, or in one line why there is none.

    Returns:
        0, or 2 where no lane fits.
    """
    python = environ.get("PYTHON", "")
    try:
        lane, path = choose(find(python), environ.get("LANE", ""), python, platform.machine())
    except NoLaneError as error:
        print(f"error: {error}")
        return 2
    print(lane, path, LANES[lane].environment)
    return 0


if __name__ == "__main__":
    sys.exit(main())
