"""A folder of pushed versions, on this machine or in a bucket: what is in it, and how a version leaves and returns."""

import contextlib
import datetime
import os
from collections.abc import Iterator
from dataclasses import dataclass

import tensorflow as tf

from components.evaluator.rollback import Rollback
from components.exported_model import SAVED_MODEL_FILE
from components.exported_model.fingerprint import is_same_export
from components.pusher.executor import ASIDE_PREFIX, LOCK_FILE, copy_model, locked_for_push
from data import gfile
from data.errors import UserError
from data.files import is_remote
from data.json_files import find_json, write_json
from pipeline.rollbacks import Journal

JOURNAL_FILE = "rolled_back.json"
"""In the folder of versions: a `Journal`. Model servers look at folders with a number for a name only."""

# A push's version is a time in seconds, unless the clock was behind: from 2001 on, and before the year 5138.
_TIMES = range(10**9, 10**11)


@dataclass(frozen=True)
class PushedVersions:
    """The folder.

    Attributes:
        root: local, `gs://` or `s3://` path.
    """

    root: str

    def served_path(self, number: int) -> str:
        """Returns where a version lies that servers see."""
        return f"{self.root}/{number}"

    def aside_path(self, number: int) -> str:
        """Returns where it lies while it is set aside."""
        return f"{self.root}/{ASIDE_PREFIX}{number}"

    def list(self) -> tuple[list[int], list[int]]:
        """Returns the versions that servers see and those set aside, the newest first; what is not whole is left out.

        Raises:
            UserError: the folder cannot be listed.
        """
        try:
            names = [name.rstrip("/") for name in gfile.listdir(self.root)]
            whole = [name for name in names if gfile.exists(f"{self.root}/{name}/{SAVED_MODEL_FILE}")]
        except (OSError, tf.errors.OpError) as error:
            reason = " ".join(str(getattr(error, "strerror", None) or error).split())
            raise UserError(f"{self.root}: cannot be listed ({reason}); give a folder of pushed versions") from None
        aside = [name.removeprefix(ASIDE_PREFIX) for name in whole if name.startswith(ASIDE_PREFIX)]
        return (
            sorted((int(name) for name in whole if name.isdecimal()), reverse=True),
            sorted((int(name) for name in aside if name.isdecimal()), reverse=True),
        )

    def same_model(self, first: int, second: int) -> bool:
        """Says whether two versions that servers see are copies of one model."""
        return is_same_export(self.served_path(first), self.served_path(second))

    def find_pushed_time(self, number: int, path: str) -> datetime.datetime | None:
        """Returns when a version was pushed, in local time: its number, or the time of its file; None if unknown."""
        if number in _TIMES:
            return datetime.datetime.fromtimestamp(number).astimezone()
        with contextlib.suppress(OSError, tf.errors.OpError):
            seconds = gfile.stat(f"{path}/{SAVED_MODEL_FILE}").mtime_nsec / 1e9
            if seconds > 0:  # of a file system that keeps it
                return datetime.datetime.fromtimestamp(seconds).astimezone()
        return None

    def read_journal(self) -> Journal:
        """Returns what was rolled back.

        Raises:
            UserError: the record is damaged.
        """
        path = f"{self.root}/{JOURNAL_FILE}"
        try:
            content = find_json(path)
            if content is None:
                return Journal()
            under_way = content["under_way"] or {"act": "", "versions": [], "output_dir": ""}
            aside = {int(number): Rollback(**row) for number, row in content["aside"].items()}
            return Journal(aside, under_way["act"], tuple(under_way["versions"]), under_way["output_dir"])
        except tf.errors.OpError as error:
            raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: is damaged ({' '.join(str(error).split())}); remove it: what lies in {ASIDE_PREFIX}* can then"
                " be served by giving its folder the bare number for a name"
            ) from None

    def begin(self, journal: Journal) -> None:
        """Records what is about to be done; in a folder nothing has to be made ready for it."""
        self.write_journal(journal)

    def write_journal(self, journal: Journal) -> None:
        """Writes the record, whole or not at all."""
        write_json(f"{self.root}/{JOURNAL_FILE}", journal.to_json())

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps pushes out of the folder; a bucket has no lock: there it does nothing."""
        if is_remote(self.root):
            yield
            return
        try:
            with locked_for_push(f"{self.root}/{LOCK_FILE}"):
                yield
        except PermissionError as error:
            raise UserError(f"{error.filename}: cannot be written: {error.strerror}; change its rights") from None

    def set_aside(self, number: int) -> None:
        """Moves a version out of the servers' sight; once it is there, does nothing."""
        _move(self.served_path(number), self.aside_path(number))

    def bring_back(self, number: int) -> None:
        """Moves a version that was set aside to where servers see it; once it is there, does nothing."""
        _move(self.aside_path(number), self.served_path(number))


def _move(source: str, target: str) -> None:
    """Moves a version: on this machine by rename; in a bucket file by file, and never so that half a model looks whole.

    A copy gets `saved_model.pb` last and loses it first: without it the original is being removed, the copy is whole.
    """
    if not is_remote(source):
        if os.path.isdir(source):
            os.rename(source, target)
        return
    if gfile.exists(f"{source}/{SAVED_MODEL_FILE}"):
        copy_model(source, target)
        gfile.remove(f"{source}/{SAVED_MODEL_FILE}")
    if gfile.isdir(source):
        gfile.rmtree(source)
