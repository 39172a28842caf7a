"""A ZIP or tar archive of images: unpacked once, then a folder."""

import contextlib
import errno
import hashlib
import os
import posixpath
import re
import shutil
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import apache_beam as beam
import pooch

from data.detect import settings_for_path
from data.errors import UserError
from data.files import is_remote, list_names, remove_path, stat_file
from data.settings import DataSettings
from data.sources.image_folder import ImageFolderSource
from data.sources.relabelled import read_notes
from data.sources.source import Source
from data.sources.table import TableSource
from data.sources.tfrecords import TFRecordSource

_NAME = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)
_UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError)
# By class, not by their names in the table: a node's cache key covers the code that it reaches by imports.
_INSIDE: Mapping[str, Callable[[DataSettings], Source]] = {
    "image_folder": ImageFolderSource,
    "table": TableSource,
    "tfrecords": TFRecordSource,
}


class ArchiveSource:
    """What lies in an archive, as if it lay in a folder; a folder around all of it does not count."""

    def __init__(self, settings: DataSettings) -> None:
        """Keeps the settings; `settings.path` is the archive, on this machine."""
        self._settings = settings
        self._source: Source | None = None

    @staticmethod
    def lies_at(path: str) -> bool:
        """See `Source`: by its name, and on this machine by its beginning."""
        if not _NAME.search(path):
            return False
        return is_remote(path) or (os.path.isfile(path) and (zipfile.is_zipfile(path) or tarfile.is_tarfile(path)))

    def fingerprint(self) -> str:
        """See `Source`: the archive's size and time."""
        file = stat_file(self._path)
        return hashlib.sha256(f"{file.size} {file.mtime_ns}".encode()).hexdigest()

    def prepare(self) -> Sequence[str]:
        """See `Source`: unpacks the archive, unless one of the same content was unpacked before."""
        folder = unpack(self._path, archives_cache())
        try:
            inside = settings_for_path(without_wrappers(str(folder)))
            self._source = _INSIDE[inside["source"]](self._settings.model_copy(update=inside))
            self._source.fingerprint()
            return self._source.prepare()
        except UserError as mistake:  # Nobody knows the folder.
            raise UserError(str(mistake).replace(str(folder), self._path), mistake.facts) from mistake

    def notes(self) -> Sequence[str]:
        """See `Source`."""
        return read_notes(self._source) if self._source else []

    def read(self) -> beam.PTransform:
        """See `Source`."""
        assert self._source is not None, "prepare comes first"
        return self._source.read()

    @property
    def _path(self) -> str:
        assert self._settings.path is not None  # DataSettings sees to it
        return self._settings.path


def archives_cache() -> Path:
    """Returns the folder of the user's cache that holds all that was unpacked."""
    return Path(pooch.os_cache("image_classifier")) / "archives"


def find_unused(cache: Path, days: int) -> list[Path]:
    """Returns what was unpacked, wholly or in part, and that nobody has asked `unpack` for in so many days."""
    before = time.time() - days * 86_400
    found = []
    for path in cache.iterdir() if cache.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # unpacked to its end, or removed, meanwhile
            if path.stat().st_mtime < before:
                found.append(path)
    return sorted(found)


def unpack(path: str, cache: Path) -> Path:
    """Unpacks an archive into a folder of the cache that is named after its content, whole or not at all.

    The folder's time is that of the latest call.

    Raises:
        UserError: it cannot be read, is encrypted, has a name outside of itself, or needs more room than there is.
    """
    try:
        folder = cache / pooch.file_hash(path)
        if folder.is_dir():
            os.utime(folder)
            return folder
        part = cache / f"{folder.name}.{os.getpid()}.part"
        try:
            part.mkdir(parents=True, exist_ok=True)
            (_unpack_zip if zipfile.is_zipfile(path) else _unpack_tar)(path, part)
            with contextlib.suppress(FileExistsError):  # another run was faster
                os.rename(part, folder)
            os.utime(folder)  # which an archive can set
        finally:
            remove_path(str(part))
        return folder
    except _UNREADABLE as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = " ".join(str(error).split())
        raise UserError(f"data.path is {path}, which cannot be unpacked into {cache}: {reason}") from error


def _unpack_zip(path: str, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        for member in members:
            name = member.filename.replace("\\", "/")
            if name.startswith("/") or ".." in name.split("/") or re.match("[A-Za-z]:", name):
                raise UserError(f"data.path is {path}, which holds {member.filename}, outside of itself; pack it anew")
            if member.flag_bits & 1:
                raise UserError(f"data.path is {path}, which is encrypted; unpack it, and give the folder")
        _check_room(path, folder, sum(member.file_size for member in members))
        archive.extractall(folder)


def _unpack_tar(path: str, folder: Path) -> None:
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        _check_room(path, folder, sum(member.size for member in members))
        try:
            # Refuses names and links that lead outside, and devices.
            archive.extractall(folder, members, filter="data")
        except tarfile.FilterError as error:
            raise UserError(
                f"data.path is {path}, which holds {error.tarinfo.name}, outside of itself or no file; pack it anew"
            ) from error


def _check_room(path: str, folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(
            f"data.path is {path}, which unpacks to {size / 2**30:.1f} GiB, and {folder.parent} has room for"
            f" {free / 2**30:.1f}; free some, or unpack it elsewhere and give the folder"
        )


def without_wrappers(folder: str) -> str:
    """Returns the folder, or the one in it, as often as there is nothing else."""
    while len(names := list_names(folder)) == 1 and os.path.isdir(inner := posixpath.join(folder, names[0])):
        folder = inner
    return folder
