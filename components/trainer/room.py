"""How much memory and disk a cache may take, half of what is free; and what is said where a disk is full after all."""

import os
import shutil
import tempfile
from io import FileIO
from pathlib import Path

import numpy as np

from data.errors import UserError

SHARE = 0.5

MEMINFO = Path("/proc/meminfo")
# Of a container, version 2 and version 1: what it may take, and what it has taken.
CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def usable_memory_bytes(meminfo: Path = MEMINFO, cgroups: tuple[tuple[Path, Path], ...] = CGROUPS) -> int:
    """Returns half of the memory that is available without swapping; 0 where nothing says how much that is.

    Args:
        meminfo: the kernel's file.
        cgroups: files with a container's limit and what it uses of that, the file cache included.
    """
    available = 0
    for line in meminfo.read_text().splitlines() if meminfo.is_file() else []:
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    for limit, used in cgroups:
        limits = limit.read_text().strip() if limit.is_file() and used.is_file() else "max"
        if limits.isdecimal():
            available = min(available, max(0, int(limits) - int(used.read_text())))
    return int(available * SHARE)


def usable_disk_bytes(mounts: Path = Path("/proc/mounts")) -> int:
    """Returns half of what is free in the folder for temporary files (`TMPDIR`); 0 where that lives in memory."""
    folder = tempfile.gettempdir()
    return 0 if _is_in_memory(folder, mounts) else int(shutil.disk_usage(folder).free * SHARE)


def write_array(file: FileIO, array: np.ndarray) -> None:
    """Writes an array's bytes.

    Args:
        file: unbuffered: where there is no space, a buffer would fail once more when the file is closed.
        array: of any type.

    Raises:
        OSError: there is no space.
    """
    # A write that finds some space, but too little, takes a part and raises nothing.
    rest = memoryview(array.tobytes())
    while rest:
        rest = rest[file.write(rest) :]


def keep_array(file: FileIO, array: np.ndarray, content: str, way_out: str) -> None:
    """Writes what a cache holds to its temporary file.

    Args:
        file: as in `write_array`.
        array: of any type.
        content: what it is, for a person.
        way_out: what to set where no disk has the space.

    Raises:
        UserError: there is no space.
    """
    try:
        write_array(file, array)
    except OSError as error:
        raise UserError(
            f"trainer.feature_cache: {tempfile.gettempdir()} has no space for {content} ({error.strerror}); free some, "
            f"point TMPDIR to another disk, or set {way_out}"
        ) from error


def _is_in_memory(folder: str, mounts: Path) -> bool:
    """Tells whether a folder is of a file system that lives in memory, where a cache would only cost twice."""
    path = os.path.realpath(folder)
    kinds = {}
    for line in mounts.read_text(encoding="utf-8").splitlines() if mounts.is_file() else []:
        _, point, kind, *_ = line.split()
        if os.path.commonpath([path, point]) == point:
            kinds[point] = kind
    return kinds.get(max(kinds, key=len, default=""), "") in ("tmpfs", "ramfs")
