"""The records that other nodes leave in their artifacts, as JSON."""

import json
import os
from typing import Any

import tensorflow as tf

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
    if uri is None or not tf.io.gfile.exists(os.path.join(uri, file_name)):
        return None
    with tf.io.gfile.GFile(os.path.join(uri, file_name), "rb") as file:
        return json.loads(file.read())
