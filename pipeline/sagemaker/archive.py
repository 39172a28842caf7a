"""A pushed version as SageMaker takes it: `model.tar.gz`, which it unpacks to `/opt/ml/model` of the container."""

import gzip
import hashlib
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from components.exported_model import SAVED_MODEL_FILE
from data.errors import UserError

FILE = "model.tar.gz"
_BLOCK_BYTES = 1 << 20
_DIGEST_CHARACTERS = 16
_COMPRESSION = 1
"""Weights hardly get smaller: level 9 takes ten times as long."""


@dataclass(frozen=True)
class PushedModel:
    """A version on this machine.

    Attributes:
        folder: of its SavedModel.
        version: its number, the folder's name.
        digest: of names and bytes of its files: another one of another model.
        size_bytes: of all its files.
    """

    folder: Path
    version: int
    digest: str
    size_bytes: int

    @property
    def key(self) -> str:
        """The archive's place below the tree of the models."""
        return f"{self.version}-{self.digest}/{FILE}"


def read_model(path: str) -> PushedModel:
    """Looks at a version, reading all of it.

    Raises:
        UserError: it is not on this machine, is no pushed version, or cannot be read.
    """
    if "://" in path:
        raise UserError(f"--model {path}: is not on this machine; copy the version here, and give its folder")
    folder = Path(path).resolve()
    if not re.fullmatch(r"[0-9]{1,11}", folder.name):
        raise UserError(
            f"--model {path}: is called {folder.name}; give a pushed version, whose name is its number, of up to 11"
            " digits (one that was rolled back is promoted first: python -m pipeline.models promote)"
        )
    digest, size = hashlib.sha256(), 0
    try:
        for name, file in _files(folder):
            content = hashlib.sha256()
            with file.open("rb") as stream:
                while block := stream.read(_BLOCK_BYTES):
                    content.update(block)
                    size += len(block)
            digest.update(f"{content.hexdigest()} {name}\n".encode())
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read: {error.strerror}") from None
    return PushedModel(folder, int(folder.name), digest.hexdigest()[:_DIGEST_CHARACTERS], size)


def same_model(first_url: str, second_url: str) -> bool:
    """Says whether two archives hold copies of one model, of different versions or not."""
    return first_url.split("/")[-2].partition("-")[2] == second_url.split("/")[-2].partition("-")[2]


def write_archive(model: PushedModel, path: Path) -> None:
    """Writes the archive; of one model its bytes are always the same.

    Args:
        model: what goes in, in a folder with its version for a name: the server tells that with each answer.
        path: of the file.
    """
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", _COMPRESSION, raw, mtime=0) as packed,
        tarfile.open(mode="w", fileobj=packed, format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, file in _files(model.folder):
            member = tarfile.TarInfo(f"{model.version}/{name}")
            member.size, member.mode = file.stat().st_size, 0o644
            with file.open("rb") as stream:
                archive.addfile(member, stream)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yields the files with their names from the folder, in one order; `saved_model.pb` last, as a push does."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    for name in sorted(files, key=lambda name: (name == SAVED_MODEL_FILE, name)):
        yield name, files[name]
