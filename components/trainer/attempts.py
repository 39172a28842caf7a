"""The folder of an attempt at a training: which it is, what it takes over from one that was killed, what it removes."""

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from components.trainer.checkpoints import CHOICES_FILE, FEATURES_PREFIX, STATE_FILE, CheckpointDir
from components.trainer.weights import WEIGHTS_DIR_KEY
from data.files import is_remote, remove_path
from data.json_files import read_json

# Where a job runs and for how long, and where its weights are downloaded from (their hash counts), of which nothing is
# learnt: who raises a timeout goes on. The last two are TFX's TRAINING_ARGS_KEY and VERTEX_REGION_KEY, not imported
# since the former's module loads Google's clients for seconds.
_NOT_LEARNT_FROM = (
    "checkpoint_dir",
    WEIGHTS_DIR_KEY,
    "ai_platform_training_args",
    "ai_platform_vertex_region",
)

# Vertex AI ends a job after 7 days at most: what was last written before twice that is nobody's any more.
_KEPT_SECONDS = 14 * 24 * 3600


class Attempt(CheckpointDir):
    """The folder of one attempt at a training, beside those of other trainings.

    On a disk the lock of the output folder keeps other runs out, so that all attempts have the same folder. A bucket
    has no locks, and another run may be at the same training: each attempt has a folder of its own there. It begins
    with a copy of what the newest of the others has saved, killed or not: as all of them learn the same, that is its
    own past, too. It then needs nothing of theirs.
    """

    def __init__(self, training: str, name: str, scratch: str | None = None) -> None:
        """Names the folder.

        Args:
            training: path of the folder on a disk, or that of an attempt in a bucket up to its name.
            name: the same for all workers, and for an attempt whose machine was taken away and that is started again.
            scratch: as in `CheckpointDir`.
        """
        self._training, self._shared = training, is_remote(training)
        super().__init__(f"{training}-{name}" if self._shared else training, scratch)

    def take_over(self) -> None:
        """Copies what the newest of the other attempts has saved, unless this one has begun before."""
        if not self._shared or self._scratch is not None or self.load_choices():
            return
        remove_path(self.folder)  # a copy that was not finished
        for _, other in sorted(self._list_attempts(".json"), reverse=True):
            with contextlib.suppress(tf.errors.NotFoundError):  # that one saves anew, or ends
                if self._copy(other):
                    return
            remove_path(self.folder)

    def save_choices(self, choices: Mapping[str, Any]) -> None:
        """Writes them; with that the training begins, and those that nobody will go on with are removed from a disk.

        A disk is soon full. In a bucket another run of the pipeline, on other images, may be training right now.
        """
        root = os.path.dirname(self._training)
        if not self._shared and self._scratch is None and tf.io.gfile.isdir(root):
            for name in tf.io.gfile.listdir(root):
                if os.path.join(root, name) != self.folder and not name.startswith(FEATURES_PREFIX):
                    remove_path(os.path.join(root, name))
        super().save_choices(choices)

    def remove(self) -> None:
        """Removes the folder, and from a bucket those of attempts at the same training that ended long ago."""
        super().remove()
        if self._shared and self._scratch is None:
            for written_at, other in self._list_attempts():
                if time.time() - written_at > _KEPT_SECONDS:
                    remove_path(other)

    def _list_attempts(self, suffix: str = "") -> list[tuple[float, str]]:
        """Returns when a file of that suffix was last written in each attempt's folder, and the folder."""
        root, key = os.path.split(self._training)
        names = tf.io.gfile.listdir(root) if tf.io.gfile.isdir(root) else []
        folders = [os.path.join(root, name.rstrip("/")) for name in names if name.startswith(f"{key}-")]
        return [(_written_at(folder, suffix), folder) for folder in folders]

    def _copy(self, other: str) -> bool:
        """Copies another attempt's folder, to which its process may be writing, and returns whether it was whole.

        Its JSON files name all others, which are never overwritten: they are read first.

        Raises:
            tf.errors.NotFoundError: a file is there no more.
        """
        contents = {path: read_json(path) for path in _list_files(other) if path.endswith(".json")}
        for path in _list_files(other):
            target = self.path(path.removeprefix(f"{other}/"))
            tf.io.gfile.makedirs(os.path.dirname(target))
            if path not in contents:
                tf.io.gfile.copy(path, target, overwrite=True)
        for path in sorted(contents, reverse=True):  # the choices last: they say that the attempt has begun
            self.put(path.removeprefix(f"{other}/"), contents[path])
        has_state = os.path.join(other, STATE_FILE) in contents
        return os.path.join(other, CHOICES_FILE) in contents and (not has_state or self.load() is not None)


def open_checkpoint_dir(
    root: str,
    custom_config: Mapping[str, Any],
    file_patterns: Iterable[str],
    attempt: str,
    scratch: str | None = None,
) -> CheckpointDir:
    """Returns the folder of an attempt at this very training, with what one that was killed has left.

    Args:
        root: of all trainings of one pipeline; local or `gs://`.
        custom_config: the Trainer's: settings, and the hashes of code and weights. Where and for how long its job runs
            is left out; devices that change what is learnt are the caller's to add.
        file_patterns: globs of its examples; names and sizes stand for the content, as TFX never writes one twice.
        attempt: what no other execution has, such as the path of an output.
        scratch: as in `CheckpointDir`; such a worker must wait for the chief before it reads.
    """
    files = sorted(tf.io.gfile.glob(list(file_patterns)))
    sizes = [(file, tf.io.gfile.stat(file).length) for file in files]
    config = {key: value for key, value in custom_config.items() if key not in _NOT_LEARNT_FROM}
    key = hashlib.sha256(json.dumps([config, sizes], sort_keys=True).encode()).hexdigest()[:16]
    directory = Attempt(os.path.join(root, key), hashlib.sha256(attempt.encode()).hexdigest()[:8], scratch)
    directory.take_over()
    return directory


def _list_files(folder: str) -> list[str]:
    """Returns the paths of all files that are not about to be renamed, as those of a checkpoint in the making are."""
    places = [(place, files) for place, _, files in tf.io.gfile.walk(folder) if not place.rstrip("/").endswith("_temp")]
    return [os.path.join(place, file) for place, files in places for file in files if not file.endswith(".tmp")]


def _written_at(folder: str, suffix: str) -> float:
    """Returns when a file of that suffix was last written, in seconds since 1970; infinity where nothing tells."""
    times = []  # 0 is that of a file system without times
    for path in _list_files(folder):
        if path.endswith(suffix):
            with contextlib.suppress(tf.errors.NotFoundError):  # its training has just saved anew
                times.append(tf.io.gfile.stat(path).mtime_nsec / 1e9 or math.inf)
    return max(times, default=math.inf)
