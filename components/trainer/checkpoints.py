"""What a killed training needs to go on: its place, its figures and its variables, on disk."""

import contextlib
import hashlib
import json
import math
import os
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import tensorflow as tf

from components.progress import report_progress
from components.trainer.lease import LEASE_FILE, Lease
from components.trainer.phases import EpochResult
from components.trainer.weights import WEIGHTS_DIR_KEY
from data.files import remove_path

FEATURES_PREFIX = "features-"
"""Of folders beside those of trainings, in which features are kept: they serve other trainings, too."""

_STATE_FILE = "state.json"
_CHOICES_FILE = "choices.json"

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


@dataclass
class TrainingState:
    """Where a training is, in everything that is not a variable.

    Attributes:
        phase: number of the phase, from 0.
        epoch: of the phase, from 0.
        step: steps done of the epoch.
        phase_steps: steps done of the phase.
        total_steps: steps done of all phases.
        totals: sums over the epoch's steps: weight x loss, weight x right, weight.
        seconds: spent in the epoch.
        lowest_loss: on eval, of the phase.
        stale_epochs: in a row without a lower loss in the phase.
        history: the finished epochs of all phases.
        best: the epoch of the lowest loss on eval, over all phases.
        best_name: the checkpoint of its weights.
    """

    phase: int = 0
    epoch: int = 0
    step: int = 0
    phase_steps: int = 0
    total_steps: int = 0
    totals: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    seconds: float = 0.0
    lowest_loss: float | None = None
    stale_epochs: int = 0
    history: list[EpochResult] = field(default_factory=list)
    best: EpochResult | None = None
    best_name: str | None = None

    def count_step(self) -> None:
        """Adds one to all counts of steps."""
        self.step, self.phase_steps, self.total_steps = self.step + 1, self.phase_steps + 1, self.total_steps + 1

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainingState":
        """Reads what `asdict` wrote."""
        state = cls(**values)
        state.history = [EpochResult(**result) for result in values["history"]]
        state.best = EpochResult(**values["best"]) if values["best"] else None
        return state


class CheckpointDir:
    """A folder with one state and the checkpoints of variables that it names.

    The state is put in place by a rename and names its checkpoints, which are never overwritten: a process that is
    killed at any moment leaves either the state before or the one after.
    """

    def __init__(self, folder: str, scratch: str | None = None, lease: Lease | None = None) -> None:
        """Uses a local or `gs://` folder, which need not exist.

        Args:
            folder: of all workers, where there are several.
            scratch: where a worker writes that is not the chief: all write together, and the chief's is what counts.
            lease: what keeps other trainings out of the folder, until it is removed.
        """
        self.folder, self._scratch, self._lease = folder, scratch, lease

    def save(self, state: TrainingState, variables: Iterable[tf.Variable]) -> None:
        """Writes the state and the variables (model, then optimizer), and removes what it no longer needs."""
        name = f"step-{state.total_steps}-{state.phase}-{state.epoch}-{state.step}"
        self.write(name, variables)
        if self._scratch is not None:
            return
        self._put(_STATE_FILE, {"state": asdict(state), "variables": name})
        for found in tf.io.gfile.listdir(self.folder):
            if found not in (_STATE_FILE, _CHOICES_FILE, LEASE_FILE) and not found.startswith(
                (f"{name}.", f"{state.best_name}.")
            ):
                # TensorFlow leaves a folder when it is killed while it writes a checkpoint.
                remove_path(self.path(found.rstrip("/")))

    def load(self) -> tuple[TrainingState, str] | None:
        """Returns the saved state and the path of its variables, or None where nothing was saved."""
        try:
            with tf.io.gfile.GFile(self.path(_STATE_FILE), "r") as file:
                saved = json.loads(file.read())
        except tf.errors.NotFoundError:
            return None
        return TrainingState.from_json(saved["state"]), self.path(saved["variables"])

    def save_choices(self, choices: Mapping[str, Any]) -> None:
        """Writes what this training chose and one that goes on for it must keep; JSON's types."""
        if self._scratch is None:
            tf.io.gfile.makedirs(self.folder)
            self._put(_CHOICES_FILE, choices)

    def load_choices(self) -> dict[str, Any]:
        """Returns what was chosen, or nothing; touches neither the folder nor its lease."""
        try:
            with tf.io.gfile.GFile(self.path(_CHOICES_FILE), "r") as file:
                return dict(json.loads(file.read()))
        except tf.errors.NotFoundError:
            return {}

    def _put(self, name: str, content: Mapping[str, Any]) -> None:
        temporary = self.path(f"{name}.tmp")
        with tf.io.gfile.GFile(temporary, "w") as file:
            file.write(json.dumps(content))
        tf.io.gfile.rename(temporary, self.path(name), overwrite=True)

    def write(self, name: str, variables: Iterable[tf.Variable]) -> None:
        """Writes a checkpoint of the folder."""
        # In the scratch folder each overwrites the one before: nobody reads them.
        write_variables(variables, self.path(name) if self._scratch is None else os.path.join(self._scratch, "ignored"))

    def path(self, name: str) -> str:
        """Returns the path of a checkpoint in the folder."""
        return os.path.join(self.folder, name)

    def remove(self) -> None:
        """Removes the folder, if that is for this worker to do."""
        if self._scratch is not None:
            return
        if self._lease is not None:
            self._lease.release()
        remove_path(self.folder)


def write_variables(variables: Iterable[tf.Variable], path: str) -> None:
    """Writes variables as a TensorFlow checkpoint, by their number."""
    tf.io.gfile.makedirs(os.path.dirname(path))
    tf.train.Checkpoint(**{str(number): variable for number, variable in enumerate(variables)}).write(path)


def read_variables(variables: Iterable[tf.Variable], path: str) -> None:
    """Sets variables to what `write_variables` wrote of the same list."""
    checkpoint = tf.train.Checkpoint(**{str(number): variable for number, variable in enumerate(variables)})
    checkpoint.read(path).assert_consumed()


def open_checkpoint_dir(
    root: str,
    custom_config: Mapping[str, Any],
    file_patterns: Iterable[str],
    scratch: str | None = None,
    several: bool = False,
) -> CheckpointDir:
    """Returns the folder of this very training, and removes those of others that nobody will go on with.

    In a bucket, where the same training may be going on in another run of the pipeline, the second has a folder of its
    own.

    Args:
        root: of all trainings of one pipeline.
        custom_config: the Trainer's: settings, and the hashes of code and weights. Where and for how long its job runs
            is left out; devices that change what is learnt are the caller's to add.
        file_patterns: globs of its examples; names and sizes stand for the content, as TFX never writes one twice.
        scratch: as in `CheckpointDir`.
        several: whether other workers of this training use the same folder; then another run is not looked for.
    """
    key = _make_key(custom_config, file_patterns)
    if scratch is None:
        _remove_others(root, key)
    folder = os.path.join(root, key)
    if not _is_shared(root) or several:
        return CheckpointDir(folder, scratch)
    lease = Lease(folder)
    if not lease.take():
        report_progress("another run is at this very training: this one keeps checkpoints of its own", lasting=True)
        folder = f"{folder}-{uuid.uuid4().hex[:8]}"
        lease = Lease(folder)
        lease.take()
    return CheckpointDir(folder, lease=lease)


def peek_choices(root: str, custom_config: Mapping[str, Any], file_patterns: Iterable[str]) -> dict[str, Any]:
    """Returns what a run of this very training chose, before its folder is opened, which removes those of others.

    Arguments as in `open_checkpoint_dir`.
    """
    return CheckpointDir(os.path.join(root, _make_key(custom_config, file_patterns))).load_choices()


def _make_key(custom_config: Mapping[str, Any], file_patterns: Iterable[str]) -> str:
    files = sorted(tf.io.gfile.glob(list(file_patterns)))
    sizes = [(file, tf.io.gfile.stat(file).length) for file in files]
    config = {key: value for key, value in custom_config.items() if key not in _NOT_LEARNT_FROM}
    return hashlib.sha256(json.dumps([config, sizes], sort_keys=True).encode()).hexdigest()[:16]


def _is_shared(root: str) -> bool:
    """Tells whether other runs may be training: on a disk the lock of the output folder keeps them out."""
    return "://" in root


def _remove_others(root: str, key: str) -> None:
    """Removes all folders but one: on a disk at once, elsewhere when they have not been written to for long."""
    if not tf.io.gfile.isdir(root):
        return
    # A disk is soon full. In a bucket another run of the pipeline, on other images, may be training right now.
    shared = _is_shared(root)
    for name in tf.io.gfile.listdir(root):
        folder = os.path.join(root, name.rstrip("/"))
        if (
            os.path.basename(folder) == key
            or name.startswith(FEATURES_PREFIX)
            or (shared and time.time() - _written_at(folder) < _KEPT_SECONDS)
        ):
            continue
        remove_path(folder)


def _written_at(folder: str) -> float:
    """Returns when a file of a folder was last written, in seconds since 1970; infinity where nothing tells."""
    times = []  # 0 is that of a file system without times
    for place, _, files in tf.io.gfile.walk(folder):
        for file in files:
            with contextlib.suppress(tf.errors.NotFoundError):  # its training has just saved anew
                times.append(tf.io.gfile.stat(os.path.join(place, file)).mtime_nsec / 1e9 or math.inf)
    return max(times, default=math.inf)
