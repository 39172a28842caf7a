"""The finished trials of a search, kept on disk so that a search that was killed does not repeat them."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from data.json_files import find_json, write_json

_FILE = "trials.json"


@dataclass(frozen=True)
class Trial:
    """A finished trial.

    Attributes:
        number: from 1.
        values: of the hyperparameters, as KerasTuner proposed them.
        eval_loss: of the best epoch, in nats; None where the training diverged.
        eval_accuracy: of that epoch, 0..1; None where the training diverged.
        seconds: of making the model, training and judging it.
        error: why there is no loss.
    """

    number: int
    values: Mapping[str, Any]
    eval_loss: float | None
    eval_accuracy: float | None
    seconds: float
    error: str | None = None


class TrialStore:
    """A folder with the finished trials of one search, and a folder for each trial that is not finished."""

    def __init__(self, folder: str) -> None:
        """Reads what a search in this local or `gs://` folder left; the folder need not exist."""
        self.folder = folder
        self._saved = [Trial(**values) for values in find_json(self._path) or []]

    @property
    def trials(self) -> Sequence[Trial]:
        """The finished trials."""
        return tuple(self._saved)

    def find(self, number: int, values: Mapping[str, Any]) -> Trial | None:
        """Returns the result of a trial, or what another one with the same values came to; None where there is none."""
        same = [trial for trial in self._saved if trial.values == values]
        exact = [trial for trial in same if trial.number == number]
        return exact[0] if exact else replace(same[0], number=number, seconds=0.0) if same else None

    def add(self, trial: Trial) -> None:
        """Adds a trial, in the place of one with the same number, by atomic rename."""
        self._saved = [*(other for other in self._saved if other.number != trial.number), trial]
        write_json(self._path, [asdict(trial) for trial in self._saved])

    def trial_folder(self, values: Mapping[str, Any]) -> str:
        """Returns the folder in which a trial of these values keeps its state while it runs."""
        key = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
        return os.path.join(self.folder, f"trial-{key}")

    @property
    def _path(self) -> str:
        return os.path.join(self.folder, _FILE)
