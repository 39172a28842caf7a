"""Where scored images are written: shards that are whole or not there, and what they were made with."""

import fcntl
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, Any

import tensorflow as tf

from data import gfile
from data.errors import UserError
from data.files import is_remote, read_bytes, remove_path
from data.json_files import find_json, write_json
from data.whole_files import write_bytes
from pipeline.scoring.rows import CSV_HEADER, RENDER, Row

_JOB_FILE = "_job.json"
"""Beside the shards; readers of Parquet folders pass over names that begin so."""
_LOCK_FILE = "_lock"


class Place:
    """One `--out`: `NAME.parquet`, a folder of shards, or a file that is put together of them at the end.

    Attributes:
        path: as it was given.
    """

    def __init__(self, path: str) -> None:
        """Looks at the name.

        Raises:
            UserError: it ends in none of the formats.
        """
        self.path = path.rstrip("/")
        self._suffix = os.path.splitext(self.path)[1].lower()
        if self._suffix not in RENDER:
            raise UserError(f"--out {path}: ends in none of {', '.join(RENDER)}; choose one")
        self._is_folder = self._suffix == ".parquet"
        self._folder = self.path if self._is_folder else f"{self.path}.job"
        self._held: IO[str] | None = None

    def begin(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Makes the place, or goes on with what is there.

        Args:
            job: what the rows depend on, plain values; the first that differs from those that are there is told.

        Returns:
            What `remember` has added to it, empty at first.

        Raises:
            UserError: it holds something else, or cannot be written.
        """
        job = json.loads(json.dumps(job))
        path = os.path.join(self._folder, _JOB_FILE)
        self._lock()
        before = find_json(path)
        if before is None:
            self._refuse_other()
            self._write_job({"job": job, "known": {}})
            return {}
        for key in dict.fromkeys((*job, *before["job"])):
            if before["job"].get(key) != (value := job.get(key)):
                raise UserError(
                    f"--out {self.path}: holds rows with {key} {_short(before['job'].get(key))}, and this is"
                    f" {_short(value)}; name another, or remove {self._described()}"
                )
        for part in gfile.glob(os.path.join(self._folder, "*.tmp")):  # of a writing that was killed
            remove_path(part)
        known: dict[str, Any] = before["known"]
        return known

    def remember(self, job: Mapping[str, Any], known: Mapping[str, Any]) -> None:
        """Keeps what needs not be found out again, beside the job."""
        self._write_job({"job": job, "known": known})

    def is_whole(self) -> bool:
        """Says whether a file was put together by now."""
        return not self._is_folder and gfile.exists(self.path)

    def missing(self, total: int) -> list[int]:
        """Returns the numbers of the shards that are not there, of `total`."""
        there = set(gfile.listdir(self._folder))
        return [number for number in range(total) if os.path.basename(self.shard_path(number, total)) not in there]

    def shard_path(self, number: int, total: int) -> str:
        """Returns the path of a shard."""
        return os.path.join(self._folder, f"part-{number:05d}-of-{total:05d}{self._suffix}")

    def write_shard(self, rows: Sequence[Row], number: int, total: int) -> None:
        """Writes one, whole."""
        write_bytes(self.shard_path(number, total), RENDER[self._suffix](rows))

    def finish(self, total: int) -> None:
        """Puts a file together, if it is to be one, and removes its shards; what they were made with stays."""
        if not self._is_folder and not self.is_whole():
            self._join(total)
        if not self._is_folder:
            for shard in gfile.glob(os.path.join(self._folder, "part-*")):
                remove_path(shard)
        if self._held:
            self._held.close()
            self._held = None

    def _join(self, total: int) -> None:
        part = os.path.join(self._folder, f"joined.{os.getpid()}.tmp")
        with tempfile.NamedTemporaryFile() if is_remote(part) else open(part, "wb") as joined:
            joined.write(CSV_HEADER if self._suffix == ".csv" else b"")
            for number in range(total):
                joined.write(read_bytes(self.shard_path(number, total)))
            joined.flush()
            if is_remote(part):  # where a file appears whole, but cannot be added to
                gfile.copy(joined.name, self.path)
                return
        os.replace(part, self.path)

    def _lock(self) -> None:
        """Holds the place, on this machine, until the process ends, however it ends."""
        if is_remote(self._folder) or self._held:
            return
        if not os.path.isdir(self._folder):
            self._refuse_other()
        try:
            os.makedirs(self._folder, exist_ok=True)
            self._held = open(os.path.join(self._folder, _LOCK_FILE), "w")  # noqa: SIM115
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"--out {self.path}: another process scores into it; wait for it, or name another"
            ) from None
        except OSError as error:
            raise UserError(f"--out {self.path}: cannot be written: {error.strerror}; choose another") from None

    def _write_job(self, content: Mapping[str, Any]) -> None:
        try:
            write_json(os.path.join(self._folder, _JOB_FILE), content)
        except (OSError, tf.errors.OpError) as error:  # in a bucket: no rights, no such one
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise UserError(f"--out {self.path}: cannot be written: {reason}; choose another") from None

    def _refuse_other(self) -> None:
        if not gfile.exists(self.path):
            return
        if not self._is_folder or not gfile.isdir(self.path) or set(gfile.listdir(self.path)) - {_LOCK_FILE}:
            raise UserError(f"--out {self.path}: is there already, and not of this command; name another, or remove it")

    def _described(self) -> str:
        return self.path if self._is_folder else f"{self.path} and {self._folder}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
