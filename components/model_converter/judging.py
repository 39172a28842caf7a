"""Converts a model into formats, tries each on all test images, and keeps those that are as good as the SavedModel."""

import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tensorflow as tf
from tfx.types import Artifact
from tfx.utils import io_utils

from components.exported_model.manifest import Manifest, read_manifest, saved_model_path
from components.model_converter.calibration import choose_calibration_images
from components.model_converter.client import write_companions
from components.model_converter.conversion import CALIBRATION_FILE, MEASURED_FILE
from components.model_converter.formats import FORMATS
from components.model_converter.processes import ProcessDied, ask_client, convert
from components.model_converter.record import describe_formats
from components.model_converter.settings import ExportSettings
from components.predictor.executor import TEST_SPLIT, read_records
from components.predictor.predictions import Predictions, read_predictions
from components.progress import report_progress
from data.features import IMAGE_KEY

_CALIBRATED = "litert-int8"
_BATCH = 64
_MEGABYTE = 1e6
_SLACK = 1e-9  # of the difference of two shares


@dataclass(frozen=True)
class _Case:
    """What the formats of a model are made from and held against.

    Attributes:
        settings: how much worse they may be.
        examples: raw Examples with `train` and `test` splits.
        path: of the SavedModel.
        manifest: what it says of itself.
        asked: what it answered to the test split.
    """

    settings: ExportSettings
    examples: Artifact
    path: str
    manifest: Manifest
    asked: Predictions


def make_record(settings: ExportSettings, reason: str | None = None) -> dict[str, Any]:
    """Returns the record, see `FORMATS_FILE`, of before anything was converted."""
    return {
        "reason": reason,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "images": 0,
        "max_accuracy_loss": settings.max_accuracy_loss,
        "calibration_images": 0,
        "saved_model": None,
        "formats": {},
    }


def convert_and_judge(
    settings: ExportSettings, examples: Artifact, model: Artifact, predictions: Artifact, folder: str
) -> dict[str, Any]:
    """Writes a folder for each format that is kept, and returns the record; no format's failure raises anything.

    Args:
        settings: which formats, and how much worse they may be.
        examples: raw Examples with `train` and `test` splits.
        model: the SavedModel.
        predictions: what it answered to the test split, of the Predictor.
        folder: local or remote.
    """
    path, asked = saved_model_path(model), read_predictions(predictions.uri)
    record, manifest = make_record(settings), read_manifest(path)
    record["images"] = len(asked)
    record["saved_model"] = {
        "megabytes": _size(path) / _MEGABYTE,
        "milliseconds": None,
        "accuracy": float(asked.correct.mean()) if len(asked) else None,
    }
    if manifest is None or not len(asked):
        record["reason"] = "the model has no manifest" if len(asked) else "there are no test images to try formats on"
        return record
    case = _Case(settings, examples, path, manifest, asked)
    with tempfile.TemporaryDirectory(prefix="formats-") as name:
        for format in settings.formats:
            place = Path(name) / format
            place.mkdir()
            if format == _CALIBRATED:
                record["calibration_images"] = _write_calibration(examples, len(manifest.classes), place)
            row = _judge(case, format, place, record["saved_model"])
            record["formats"][format] = row
            if row["kept"]:
                io_utils.copy_dir(str(place), os.path.join(folder, format))
    for line, _ in describe_formats(record):
        report_progress(line, lasting=True)
    return record


def _judge(case: _Case, format: str, place: Path, saved_model: dict[str, Any]) -> dict[str, Any]:
    """Returns the row of a format, whose folder then holds what a user needs and nothing else."""
    row: dict[str, Any] = dict.fromkeys(("reason", "megabytes", "milliseconds", "accuracy", "agreement"))
    row["kept"] = False
    try:
        report_progress(f"converting to {format}")
        saved_model["milliseconds"] = convert(case.path, format, place)
        row["megabytes"] = (place / FORMATS[format].model_file).stat().st_size / _MEGABYTE
        for used in (CALIBRATION_FILE, MEASURED_FILE):
            (place / used).unlink(missing_ok=True)
        write_companions(place, format, case.manifest)
        names, taken = [], []
        for label, seconds in ask_client(place, _read_images(case.examples), len(case.asked)):
            names.append(label)
            taken.append(seconds)
            report_progress(f"trying {format}", completed=len(names), total=len(case.asked))
    except ProcessDied as fault:
        row["reason"] = str(fault)
        return row
    indices = {name: index for index, name in enumerate(case.manifest.classes)}
    predicted = np.array([indices[name] for name in names])
    row["milliseconds"] = 1000 * median(taken)
    row["accuracy"] = float((predicted == case.asked.labels).mean())
    row["agreement"] = float((predicted == case.asked.predicted).mean())
    loss = saved_model["accuracy"] - row["accuracy"]
    most = case.settings.max_accuracy_loss
    row["kept"] = loss <= most + _SLACK
    if not row["kept"]:
        row["reason"] = f"loses {loss:.4f} of accuracy, more than export.max_accuracy_loss={most:g}"
    return row


def _write_calibration(examples: Artifact, classes: int, place: Path) -> int:
    images = choose_calibration_images(examples, classes)
    with tf.io.TFRecordWriter(str(place / CALIBRATION_FILE)) as writer:
        for image in images:
            writer.write(image)
    return len(images)


def _read_images(examples: Artifact) -> Iterator[bytes]:
    """Yields the encoded images of the test split, in the order of the predictions."""
    spec = {IMAGE_KEY: tf.io.FixedLenFeature([], tf.string)}
    for records in read_records([examples], TEST_SPLIT, _BATCH):
        yield from tf.io.parse_example(records, spec)[IMAGE_KEY].numpy()


def _size(folder: str) -> int:
    files = (os.path.join(place, name) for place, _, names in tf.io.gfile.walk(folder) for name in names)
    return sum(tf.io.gfile.stat(file).length for file in files)
