"""Where the files lie that a table's rows name: tables come from other machines, tools and buckets."""

import os
import posixpath
import re
import urllib.parse
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from functools import partial

from data.errors import UserError
from data.features import normal_form
from data.files import READ_SCHEMES, FileEntry, is_remote, list_files, list_tree
from data.folder_layout import IMAGE_SUFFIXES
from data.tables import label_studio

_FEW = 20
"""Folders of a bucket that are listed one by one; of more, all that lies below their common one is listed at once."""


_MISSING = "no such file"


def find_files(
    paths: Collection[str], base: str, uri_map: Mapping[str, str]
) -> tuple[dict[str, FileEntry | str], dict[str, FileEntry]]:
    """Finds the files of a table's rows.

    Args:
        paths: as the rows have them.
        base: the table's folder.
        uri_map: beginning of a path -> what stands for it.

    Returns:
        Path -> its file, with its whole path, or why there is none; and the same by whole path of all files that were
        listed on the way.

    Raises:
        UserError: a path is of a service that cannot be read, or a folder cannot be listed.
    """
    mapping = {key.replace("\\", "/").rstrip("/"): value.rstrip("/") for key, value in uri_map.items()}
    # Twice, and not kept: of a million rows they would take more room than all else.
    candidates = partial(_candidates, base=base, uri_map=mapping)
    folders = {posixpath.dirname(candidate) for path in paths for candidate in candidates(path)}
    listed = list_files(_few_folders(folders))
    places: dict[str, FileEntry | str] = {
        path: next((listed[candidate] for candidate in candidates(path) if candidate in listed), _MISSING)
        for path in paths
    }
    missing = {path: _names(path, candidates(path), base) for path, place in places.items() if place == _MISSING}
    if any(missing.values()):
        below = [file for file in list_tree(base).files if file.path.lower().endswith(IMAGE_SUFFIXES)]
        whole = {file.path: FileEntry(_join(base, file.path), file.size, file.mtime_ns) for file in below}
        listed.update((file.path, file) for file in whole.values())
        index = _index(whole, {name for names in missing.values() for name in names})
        places.update((path, _look_up(names, index, whole)) for path, names in missing.items())
    return places, listed


def _index(below: Iterable[str], wanted: Set[str]) -> dict[str, list[str]]:
    """Returns name -> the files that are called so, of names that are wanted."""
    index = defaultdict(list)
    for path in below:
        known = normal_form(path)
        name = known.rpartition("/")[2]
        for key in {known, os.path.splitext(known)[0], name, os.path.splitext(name)[0]}:
            if key in wanted:
                index[key].append(path)
    return index


def _look_up(names: Iterable[str], index: Mapping[str, list[str]], below: Mapping[str, FileEntry]) -> FileEntry | str:
    for name in names:
        found = index.get(name, [])
        if len(found) == 1:
            return below[found[0]]
        if found:
            return f"{len(found)} files are called so, such as {' and '.join(sorted(found)[:2])}"
    return _MISSING


def _candidates(path: str, base: str, uri_map: Mapping[str, str]) -> list[str]:
    """Returns where a path may lie, the likeliest place first."""
    return list(dict.fromkeys(whole for form in _forms(path) for whole in _absolute(form, base, uri_map)))


def _names(path: str, candidates: Iterable[str], base: str) -> list[str]:
    """Returns what to look for below the table's folder: paths relative to it, and bare names."""
    above = f"{base.rstrip('/')}/"
    names = [whole.removeprefix(above) for whole in candidates if whole.startswith(above)]
    for form in _forms(path):
        if form.startswith(label_studio.UPLOADS):
            name = form.rpartition("/")[2]
            names += [name, label_studio.without_prefix(name)]
        elif "/" not in form:
            names.append(form)
    return list(dict.fromkeys(map(normal_form, names)))


def _forms(path: str) -> list[str]:
    """Returns a path as it is, with slashes for backslashes, and without percent signs; the first there counts."""
    if "\\" not in path and "%" not in path:
        return [path]
    forms = [path, path.replace("\\", "/")]
    return list(dict.fromkeys([*forms, *map(urllib.parse.unquote, forms)]))


def _absolute(path: str, base: str, uri_map: Mapping[str, str]) -> Iterator[str]:
    """Yields where a path may lie."""
    mapped = next((key for key in sorted(uri_map, key=len, reverse=True) if f"{path}/".startswith(f"{key}/")), None)
    if mapped is not None:
        path = uri_map[mapped] + path[len(mapped) :]
    elif path.startswith(label_studio.LOCAL_FILES):
        path = path.removeprefix(label_studio.LOCAL_FILES).lstrip("/")
        yield from _behind_folder(path, base)
    elif path.startswith(label_studio.UPLOADS):
        path = path.removeprefix(label_studio.UPLOADS)
    elif path.startswith("file:"):
        path = urllib.parse.urlsplit(path).path
    if is_remote(path):
        yield _normalise(path)
    elif path.startswith("/") or re.match(r"[A-Za-z]:/", path):
        yield _normalise(path)
        yield from map(_normalise, _behind_folder(path, base))
    else:
        yield _normalise(_join(base, path))


def _behind_folder(path: str, base: str) -> Iterator[str]:
    """Yields what follows the name of the table's folder in a path of another machine, in this folder."""
    parts = path.split("/")
    name = posixpath.basename(base.rstrip("/"))
    if name in parts[:-1]:
        behind = len(parts) - 1 - parts[-2::-1].index(name)
        yield _join(base, "/".join(parts[behind:]))


def _join(base: str, path: str) -> str:
    return f"{base.rstrip('/')}/{path}"


def _normalise(path: str) -> str:
    """Returns a path without `.`, `..` and double `/`."""
    if not re.search(r"/(/|\.)", path):
        return path
    scheme, separator, rest = path.partition("://")
    # POSIX keeps two slashes at the beginning of a path.
    return f"{scheme}://{posixpath.normpath(rest)}" if separator else re.sub("^//", "/", posixpath.normpath(path))


def refuse_unreadable(path: str, place: str, uri_map: Mapping[str, str]) -> None:
    """Refuses a path of a service that cannot be read.

    Raises:
        UserError: with the setting that says where the images lie instead.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", path)
    if not scheme or scheme[1].lower() in (*READ_SCHEMES, "file"):
        return
    keys = [key.replace("\\", "/").rstrip("/") for key in uri_map]
    if any(f"{path}/".startswith(f"{key}/") for key in keys):
        return
    root = "/".join(path.split("/")[:3])
    raise UserError(
        f"{place} names {path}, and {scheme[1]}:// is not read; copy the images to a folder, or to gs:// or s3://, and"
        f" say where: --set 'data.uri_map={{\"{root}\": FOLDER}}'"
    )


def _few_folders(folders: Collection[str]) -> list[str]:
    """Returns the folders to list: those of a bucket with all below, and never one twice."""
    by_bucket = defaultdict(list)
    local = []
    for folder in sorted(folders):
        if is_remote(folder):
            by_bucket["/".join(folder.split("/")[:3])].append(folder)
        else:
            local.append(folder)
    remote: list[str] = []
    for inside in by_bucket.values():
        if len(inside) > _FEW:
            inside = [posixpath.commonpath(inside).replace(":/", "://", 1)]
        for folder in inside:
            if not remote or not f"{folder}/".startswith(f"{remote[-1]}/"):
                remote.append(folder)
    return [*local, *remote]
