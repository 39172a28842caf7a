"""How a folder of images is laid out, as its listing shows: which folders declare splits, which only wrap others."""

import itertools
import logging
import os
from collections import defaultdict

from data.errors import UserError
from data.features import normal_form
from data.files import Tree
from data.settings import SplitFolders

_LOGGER = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".avif", ".heic", ".heif")


def declared_splits(root: str, tree: Tree, split_folders: SplitFolders) -> dict[str, str] | None:
    """Returns the folder that holds a split's class folders -> split, or None where the top folders are classes.

    A folder `train` declares splits if it holds folders, and either no image or lies beside another split that holds
    folders: a class of railway pictures has that name too. Folders with such a word in their names (`seg_train`) do so
    if those for training hold all class folders of the others.

    Raises:
        UserError: beside `train` lies a folder that is no split, or what looks like splits would become classes.
    """
    splits = split_folders.meanings()
    tops = [folder for folder in tree.folders if "/" not in folder]
    with_images = _with_images(tree)
    with_folders = {_top(folder) for folder in tree.folders if "/" in folder}
    found = {splits[folder.casefold()] for folder in with_folders if folder.casefold() in splits}
    is_split = found > {"train"} or any(splits.get(f.casefold()) == "train" for f in with_folders - with_images)
    worded = {folder: split for folder in tops if (split := split_folders.split_of(folder))}
    inner = _inner_folders(tree)
    places = {folder: _without_double(folder, inner, with_images, split_folders) for folder in tops}
    classes = {folder: set(map(normal_form, inner[places[folder]])) for folder in tops}
    trained_on = set().union(*(classes[folder] for folder, split in worded.items() if split == "train"))
    agreeing = {folder: split for folder, split in worded.items() if classes[folder] and classes[folder] <= trained_on}
    if not is_split and not (set(agreeing.values()) > {"train"} and agreeing == worded and len(trained_on) > 1):
        _refuse_likely_splits(root, tops, worded, classes, split_folders)
        return None
    declared = {}
    usual = SplitFolders()
    for folder in tops:
        if folder.casefold() in splits or folder in agreeing:
            declared[places[folder]] = worded[folder]
        elif folder.casefold() in usual.meanings():  # ImageNet's `test` has no labels: its preset leaves it out.
            _LOGGER.warning("%s/%s is left out: data.split_folders does not name it", root, folder)
        else:
            raise UserError(
                f"data.path: {os.path.join(root, folder)} lies beside a folder of train images and names no split;"
                f" remove it, or name it in data.split_folders (known: {', '.join(splits)})"
            )
    return declared


def _refuse_likely_splits(
    root: str, tops: list[str], worded: dict[str, str], classes: dict[str, set[str]], split_folders: SplitFolders
) -> None:
    """Raises a UserError where folders are called like splits and share folders, or there is nothing but such folders.

    By their names, since classes may well share folders: `cat/2023`, `cat/2024`, `dog/2023`, `dog/2024`.
    """
    usual = SplitFolders()
    called = [folder for folder in tops if folder in worded or usual.split_of(folder)]
    both = {frozenset(pair): sorted(classes[pair[0]] & classes[pair[1]]) for pair in itertools.combinations(called, 2)}
    alike = next(((pair, shared) for pair, shared in both.items() if len(shared) > 1), None)
    known = "; ".join(f"{split}: {', '.join(names) or '-'}" for split, names in split_folders)
    if alike:
        one, other = sorted(alike[0])
        reason = f"since both hold {alike[1][0]!r} and {alike[1][1]!r}; name each"
    elif set(worded.values()) > {"train"} and len(worded) == len(tops):
        one, other = next(
            pair for pair in itertools.combinations(sorted(tops), 2) if {"train"} < {worded[folder] for folder in pair}
        )
        reason = "but do not hold the same class folders; put each image into <split>/<class>/, and name each split"
    else:
        return
    raise UserError(
        f"data.path: {one} and {other} in {root} look like splits, {reason} in data.split_folders, the one to train on"
        f" as train (known: {known}), or rename them if they are classes"
    )


def _without_double(
    folder: str, inner: dict[str, list[str]], with_images: set[str], split_folders: SplitFolders
) -> str:
    """Returns where a split's class folders lie: `seg_train/seg_train`, as some archives have it, or the folder."""
    name, *others = inner[folder] or [""]
    double = f"{folder}/{name}"
    if others or not inner[double] or {folder, double} & with_images:
        return folder
    split = split_folders.split_of(folder)
    return double if split and split_folders.split_of(name) == split else folder


def refuse_wrapper(root: str, tree: Tree, class_folders: list[str]) -> None:
    """Refuses one folder around the class folders, as archives make it: all images would be of one class.

    Args:
        root: of the tree.
        tree: the listing.
        class_folders: what is taken for them; in each split, where there are such.

    Raises:
        UserError: with the path to give.
    """
    with_images = _with_images(tree)
    if len({folder.rpartition("/")[2] for folder in class_folders}) != 1 or with_images & set(class_folders):
        return
    inner, folder = _inner_folders(tree), class_folders[0]
    while len(names := inner[folder]) == 1 and folder not in with_images:
        folder = f"{folder}/{names[0]}"
    if len(names) < 2 or folder in with_images:
        return
    advice = f"give {os.path.join(root, folder)}" if len(class_folders) == 1 else "move those up into their split"
    raise UserError(
        f"data.path is {root}, where {class_folders[0]} is the only class folder, and {folder} holds {len(names)}"
        f" folders ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}); {advice}"
    )


def _with_images(tree: Tree) -> set[str]:
    """Returns the folders that hold images themselves."""
    return {file.path.rpartition("/")[0] for file in tree.files if file.path.lower().endswith(IMAGE_SUFFIXES)}


def _inner_folders(tree: Tree) -> dict[str, list[str]]:
    """Returns folder -> the names of the folders in it; without any, an empty list."""
    inner: dict[str, list[str]] = defaultdict(list)
    for path in tree.folders:
        above, _, name = path.rpartition("/")
        inner[above].append(name)
    return inner


def _top(path: str) -> str:
    return path.split("/", 1)[0]
