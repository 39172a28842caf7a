"""The images of a place that are to be scored: found as training finds them, with labels or without."""

import hashlib
import os
import posixpath
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pooch

from data import gfile
from data.detect import settings_for_path
from data.errors import UserError
from data.features import normal_form
from data.files import is_remote, list_tree, stat_file
from data.settings import UnlabelledDataSettings
from data.source_kinds import SOURCES
from data.sources.archive import unpack, without_wrappers
from data.sources.image_file import ImageFile, find_problem, read_image
from data.sources.image_folder import SIDE_FILE
from data.sources.reading import ReadAll, ReadInOrder, parts_of
from data.sources.source import SourceImage
from data.spans import newest_path

ReadFn = Callable[[Any], Iterable[SourceImage]]


@dataclass(frozen=True)
class FoundImages:
    """What is to be scored, nothing of it read yet.

    Attributes:
        place: for people.
        references: image files, and files or parts of files that hold several images; in a fixed order.
        read_fn: a reference -> its `SourceImage`s; pickles.
        fingerprint: hexadecimal; changes when any image may have changed.
    """

    place: str
    references: Sequence[Any]
    read_fn: ReadFn
    fingerprint: str


def is_one_image(reference: Any) -> bool:
    """Says whether a reference is one image, not a file that holds several."""
    return isinstance(reference, ImageFile)


def find_images(places: Sequence[str], settings: UnlabelledDataSettings, classes: Collection[str]) -> FoundImages:
    """Finds images.

    Args:
        places: one folder, table, archive, file of records or glob of them, local, `gs://` or `s3://`; or image files.
        settings: of the data section: how tables and records are read, and the largest image.
        classes: of the model: a folder of such a name gives its images their label.

    Raises:
        UserError: there is no such place, several are given, or it holds no image.
    """
    if len(places) == 1 and not _is_image_file(places[0]):
        found = _find_in(newest_path(places[0]), settings, classes)
    else:
        if other := next((place for place in places if not _is_image_file(place)), None):
            raise UserError(f"{other} is no image file; give one folder, table or archive, or image files alone")
        files = [stat_file(os.path.abspath(place) if not is_remote(place) else place) for place in places]
        images = [ImageFile(file.path, "", None, find_problem(file, settings.max_pixels)) for file in files]
        found = FoundImages(f"{len(images):,} files", images, partial(_read_file, root="/"), _hash(files))
    if not found.references:
        raise UserError(f"{found.place} holds no image; give a folder, table or archive of images")
    return found


def _is_image_file(path: str) -> bool:
    """Says whether a path is a file that no source reads: then it is taken for an image, and said so if it is none."""
    if not gfile.exists(path) or gfile.isdir(path):
        return False
    return not any(kind.load().lies_at(path) for kind in SOURCES.values() if kind.place)


def _find_in(path: str, settings: UnlabelledDataSettings, classes: Collection[str]) -> FoundImages:
    kind = next((name for name, kind in SOURCES.items() if kind.place and kind.load().lies_at(path)), None)
    if kind == "archive":
        return _find_in_archive(path, settings, classes)
    if kind == "image_folder" or (kind is None and gfile.isdir(path)):
        return _find_in_folder(path, settings, classes)
    if kind is None:
        settings_for_path(path)  # Says why.
        raise UserError(f"{path} is of no kind that can be read")
    # What a table names is looked for beside it, for which a bare name has no folder.
    place = path if is_remote(path) else os.path.abspath(path)
    source = SOURCES[kind].load()(settings.model_copy(update={"source": kind, "path": place}))
    fingerprint = source.fingerprint()
    source.prepare()
    (reading,) = parts_of(source.read())
    if isinstance(reading, ReadInOrder):
        return FoundImages(path, [None], _Alone(reading.read_fn), fingerprint)
    assert isinstance(reading, ReadAll)
    return FoundImages(path, list(reading.list_fn()), reading.read_fn, fingerprint)


def _find_in_archive(path: str, settings: UnlabelledDataSettings, classes: Collection[str]) -> FoundImages:
    if is_remote(path):
        raise UserError(f"{path} is an archive that is not on this machine; unpack it there or here")
    folder = str(unpack(path, Path(pooch.os_cache("image_classifier")) / "archives"))
    try:
        inside = _find_in(without_wrappers(folder), settings, classes)
    except UserError as mistake:  # Nobody knows the folder.
        raise UserError(str(mistake).replace(folder, path), mistake.facts) from mistake
    return FoundImages(path, inside.references, inside.read_fn, inside.fingerprint)


def _find_in_folder(root: str, settings: UnlabelledDataSettings, classes: Collection[str]) -> FoundImages:
    files = [file for file in list_tree(root).files if not SIDE_FILE.search(file.path)]
    images = [
        ImageFile(file.path, _label_of(file.path, classes), None, find_problem(file, settings.max_pixels))
        for file in files
    ]
    return FoundImages(root, images, partial(_read_file, root=root), _hash(files))


def _label_of(path: str, classes: Collection[str]) -> str:
    """Returns the innermost folder that is called like a class of the model; "" where none is."""
    folders = map(normal_form, reversed(posixpath.dirname(path).split("/")))
    return next((folder for folder in folders if folder in classes), "")


def _hash(files: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.path}\0{file.size}\0{file.mtime_ns}\0".encode())
    return digest.hexdigest()


def _read_file(image: ImageFile, root: str) -> list[SourceImage]:
    return [read_image(image, root)]


@dataclass(frozen=True)
class _Alone:
    """A reading that takes no reference."""

    read_fn: Callable[[], Iterable[SourceImage]]

    def __call__(self, _: None) -> Iterable[SourceImage]:
        return self.read_fn()
