"""What a killed training needs to go on: its place, its figures and its variables, on disk."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import tensorflow as tf

from components.trainer.phases import EpochResult
from data.files import remove_path
from data.json_files import find_json, write_json

RESUME_DIR = ".resume"
"""Below a pipeline's root: what trainings and searches go on with, and features."""

FEATURES_PREFIX = "features-"
"""Of folders beside those of trainings, in which features are kept: they serve other trainings, too."""

STATE_FILE = "state.json"
CHOICES_FILE = "choices.json"


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

    def __init__(self, folder: str, scratch: str | None = None) -> None:
        """Uses a local or `gs://` folder, which need not exist.

        Args:
            folder: of all workers, where there are several.
            scratch: where a worker writes that is not the chief: all write together, and the chief's is what counts.
        """
        self.folder, self._scratch = folder, scratch

    def save(self, state: TrainingState, variables: Iterable[tf.Variable]) -> None:
        """Writes the state and the variables (model, then optimizer), and removes what it no longer needs."""
        name = f"step-{state.total_steps}-{state.phase}-{state.epoch}-{state.step}"
        self.write(name, variables)
        if self._scratch is not None:
            return
        self.put(STATE_FILE, {"state": asdict(state), "variables": name})
        for found in tf.io.gfile.listdir(self.folder):
            if found not in (STATE_FILE, CHOICES_FILE) and not found.startswith((f"{name}.", f"{state.best_name}.")):
                # TensorFlow leaves a folder when it is killed while it writes a checkpoint.
                remove_path(self.path(found.rstrip("/")))

    def load(self) -> tuple[TrainingState, str] | None:
        """Returns the saved state and the path of its variables, or None where nothing whole was saved."""
        saved = find_json(self.path(STATE_FILE))
        if saved is None:
            return None
        found = tf.io.gfile.listdir(self.folder)
        for name in filter(None, (saved["variables"], saved["state"]["best_name"])):
            if sum(file.startswith(f"{name}.") for file in found) < 2:  # its index and data: its removal was killed
                return None
        return TrainingState.from_json(saved["state"]), self.path(saved["variables"])

    def save_choices(self, choices: Mapping[str, Any]) -> None:
        """Writes what this training chose and one that goes on for it must keep; JSON's types."""
        if self._scratch is None:
            self.put(CHOICES_FILE, choices)

    def load_choices(self) -> dict[str, Any]:
        """Returns what was chosen, or nothing."""
        return find_json(self.path(CHOICES_FILE)) or {}

    def put(self, name: str, content: Any) -> None:
        """Writes a JSON file of the folder whole, or not at all."""
        write_json(self.path(name), content)

    def write(self, name: str, variables: Iterable[tf.Variable]) -> None:
        """Writes a checkpoint of the folder."""
        # In the scratch folder each overwrites the one before: nobody reads them.
        write_variables(variables, self.path(name) if self._scratch is None else os.path.join(self._scratch, "ignored"))

    def path(self, name: str) -> str:
        """Returns the path of a checkpoint in the folder."""
        return os.path.join(self.folder, name)

    def remove(self) -> None:
        """Removes the folder, if that is for this worker to do."""
        if self._scratch is None:
            remove_path(self.folder)


def write_variables(variables: Iterable[tf.Variable], path: str) -> None:
    """Writes variables as a TensorFlow checkpoint, by their number."""
    tf.io.gfile.makedirs(os.path.dirname(path))
    tf.train.Checkpoint(**{str(number): variable for number, variable in enumerate(variables)}).write(path)


def read_variables(variables: Iterable[tf.Variable], path: str) -> None:
    """Sets variables to what `write_variables` wrote of the same list."""
    checkpoint = tf.train.Checkpoint(**{str(number): variable for number, variable in enumerate(variables)})
    checkpoint.read(path).assert_consumed()
