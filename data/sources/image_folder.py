"""A folder of images: one sub-folder a class, with folders for declared splits above them or none."""

import hashlib
import os
import re

import apache_beam as beam

from data import gfile
from data.class_names import read_folder_names
from data.errors import UserError
from data.features import normal_form
from data.files import FileEntry, Tree, is_left_behind, list_names, list_tree, read_bytes
from data.folder_layout import declared_splits, refuse_wrapper
from data.settings import DataSettings
from data.sources.image_file import ImageFile, find_problem, mix, path_of, read_image
from data.sources.reading import ReadAll
from data.sources.source import SourceImage
from data.tables.names import find_tables

# What lies beside images: notes, tables and annotations; what cameras, telephones and editors write with a picture;
# what desktops leave behind. All else in a class folder is taken for an image, so that what cannot be used is named in
# the quarantine list, not left out unseen.
SIDE_FILE = re.compile(
    r"\.(txt|csv|tsv|jsonl?|ndjson|parquet|manifest|xml|ya?ml|toml|md|html?|css|js|db|sqlite|ini|cfg|py|ipynb|sh|log|out|err"
    r"|pdf|docx?|xlsx?|pptx?|rtf|od[ts]|zip|tar|gz|tgz|bz2|xz|7z|rar|md5|sha1|sha256|sfv"
    r"|xmp|aae|thm|pp3|dop|mov|mp4|m4v|avi|mkv|webm|m2?ts|3gp|mpe?g|wmv|lrv|wav|mp3|m4a|aac"
    r"|lnk|url|webloc|bak|tmp|part|crdownload)$",
    re.IGNORECASE,
)

_SHOWN_TABLES = 3


class ImageFolderSource:
    """`<class>/**/*` or `<split>/<class>/**/*` (`SplitFolders` names the splits), local or in a bucket."""

    def __init__(self, settings: DataSettings) -> None:
        """Keeps the settings; `settings.path` is the root."""
        self._settings = settings

    @staticmethod
    def lies_at(path: str) -> bool:
        """See `Source`: any folder that holds one."""
        return gfile.isdir(path) and any(not is_left_behind(name) for name in gfile.list_folders(path))

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
        return sorted([*tree.ignored, *(file.path for file in tree.files if SIDE_FILE.search(file.path))])

    def notes(self) -> list[str]:
        """See `Source`: tables, which are not read."""
        return [
            f"{name} is not used: the folders give the labels (--data {os.path.join(self._root, name)} reads it)"
            for name in find_tables(sorted(list_names(self._root)))[:_SHOWN_TABLES]
        ]

    def read(self) -> beam.PTransform:
        """See `Source`."""
        return ReadAll(self.list_images, path_of, self._read_image, one_by_one=True)

    def list_images(self) -> list[ImageFile]:
        """Returns all images, in an order that mixes the classes.

        Raises:
            UserError: the folder is not laid out as class folders.
        """
        return mix(self._images(list_tree(self._root)))

    @property
    def _root(self) -> str:
        assert self._settings.path is not None  # DataSettings sees to it
        return self._settings.path

    def _images(self, tree: Tree) -> list[ImageFile]:
        splits = declared_splits(self._root, tree, self._settings.split_folders)
        names = read_folder_names(self._settings.class_names) if self._settings.class_names else None
        images = []
        for file in tree.files:
            if SIDE_FILE.search(file.path):
                continue
            path, split = file.path, None
            if splits is not None:
                folder = next((folder for folder in splits if path.startswith(f"{folder}/")), None)
                if folder is None:
                    continue
                path, split = path.removeprefix(f"{folder}/"), splits[folder]
            label = self._class_name(path.split("/", 1)[0], names) if "/" in path else ""
            images.append(ImageFile(file.path, label, split, self._problem(file, label)))
        self._check_classes(tree, splits)
        return images

    def _problem(self, file: FileEntry, label: str) -> str | None:
        return find_problem(file, self._settings.max_pixels) if label else "lies outside of the class folders"

    def _class_name(self, folder: str, names: dict[str, str] | None) -> str:
        folder = normal_form(folder)
        if names is None:
            return folder
        if folder not in names:
            form = f', "{folder}" <class name>' if re.search(r"\s", folder) else ""
            raise UserError(
                f"data.class_names: {self._settings.class_names} has no line for the class folder {folder!r}; add"
                f" one{form}"
            )
        return names[folder]

    def _check_classes(self, tree: Tree, splits: dict[str, str] | None) -> None:
        used = {file.path for file in tree.files if not SIDE_FILE.search(file.path)}
        above = [""] if splits is None else list(splits)
        class_folders = [folder for folder in tree.folders if folder.rpartition("/")[0] in above]
        for split_folder in sorted(set(above) - {folder.rpartition("/")[0] for folder in class_folders}):
            if splits is None:
                raise UserError(
                    f"data.path is {self._root}, which holds {len(used)} files and no class folder;"
                    " put each image into a folder named after its class"
                )
            raise UserError(
                f"data.path: {os.path.join(self._root, split_folder)} holds no class folder;"
                f" put its images into {split_folder}/<class>/, or remove it"
            )
        refuse_wrapper(self._root, tree, class_folders)
        tables = find_tables([file.path for file in tree.files if "/" not in file.path])
        if len(class_folders) == 1 and tables:
            raise UserError(
                f"data.path is {self._root}, where {class_folders[0]} is the only class folder, and {tables[0]} lies"
                f" beside it; if that has the labels, give {os.path.join(self._root, tables[0])}"
            )
        filled = {path[: end.start()] for path in used for end in re.finditer("/", path)}
        for folder in class_folders:
            if folder not in filled:
                raise UserError(
                    f"the class folder {os.path.join(self._root, folder)} holds no image; add some, or remove it"
                )

    def _read_image(self, image: ImageFile) -> list[SourceImage]:
        return [read_image(image, self._root)]
