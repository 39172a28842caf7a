"""A folder of images: one sub-folder a class, with folders for declared splits above them or none."""

import hashlib
import itertools
import logging
import os
import re
import unicodedata
from dataclasses import dataclass

import apache_beam as beam
import tensorflow as tf

from data.class_names import read_folder_names
from data.errors import UserError
from data.files import FileEntry, Tree, list_names, list_tree, read_bytes
from data.settings import DataSettings, SplitFolders
from data.sources.source import ReadAll, SourceImage

_LOGGER = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".avif", ".heic", ".heif")
# What lies beside images: notes, tables and annotations; what cameras, telephones and editors write with a picture;
# what desktops leave behind. All else in a class folder is taken for an image, so that what cannot be used is named in
# the quarantine list, not left out unseen.
_SIDE_FILE = re.compile(
    r"\.(txt|csv|tsv|jsonl?|xml|ya?ml|toml|md|html?|css|js|db|sqlite|ini|cfg|py|ipynb|sh|log|out|err"
    r"|pdf|docx?|xlsx?|pptx?|rtf|od[ts]|zip|tar|gz|tgz|bz2|xz|7z|rar|md5|sha1|sha256|sfv"
    r"|xmp|aae|thm|pp3|dop|mov|mp4|m4v|avi|mkv|webm|m2?ts|3gp|mpe?g|wmv|lrv|wav|mp3|m4a|aac"
    r"|lnk|url|webloc|bak|tmp|part|crdownload)$",
    re.IGNORECASE,
)

# What people call splits, whatever `data.split_folders` names.
_SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing"}


@dataclass(frozen=True)
class ImageFile:
    """One file of the folder.

    Attributes:
        path: relative to the root, with `/`.
        label: class name, "" outside of a class folder.
        split: as its folder declares it, else None.
        problem: why it cannot be used, as far as the listing shows, else None.
    """

    path: str
    label: str
    split: str | None
    problem: str | None


class ImageFolderSource:
    """`<class>/**/*` or `<split>/<class>/**/*` (`SplitFolders` names the splits), local or in a bucket."""

    def __init__(self, settings: DataSettings) -> None:
        """Keeps the settings; `settings.path` is the root."""
        self._settings = settings

    @staticmethod
    def lies_at(path: str) -> bool:
        """See `Source`: any folder that holds one."""
        gfile = tf.io.gfile
        return gfile.isdir(path) and any(gfile.isdir(gfile.join(path, name)) for name in list_names(path))

    def fingerprint(self) -> str:
        """See `Source`: hashes each file's path (so its class and split), size and time."""
        tree = list_tree(self._root)
        self._images(tree)
        digest = hashlib.sha256()
        for file in tree.files:
            digest.update(f"{file.path}\0{file.size}\0{file.mtime_ns}\0".encode())
        if self._settings.class_names:
            digest.update(read_bytes(self._settings.class_names))
        return digest.hexdigest()

    def prepare(self) -> list[str]:
        """See `Source`."""
        tree = list_tree(self._root)
        self._images(tree)
        return sorted([*tree.ignored, *(file.path for file in tree.files if _SIDE_FILE.search(file.path))])

    def read(self) -> beam.PTransform:
        """See `Source`."""
        return ReadAll(self.list_images, _path_of, self._read_image)

    def list_images(self) -> list[ImageFile]:
        """Returns all images, shuffled by the hash of their paths: training reads no class after the other.

        Raises:
            UserError: the folder is not laid out as class folders.
        """
        return sorted(self._images(list_tree(self._root)), key=lambda image: _hash(image.path))

    @property
    def _root(self) -> str:
        assert self._settings.path is not None  # DataSettings sees to it
        return self._settings.path

    def _images(self, tree: Tree) -> list[ImageFile]:
        splits = _declared_splits(self._root, tree, self._settings.split_folders)
        names = read_folder_names(self._settings.class_names) if self._settings.class_names else None
        images = []
        for file in tree.files:
            if _SIDE_FILE.search(file.path):
                continue
            *folders, _ = file.path.split("/")
            split = None
            if splits is not None:
                if not folders or folders[0] not in splits:
                    continue
                split = splits[folders.pop(0)]
            label = self._class_name(folders[0], names) if folders else ""
            images.append(ImageFile(file.path, label, split, self._problem(file, label)))
        self._check_classes(tree, splits)
        return images

    def _problem(self, file: FileEntry, label: str) -> str | None:
        if not label:
            return "lies outside of the class folders"
        if file.size < 0:
            return "cannot be opened: a broken link, a pipe or device, or a name that is not UTF-8"
        # Eight bytes a pixel is the most that any supported format needs; reading more could exhaust the memory.
        if file.size > 8 * self._settings.max_pixels + 2**20:
            return f"{file.size:,} bytes, more than {self._settings.max_pixels:,} pixels (data.max_pixels) can take"
        return None

    def _class_name(self, folder: str, names: dict[str, str] | None) -> str:
        if names is None:
            # macOS takes names apart (NFD); the same class must not become two where splits come from two machines.
            return unicodedata.normalize("NFC", folder)
        if folder not in names:
            raise UserError(
                f"data.class_names: {self._settings.class_names} has no line for the class folder {folder!r}; add one"
            )
        return names[folder]

    def _check_classes(self, tree: Tree, splits: dict[str, str] | None) -> None:
        used = {file.path for file in tree.files if not _SIDE_FILE.search(file.path)}
        if splits is None:
            class_folders = [folder for folder in tree.folders if "/" not in folder]
            if not class_folders:
                raise UserError(
                    f"data.path is {self._root}, which holds {len(used)} files and no class folder;"
                    " put each image into a folder named after its class"
                )
        else:
            class_folders = [folder for folder in tree.folders if folder.count("/") == 1 and _top(folder) in splits]
            for split_folder in splits:
                if split_folder not in map(_top, class_folders):
                    raise UserError(
                        f"data.path: {os.path.join(self._root, split_folder)} holds no class folder;"
                        f" put its images into {split_folder}/<class>/, or remove it"
                    )
        depth = 1 if splits is None else 2
        filled = {"/".join(path.split("/")[:depth]) for path in used}
        for folder in class_folders:
            if folder not in filled:
                raise UserError(
                    f"the class folder {os.path.join(self._root, folder)} holds no image; add some, or remove it"
                )

    def _read_image(self, image: ImageFile) -> list[SourceImage]:
        problem, encoded = image.problem, b""
        if problem is None:
            try:
                encoded = read_bytes(f"{self._root.rstrip('/')}/{image.path}")
            except (tf.errors.OpError, OSError) as error:
                problem = f"cannot be read: {type(error).__name__}"
        return [SourceImage(image.path, image.label, image.split, encoded, problem)]


def _declared_splits(root: str, tree: Tree, split_folders: SplitFolders) -> dict[str, str] | None:
    """Returns top folder -> split, or None where the top folders are classes.

    A folder `train` declares splits if it holds folders, and either no image or lies beside another split that holds
    folders: a class of railway pictures has that name too.

    Raises:
        UserError: beside `train` lies a folder that is no split, or splits under other names would become classes.
    """
    splits = split_folders.meanings()
    top_folders = [folder for folder in tree.folders if "/" not in folder]
    with_images = {
        _top(f.path) for f in tree.files if f.path.count("/") == 1 and f.path.lower().endswith(IMAGE_SUFFIXES)
    }
    with_folders = {_top(folder) for folder in tree.folders if "/" in folder}
    found = {splits[folder.casefold()] for folder in with_folders if folder.casefold() in splits}
    is_split = found > {"train"} or any(splits.get(f.casefold()) == "train" for f in with_folders - with_images)
    if not is_split:
        _refuse_unnamed_splits(root, tree, split_folders)
        return None
    declared = {}
    usual = SplitFolders().meanings()
    for folder in top_folders:
        if folder.casefold() in splits:
            declared[folder] = splits[folder.casefold()]
        elif folder.casefold() in usual:  # ImageNet's `test` has no labels: its preset leaves it out.
            _LOGGER.warning("%s/%s is left out: data.split_folders does not name it", root, folder)
        else:
            raise UserError(
                f"data.path: {os.path.join(root, folder)} lies beside a folder of train images and names no split;"
                f" remove it, or name it in data.split_folders (known: {', '.join(splits)})"
            )
    return declared


def _refuse_unnamed_splits(root: str, tree: Tree, split_folders: SplitFolders) -> None:
    """Raises a UserError where two top folders are called like splits and have two or more folders in common.

    By their names, since classes may well share folders: `cat/2023`, `cat/2024`, `dog/2023`, `dog/2024`.
    """
    below: dict[str, set[str]] = {}
    for folder in tree.folders:
        top, *inner = folder.split("/")
        if len(inner) == 1 and top.casefold() in _SPLIT_NAMES:
            below.setdefault(top, set()).add(inner[0])
    for one, other in itertools.combinations(below, 2):
        shared = sorted(below[one] & below[other])
        if len(shared) > 1:
            known = "; ".join(f"{split}: {', '.join(names) or '-'}" for split, names in split_folders)
            raise UserError(
                f"data.path: {one} and {other} in {root} look like splits, since both hold {shared[0]!r} and"
                f" {shared[1]!r}; name each in data.split_folders, the one to train on as train (known: {known}), or"
                " rename them if they are classes"
            )


def _top(path: str) -> str:
    return path.split("/", 1)[0]


def _hash(path: str) -> bytes:
    return hashlib.sha256(path.encode()).digest()


def _path_of(image: ImageFile) -> str:
    return image.path
