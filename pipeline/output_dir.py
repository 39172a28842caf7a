"""The folder of a pipeline's outputs: its layout, its lock and its whole-or-not files."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from components.report_gen import REPORT_FILE
from data import gfile
from data.errors import UserError
from data.whole_files import write_bytes

DEFAULT_OUTPUT = Path(__file__).parent.parent / "output"
"""Where the output folders lie of those who name none."""

LEAST_FREE_BYTES = 256 * 2**20
"""A run on 48 images left 228 MiB, most of it in the copies of VGG16's weights."""


@dataclass(frozen=True)
class OutputDir:
    """Names the places in an output folder."""

    root: Path

    @property
    def pipeline_root(self) -> Path:
        """TFX's artifacts."""
        return self.root / "pipeline_root"

    @property
    def metadata_path(self) -> Path:
        """The SQLite file of ML Metadata."""
        return self.root / "metadata.sqlite"

    @property
    def serving_model_dir(self) -> Path:
        """The default place for pushed models, one folder per name."""
        return self.root / "serving_model"

    @property
    def formats_dir(self) -> Path:
        """The formats out of TensorFlow of pushed models, one folder per name."""
        return self.root / "formats"

    @property
    def summary_path(self) -> Path:
        """The last run's summary."""
        return self.root / "summary.json"

    @property
    def config_path(self) -> Path:
        """The last run's resolved configuration."""
        return self.root / "config.yaml"

    @property
    def report_path(self) -> Path:
        """The page about the last run."""
        return self.root / REPORT_FILE

    def log_path(self, run_id: str) -> Path:
        """The log file of a run."""
        return self.root / "logs" / f"{run_id}.log"

    def rebase(self, uri: str) -> str:
        """Returns where an artifact lies in this folder, which may have been moved, renamed or copied since."""
        _, pipeline_root, below = uri.rpartition("/pipeline_root/")
        return uri if not pipeline_root or "://" in uri else f"{self.root}{pipeline_root}{below}"

    def rebase_destination(self, destination: str, uri: str) -> str:
        """Returns where a place in this folder lies now that the maker of an artifact named, such as a pushed version.

        Args:
            destination: as it was named.
            uri: of the artifact, as it was named.
        """
        before, pipeline_root, _ = uri.rpartition("/pipeline_root/")
        if pipeline_root and destination.startswith(f"{before}/"):
            return f"{self.root}{destination.removeprefix(before)}"
        return destination

    def check_name(self) -> None:
        """Looks whether Beam can write here.

        Raises:
            UserError: the path is a pattern.
        """
        if any(character in str(self.root) for character in "*?[\\"):
            raise UserError(
                f"{self.root}: cannot be the output folder, since Beam takes *, ?, [ and \\ in a path for a pattern;"
                " choose another with --output-dir"
            )

    def check_space(self, free_bytes: int, least_free_bytes: int = LEAST_FREE_BYTES) -> None:
        """Looks whether the disk has room for any run.

        Raises:
            UserError: it has not.
        """
        if free_bytes < least_free_bytes:
            raise UserError(
                f"{self.root}: lies on a disk with {free_bytes >> 20} MiB left, and no run does with less than"
                f" {least_free_bytes >> 20}; free some, or choose another with --output-dir"
            )

    @contextlib.contextmanager
    def locked(self, least_free_bytes: int | None = None) -> Iterator[None]:
        """Holds the folder for one run; the kernel lets go of the lock when the process ends, however it ends.

        Args:
            least_free_bytes: of the disk; `LEAST_FREE_BYTES` unless it is given.

        Raises:
            UserError: another run holds it, or the folder cannot be made or written.
        """
        self.check_name()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / ".lock").open("ab+", buffering=0)
            free_bytes = shutil.disk_usage(self.root).free
        except OSError as error:
            raise UserError(
                f"{self.root}: cannot be used as the output folder: {error.strerror}; choose another with --output-dir"
            ) from None
        self.check_space(free_bytes, LEAST_FREE_BYTES if least_free_bytes is None else least_free_bytes)
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                owner = lock.read().decode().strip() or "unknown"
                raise UserError(
                    f"{self.root}: another run (process {owner}) is using this output folder; wait for it, or choose "
                    "another with --output-dir"
                ) from None
            lock.truncate(0)
            with contextlib.suppress(OSError):  # A full disk has no room even for the number, and is what one cleans.
                lock.write(str(os.getpid()).encode())
            yield


def make_serving_dir(path: str) -> str:
    """Makes the folder that `serving_model_dir` names, before hours of training end in a push that must fail.

    Returns:
        The absolute path; a remote one as it is, and in S3 with an empty `.writable` in it.

    Raises:
        UserError: it cannot be made or written.
    """
    if gfile.is_s3(path):
        write_bytes(f"{path.rstrip('/')}/.writable", b"")  # hidden: neither a version nor half of one
    if "://" in path:
        return path
    folder = Path(path).resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return str(folder)
    except OSError as error:
        raise UserError(
            f"serving_model_dir is {path}, which cannot be written: {error.strerror}; choose another"
        ) from None


def write_whole(path: Path, text: str) -> None:
    """Writes a text file by atomic rename: readers see the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
