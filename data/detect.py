"""Tells from a path alone what kind of source lies there."""

import tarfile

import tensorflow as tf

from data.errors import UserError
from data.files import is_remote
from data.sources.tfrecords import has_glob, is_tfrecord_name

_ARCHIVE_SUFFIXES = (".tar.gz", ".tgz")
_KINDS = "a folder of class folders, TFRecord files (a file, folder or glob), or cifar-10-python.tar.gz"


def settings_for_path(path: str) -> dict[str, str]:
    """Returns the settings of the data section that a path stands for: `source` and `path`.

    Looks at names only, and not deep: two levels of a folder.

    Raises:
        UserError: there is no such place, or it is of no kind that can be read.
    """
    return {"source": _kind_of(path), "path": path}


def _kind_of(path: str) -> str:
    if has_glob(path) and not tf.io.gfile.exists(path):
        if any(map(is_tfrecord_name, tf.io.gfile.glob(path))):
            return "tfrecords"
        raise UserError(f"--data is {path}, which matches no TFRecord file; give {_KINDS}")
    if not tf.io.gfile.exists(path):
        raise UserError(f"--data is {path}, which does not exist; give {_KINDS}")
    if tf.io.gfile.isdir(path):
        return _kind_of_folder(path)
    if is_tfrecord_name(path):
        return "tfrecords"
    if path.endswith(_ARCHIVE_SUFFIXES) and (is_remote(path) or _is_cifar10(path)):
        return "cifar10"
    raise UserError(f"--data is {path}, a file of another kind; give {_KINDS}")


def _kind_of_folder(path: str) -> str:
    names = [name.rstrip("/") for name in tf.io.gfile.listdir(path) if not name.startswith(".")]
    folders = [name for name in names if tf.io.gfile.isdir(tf.io.gfile.join(path, name))]
    # TFX and others put the records of each split into a folder of its own.
    below = [inner for folder in folders[:10] for inner in tf.io.gfile.listdir(tf.io.gfile.join(path, folder))]
    if any(map(is_tfrecord_name, names)) or (below and all(map(is_tfrecord_name, below))):
        return "tfrecords"
    if folders:
        return "image_folder"
    raise UserError(
        f"--data is {path}, a folder of {len(names)} files and no folder; give {_KINDS}; each image lies in a folder"
        " named after its class"
    )


def _is_cifar10(path: str) -> bool:
    try:
        with tarfile.open(path, "r:gz") as archive:
            first = archive.next()
            return first is not None and first.name.startswith("cifar-10-batches-py")
    except (tarfile.TarError, EOFError, OSError):
        return False
