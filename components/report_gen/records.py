"""The records that other nodes leave in their artifacts, as JSON."""

import os
from typing import Any

from data.json_files import find_json

TRAINING_FILE = "training.json"
"""The Trainer's, in `model_run`: `settings`, `weights`, `history`, `best`, `precision`, `versions` and more."""

TUNING_FILE = "tuning.json"
"""The Tuner's, in `tuner_results`: `algorithm`, `best_by`, `best` and `trials`."""

SERVING_FILE = "findings.json"
"""Of a serving test, in `infra_blessing`: `blessed`, `findings` (`check`, `passed`, `message`) and `measured`."""

DRIFT_FILE = "drift.json"
"""Of the images against the blessed run's: `rows` (`statistic`, `before`, `now`, `distance`, `bound`, `passed`)."""


def read_record(uri: str | None, file_name: str) -> dict[str, Any] | None:
    """Returns the content of a record in an artifact's folder, or None where there is none."""
    return None if uri is None else find_json(os.path.join(uri, file_name))
