"""Image files that a source found in a listing: how they are ordered, judged by their size, and read."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import tensorflow as tf

from data.files import FileEntry, is_remote, read_bytes
from data.sources.source import SourceImage


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One file that a source names.

    Attributes:
        path: relative to the source's root, with `/`; absolute where it lies elsewhere.
        label: class name, "" where the source gives none.
        split: as the source declares it, else None.
        problem: why it cannot be used, as far as the listing shows, else None.
        group: of `SourceImage`.
        weight: of `SourceImage`.
    """

    path: str
    label: str
    split: str | None
    problem: str | None
    group: str | None = None
    weight: float = 1.0


def path_of(image: ImageFile) -> str:
    """Returns what no other image has."""
    return image.path


def mix(images: Iterable[ImageFile]) -> list[ImageFile]:
    """Returns all images, shuffled by the hash of their paths: training reads no class after the other."""
    return sorted(images, key=lambda image: hashlib.sha256(image.path.encode()).digest())


def find_problem(file: FileEntry, max_pixels: int) -> str | None:
    """Returns why a file cannot be read as an image, as far as its listing shows, else None."""
    if file.size < 0:
        return "cannot be opened: a broken link, a pipe or device, or a name that is not UTF-8"
    # Eight bytes a pixel is the most that any supported format needs; reading more could exhaust the memory.
    if file.size > 8 * max_pixels + 2**20:
        return f"{file.size:,} bytes, more than {max_pixels:,} pixels (data.max_pixels) can take"
    return None


def place_of(path: str, root: str) -> str:
    """Returns where the file of an `ImageFile.path` lies."""
    return path if is_remote(path) or path.startswith("/") else f"{root.rstrip('/')}/{path}"


def read_image(image: ImageFile, root: str) -> SourceImage:
    """Reads a file; one that cannot be read says why."""
    problem, encoded = image.problem, b""
    if problem is None:
        try:
            encoded = read_bytes(place_of(image.path, root))
        except (tf.errors.OpError, OSError) as error:
            problem = f"cannot be read: {type(error).__name__}"
    return source_image(replace(image, problem=problem), encoded)


def source_image(image: ImageFile, encoded: bytes) -> SourceImage:
    """Returns an image with its bytes."""
    return SourceImage(
        image.path, image.label, image.split, encoded, image.problem, group=image.group, weight=image.weight
    )
