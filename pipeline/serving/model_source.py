"""Where versions of a model are found: a folder here or in a bucket, of numbered versions or of a single model."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from components.exported_model import SAVED_MODEL_FILE
from data import gfile
from data.errors import Fault, UserError
from pipeline.model_versions import is_model, list_versions, no_model


@dataclass(frozen=True)
class Candidate:
    """A version that there is.

    Attributes:
        number: its folder's name; 1 of a single model whose folder is no number.
        uri: its folder.
        fingerprint: names, sizes and times of its files: another one where it was changed.
    """

    number: int
    uri: str
    fingerprint: tuple[tuple[str, int, int], ...]


class ModelSource:
    """A place of models.

    Attributes:
        uri: local, `gs://` or `s3://`.
        name: what its model is called: the folder's name.
    """

    def __init__(self, uri: str, name: str | None = None) -> None:
        """Looks there once.

        Raises:
            UserError: there is no model, or a bucket cannot be reached.
        """
        self.uri = uri.rstrip("/")
        self._is_single = is_model(self.uri)
        folder = os.path.basename(os.path.abspath(self.uri) if "://" not in self.uri else self.uri)
        if self._is_single and folder.isdecimal():
            above = os.path.dirname(self.uri if "://" in self.uri else os.path.abspath(self.uri))
            self.name = name or os.path.basename(above)
        else:
            self.name = name or folder
        self._single_number = int(folder) if folder.isdecimal() else 1
        if not self.find():
            raise no_model(uri)

    def find(self) -> list[Candidate]:
        """Returns the versions that there are, the highest number first; errors as the constructor's."""
        found = {self._single_number: self.uri} if self._is_single else list_versions(self.uri)
        candidates = [Candidate(number, uri, _fingerprint(uri)) for number, uri in found.items()]
        whole = [one for one in candidates if any(name == SAVED_MODEL_FILE for name, _, _ in one.fingerprint)]
        return sorted(whole, key=lambda candidate: candidate.number, reverse=True)

    def fetch(self, candidate: Candidate, root: Path) -> Path:
        """Returns a version's local folder; one of a bucket is copied below `root` first.

        Raises:
            Fault: it cannot be copied now, which says nothing about the model.
        """
        if "://" not in candidate.uri:
            return Path(candidate.uri)
        target = Path(tempfile.mkdtemp(prefix=f"{candidate.number}-", dir=root))
        try:
            for name, _, _ in candidate.fingerprint:
                gfile.copy_below(candidate.uri, name, str(target))
        except (UserError, tf.errors.OpError) as error:
            raise Fault(f"--model {candidate.uri}: cannot be copied: {' '.join(str(error).split())}") from error
        return target


def _fingerprint(uri: str) -> tuple[tuple[str, int, int], ...]:
    try:
        return tuple(sorted(gfile.list_below(uri)))
    except tf.errors.OpError:  # It goes away while it is looked at.
        return ()
