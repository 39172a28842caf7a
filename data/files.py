"""Lists, reads and removes files, on this machine and in a bucket."""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import IO

import tensorflow as tf

from data import gfile
from data.errors import UserError

# What systems, disk stations and tools leave in folders, in lower case: bins, thumbnails, what checking a disk found.
_LEFT_BEHIND = frozenset(
    {
        *("__macosx", "network trash folder", "temporary items", "thevolumesettingsfolder"),  # macOS
        *("$recycle.bin", "recycler", "system volume information", "found.000", "$winreagent"),  # Windows
        *("lost+found", "lost.dir"),  # Linux, Android
        *("@eadir", "@tmp", "#recycle", "#snapshot"),  # Synology
        *("@recycle", "@recently-snapshot", "@sharebin"),  # QNAP and others
        "__pycache__",
    }
)


READ_SCHEMES = ("gs", "s3")
"""Of the places that images are read from, beside this machine."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a tree.

    Attributes:
        path: relative to the tree's root, with `/`.
        size: bytes; -1 where it cannot be opened: a broken link, a pipe or device (whose end may never come), or a name
            that is not UTF-8.
        mtime_ns: time of the last change, nanoseconds; of S3 the seconds, and a hash of the content's ETag.
    """

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Tree:
    """All files and folders below a root, each sorted by path.

    Attributes:
        files: with their sizes.
        folders: all but the root.
        ignored: hidden files and folders (`.name`), and what systems leave behind; what lies below is not listed.
    """

    files: tuple[FileEntry, ...]
    folders: tuple[str, ...]
    ignored: tuple[str, ...]


def is_remote(path: str) -> bool:
    """Says whether the path names a place such as `gs://bucket/images`."""
    return "://" in path


def has_glob(path: str) -> bool:
    """Says whether a path is a pattern for several files."""
    return any(character in path for character in "*?[")


def list_names(folder: str) -> list[str]:
    """Returns the names in a folder, in no order, but for hidden ones and what systems leave behind."""
    return [name for given in gfile.listdir(folder) if not is_left_behind(name := given.rstrip("/"))]


def list_tree(root: str) -> Tree:
    """Lists a folder with all its sub-folders.

    Local: links are followed. Remote: a bucket has no empty folders.

    Raises:
        UserError: there is no such folder, or it cannot be read.
    """
    try:
        files, folders, ignored = _list_remote(root) if is_remote(root) else _list_local(root)
    except FileNotFoundError as error:
        raise UserError(f"data.path is {root}, which does not exist; give a folder of images") from error
    except NotADirectoryError as error:
        raise UserError(f"data.path is {root}, which is a file; give a folder of images") from error
    except (OSError, ValueError) as error:  # Beam's errors among them: no such bucket, no rights, unknown scheme
        raise UserError(f"data.path is {root}, which cannot be listed: {' '.join(str(error).split())}") from error
    return Tree(tuple(sorted(files, key=lambda file: file.path)), tuple(sorted(folders)), tuple(sorted(ignored)))


def list_files(folders: Iterable[str]) -> dict[str, FileEntry]:
    """Lists the files of folders, hidden ones too, and of those in a bucket all below.

    Returns:
        Absolute path, or with its `gs://`, -> entry, with that path. A folder that is not there has no files.

    Raises:
        UserError: one cannot be listed.
    """
    found: dict[str, FileEntry] = {}
    for folder in folders:
        try:
            if is_remote(folder):
                listed = [replace(file, path=f"{folder}/{file.path}") for file in _list_remote(folder)[0]]
            else:
                with os.scandir(folder) as entries:
                    listed = [_entry(entry, entry.path) for entry in entries if not _is_folder(entry)]
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            raise UserError(f"{folder} cannot be listed: {' '.join(str(error).split())}; images lie there") from error
        found.update((file.path, file) for file in listed)
    return found


def is_left_behind(name: str) -> bool:
    """Says whether a file or folder is a hidden one, or one that systems leave behind."""
    return name.startswith(".") or name.casefold() in _LEFT_BEHIND


def _list_local(root: str) -> tuple[list[FileEntry], list[str], list[str]]:
    files: list[FileEntry] = []
    folders: list[str] = []
    ignored: list[str] = []
    pending: list[tuple[str, frozenset]] = [("", frozenset())]
    while pending:
        folder, above = pending.pop()
        absolute = os.path.join(root, folder)
        status = os.stat(absolute)
        identity = (status.st_dev, status.st_ino)
        if identity in above:  # A link to a folder that this one lies in: following it would never end.
            continue
        with os.scandir(absolute) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if is_left_behind(entry.name):
                    ignored.append(_printable(path))
                elif _is_folder(entry):
                    if not _is_utf8(path):
                        raise UserError(f"data.path holds the folder {_printable(path)}, not in UTF-8; rename it")
                    folders.append(path)
                    pending.append((path, above | {identity}))
                else:
                    files.append(_entry(entry, path))
    return files, folders, ignored


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link to itself, or one through a closed folder: as broken as one to nowhere.
        return False


def _entry(entry: os.DirEntry, path: str) -> FileEntry:
    try:
        status = entry.stat()
    except OSError:
        status = None
    if status is None or not stat.S_ISREG(status.st_mode) or not _is_utf8(path):
        return FileEntry(_printable(path), -1, 0)
    return FileEntry(path, status.st_size, status.st_mtime_ns)


def _is_utf8(path: str) -> bool:
    return _printable(path) == path


def _printable(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _find_remote(root: str) -> Iterator[FileEntry]:
    """Yields the files below a folder in one listing, since a call for each would take hours for a million files."""
    if gfile.is_s3(root):
        yield from (FileEntry(*found) for found in gfile.list_below(root))
        return
    from apache_beam.io.filesystems import FileSystems

    prefix = root.rstrip("/") + "/"
    for match in FileSystems.match([prefix + "**"])[0].metadata_list:
        time_ns = int((match.last_updated_in_seconds or 0) * 1e9)
        yield FileEntry(match.path.removeprefix(prefix), match.size_in_bytes, time_ns)


def _list_remote(root: str) -> tuple[list[FileEntry], list[str], list[str]]:
    files = []
    folders: set[str] = set()
    ignored: set[str] = set()
    for file in _find_remote(root):
        parts = file.path.split("/")
        # "folder/" objects of size 0 are how consoles show an empty folder.
        if not parts[-1]:
            continue
        if not all(parts):  # `a//b.png`, which no folder can hold
            ignored.add(file.path)
            continue
        if depth := next((i for i, part in enumerate(parts, 1) if is_left_behind(part)), None):
            ignored.add("/".join(parts[:depth]))
            folders.update("/".join(parts[:i]) for i in range(1, depth))
            continue
        files.append(file)
        folders.update("/".join(parts[:i]) for i in range(1, len(parts)))
    if not files:
        raise FileNotFoundError(root)
    return files, list(folders), list(ignored)


def stat_file(path: str) -> FileEntry:
    """Returns size and time of one file, with its path as given.

    Raises:
        UserError: there is no such file.
    """
    try:
        status = gfile.stat(path)
    except tf.errors.OpError as error:
        raise UserError(f"data.path is {path}, which cannot be read ({type(error).__name__}); give a file") from error
    if status.is_directory:
        raise UserError(f"data.path is {path}, which is a folder; give a file")
    return FileEntry(path, status.length, status.mtime_nsec)


def open_binary(path: str) -> IO[bytes]:
    """Opens a file for reading.

    Raises:
        OSError: a local file cannot be read; of a remote one, tf.errors.OpError at the first read; UserError of S3.
    """
    # A local image is read in a third of gfile's time, which counts where images are small.
    return gfile.open_binary(path) if is_remote(path) else open(path, "rb")


def read_bytes(path: str) -> bytes:
    """Returns a file's bytes.

    Raises:
        OSError, tf.errors.OpError: it cannot be read.
        UserError: S3 cannot be reached, or does not let it be read.
    """
    if is_remote(path):
        return gfile.read_bytes(path)
    with open(path, "rb") as file:
        return file.read()


def read_lines(path: str) -> list[str]:
    """Returns the lines of a UTF-8 text file, up to the last that is not blank, without white space at their ends.

    Raises:
        OSError, tf.errors.OpError: it cannot be read.
        UnicodeDecodeError: it is not UTF-8.
    """
    # Not splitlines: it also parts lines at characters that only look like an end, such as U+2028.
    return [line.strip() for line in read_bytes(path).decode("utf-8-sig").rstrip().split("\n")]


def remove_path(path: str) -> None:
    """Removes a file or a folder with all that is in it, local or remote, if it is there."""
    with contextlib.suppress(tf.errors.NotFoundError):  # somebody else removes it, too
        if gfile.isdir(path):
            gfile.rmtree(path)
        else:
            gfile.remove(path)
