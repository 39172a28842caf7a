"""The CIFAR-10 archive, as its authors give it out: `cifar-10-python.tar.gz`."""

import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterator
from functools import partial

import apache_beam as beam
import numpy as np
import pooch
import tensorflow as tf
from PIL import Image

from data import gfile
from data.errors import UserError
from data.files import is_remote, open_binary, stat_file
from data.settings import DataSettings
from data.sources.plain_pickle import Unbuilt, read_plain_pickle
from data.sources.reading import ReadInOrder
from data.sources.source import SourceImage

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SIZE = 32
_SPLITS = {**{f"data_batch_{i}": "train" for i in range(1, 6)}, "test_batch": "test"}
_CONNECT_SECONDS, _READ_SECONDS = 5, 30
_UNREADABLE = (tarfile.TarError, zlib.error, EOFError, OSError, tf.errors.OpError)


class Cifar10Source:
    """60,000 photographs of 32 x 32 pixels in 10 classes; `test` is declared, `eval` is cut from train.

    Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
    """

    def __init__(self, settings: DataSettings) -> None:
        """Keeps the settings; without `settings.path` the archive is downloaded once, into the user's cache."""
        self._settings = settings

    @staticmethod
    def lies_at(path: str) -> bool:
        """See `Source`: by its name, and what is on this machine by its first entry."""
        return path.endswith((".tar.gz", ".tgz")) and (gfile.exists(path) if is_remote(path) else _is_archive(path))

    def fingerprint(self) -> str:
        """See `Source`: the archive's size and time, or the checksum that a download must have."""
        if self._settings.path is None:
            return SHA256
        file = stat_file(self._settings.path)
        return hashlib.sha256(f"{file.size} {file.mtime_ns}".encode()).hexdigest()

    def prepare(self) -> list[str]:
        """See `Source`: downloads the archive if need be, and looks whether it is one."""
        path = _archive_path(self._settings.path)
        try:
            with open_binary(path) as file, tarfile.open(fileobj=file, mode="r|gz") as archive:
                archive.next()
        except _UNREADABLE as error:
            raise UserError(f"data.path is {path}, which is no cifar-10-python.tar.gz ({error}); give that") from error
        return []

    def read(self) -> beam.PTransform:
        """See `Source`: one archive is read in one place, in its own order, which mixes the classes."""
        return ReadInOrder(partial(_read_archive, self._settings.path))


def _is_archive(path: str) -> bool:
    try:
        with tarfile.open(path, "r:gz") as archive:
            first = archive.next()
            return first is not None and first.name.startswith("cifar-10-batches-py")
    except (tarfile.TarError, EOFError, OSError):
        return False


def _archive_path(path: str | None) -> str:
    """Returns the path, or that of the downloaded archive.

    Raises:
        UserError: the download fails.
    """
    if path is not None:
        return path
    downloader = pooch.HTTPDownloader(timeout=(_CONNECT_SECONDS, _READ_SECONDS))
    folder = pooch.os_cache("image_classifier")
    try:
        return str(
            pooch.retrieve(URL, f"sha256:{SHA256}", fname=URL.rsplit("/", 1)[1], path=folder, downloader=downloader)
        )
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong checksum is a ValueError
        raise UserError(
            f"CIFAR-10 could not be downloaded from {URL} ({type(error).__name__}); check the network, or download it"
            " elsewhere and give the archive as data.path"
        ) from error


def _read_archive(path: str | None) -> Iterator[SourceImage]:
    found = set()
    try:
        with open_binary(_archive_path(path)) as file, tarfile.open(fileobj=file, mode="r|gz") as archive:
            for member in archive:
                batch = member.name.rsplit("/", 1)[-1]
                content = archive.extractfile(member) if batch in _SPLITS else None
                if content is not None:
                    yield from _read_batch(batch, content.read())
                    found.add(batch)
    # The last four: a pickle of another make.
    except (*_UNREADABLE, ValueError, TypeError, KeyError, AttributeError) as error:
        yield _fatal(f"cannot be read as the CIFAR-10 archive: {error}")
        return
    if missing := _SPLITS.keys() - found:
        yield _fatal(f"holds no {', '.join(sorted(missing))}; give the whole cifar-10-python.tar.gz")


def _fatal(problem: str) -> SourceImage:
    return SourceImage("the archive", "", None, b"", problem, fatal=True)


def _read_batch(batch: str, pickled: bytes) -> Iterator[SourceImage]:
    """Yields a batch's images as PNGs.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is not a dict of a uint8 array `data` [images, 3072] and
            a list `labels` of as many integers in 0..9.
    """
    contents = read_plain_pickle(pickled)
    images = _read_array(contents["data"]).reshape(-1, 3, _SIZE, _SIZE).transpose(0, 2, 3, 1)
    labels = contents["labels"]
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        if label not in range(len(CLASSES)):
            raise ValueError(f"{batch} has the label {label!r}")
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG")
        yield SourceImage(f"{batch}/{i:05}.png", CLASSES[label], _SPLITS[batch], buffer.getvalue())


def _read_array(array: Unbuilt) -> np.ndarray:
    """Returns uint8 [images, 3072] from what numpy would have built it from.

    Raises:
        ValueError, TypeError, AttributeError: it is another kind of array.
    """
    _, shape, dtype, is_fortran_order, content = array.state
    if dtype.callable_name != "numpy dtype" or dtype.args[0] != "u1" or shape[1:] != (3 * _SIZE * _SIZE,):
        raise ValueError(f"`data` is {dtype.args} of shape {shape}")
    return np.frombuffer(content.encode("latin-1"), np.uint8).reshape(shape, order="F" if is_fortran_order else "C")
