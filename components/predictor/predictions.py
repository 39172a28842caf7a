"""The predictions of a model on the test split as one Parquet file: a row an image, read without running the model.

Columns: `file_name`, `content_sha256`, `label`, `label_index` (-1: a class that the model does not know), `height`,
`width` (pixels), `format`, `probabilities` (float32 list in the order of the classes), `embedding` (float32 list, the
pooled features before the head; null where the model gives none) and `baseline_probabilities` (null without a
comparable baseline). The file's metadata names the classes: `json.loads(schema.metadata[b"class_names"])`.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from components.evaluator.definitions import Answers

PREDICTIONS_FILE = "predictions.parquet"
_CLASS_NAMES = b"class_names"
_SCHEMA = pa.schema(
    [
        ("file_name", pa.string()),
        ("content_sha256", pa.string()),
        ("label", pa.string()),
        ("label_index", pa.int32()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("format", pa.string()),
        ("probabilities", pa.list_(pa.float32())),
        ("embedding", pa.list_(pa.float32())),
        ("baseline_probabilities", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class Predictions(Answers):
    """Images of the test split, one a position, in the order of the examples' files.

    Attributes:
        class_names: in the order of the probabilities.
        file_names: where the images came from, for people.
        hashes: hexadecimal SHA-256 of the original files; empty strings where the examples hold none.
        label_names: what the examples say.
        labels: int32 [images], class indices; -1 for a class that the model does not know.
        heights: int32 [images], pixels; 0 where the examples do not say.
        widths: int32 [images].
        formats: of the original files.
        probabilities: float32 [images, classes].
        embeddings: float32 [images, channels], or None.
        baseline_probabilities: float32 [images, classes], or None.
    """

    class_names: tuple[str, ...]
    file_names: list[str]
    hashes: list[str]
    label_names: list[str]
    heights: np.ndarray
    widths: np.ndarray
    formats: list[str]
    embeddings: np.ndarray | None
    baseline_probabilities: np.ndarray | None

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.labels)


class PredictionsWriter:
    """Writes batches to a local or `gs://` folder; the file appears there when everything is written."""

    def __init__(self, folder: str, class_names: Sequence[str]) -> None:
        """Opens a file in a temporary folder."""
        self._target = os.path.join(folder, PREDICTIONS_FILE)
        self._folder = tempfile.mkdtemp()
        self._path = os.path.join(self._folder, PREDICTIONS_FILE)
        names = json.dumps(list(class_names), ensure_ascii=False).encode()
        self._writer = pq.ParquetWriter(self._path, _SCHEMA.with_metadata({_CLASS_NAMES: names}))

    def write(self, columns: dict[str, Iterable | np.ndarray | None]) -> None:
        """Adds a batch: column to [images] or float32 [images, n]; a column that is None is null in each row."""
        count = len(columns["label"])  # type: ignore[arg-type]
        arrays = [_to_arrow(columns[field.name], field.type, count) for field in _SCHEMA]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._writer.schema))

    def __enter__(self) -> "PredictionsWriter":
        """Returns itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Puts the file in its place, unless an error ended the writing."""
        self._writer.close()
        if kind is None:
            partial = f"{self._target}.partial"
            tf.io.gfile.copy(self._path, partial, overwrite=True)
            tf.io.gfile.rename(partial, self._target, overwrite=True)
        shutil.rmtree(self._folder)


def _to_arrow(values: Iterable | np.ndarray | None, kind: pa.DataType, count: int) -> pa.Array:
    if values is None:
        return pa.nulls(count, kind)
    if isinstance(values, np.ndarray) and values.ndim == 2:
        offsets = np.arange(count + 1, dtype=np.int32) * values.shape[1]
        return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(values, np.float32).ravel()))
    return pa.array(list(values), kind)


def read_predictions(folder: str) -> Predictions:
    """Reads the folder of a `predictions` artifact, local or `gs://`.

    Raises:
        FileNotFoundError: it holds no predictions.
    """
    path = os.path.join(folder, PREDICTIONS_FILE)
    if not tf.io.gfile.exists(path):
        raise FileNotFoundError(path)
    with tempfile.TemporaryDirectory() as local:
        if "://" in path:
            copy = os.path.join(local, PREDICTIONS_FILE)
            tf.io.gfile.copy(path, copy)
            path = copy
        table = pq.read_table(path)
    names = json.loads(table.schema.metadata[_CLASS_NAMES])
    probabilities = _matrix(table, "probabilities")
    return Predictions(
        class_names=tuple(names),
        file_names=table["file_name"].to_pylist(),
        hashes=table["content_sha256"].to_pylist(),
        label_names=table["label"].to_pylist(),
        labels=table["label_index"].to_numpy(),
        heights=table["height"].to_numpy(),
        widths=table["width"].to_numpy(),
        formats=table["format"].to_pylist(),
        probabilities=np.zeros([0, len(names)], np.float32) if probabilities is None else probabilities,
        embeddings=_matrix(table, "embedding"),
        baseline_probabilities=_matrix(table, "baseline_probabilities"),
    )


def _matrix(table: pa.Table, name: str) -> np.ndarray | None:
    """Returns a column of lists of one length as float32 [rows, n]; None where it is null."""
    column = table[name]
    if not len(column) or column.null_count:
        return None
    return np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks]).reshape(len(column), -1)
