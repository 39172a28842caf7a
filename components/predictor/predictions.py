"""The predictions of a model on the test split as one Parquet file: a row an image, read without running the model.

Columns: `file_name`, `content_sha256`, `label`, `label_index` (-1: a class that the model does not know), `height`,
`width` (pixels), `format`, `probabilities` (float32 list in the order of the classes), `decision` (empty where a
person should look), `unknown_score` (both null where the model gives none), `embedding` (float32 list, the
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
from components.exported_model.decision import UNDECIDED

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
        ("decision", pa.string()),
        ("unknown_score", pa.float32()),
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
        embeddings: float32 [images, channels], or None where there are none, or nobody asked.
        baseline_probabilities: float32 [images, classes], or None.
        unknown_scores: float32 [images], above 1 where the model does not know the image; None where it does not say.
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
    unknown_scores: np.ndarray | None = None

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


def read_predictions(folder: str, *, embeddings: bool = False) -> Predictions:
    """Reads the folder of a `predictions` artifact, local or `gs://`; what is not asked for takes no memory.

    Per image that is its name and hash (about 200 bytes), 4 a class, as much again for a baseline, and 4 a channel of
    the embeddings.

    Args:
        folder: of the artifact.
        embeddings: whether they are read; else `Predictions.embeddings` is None.

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
        with pq.ParquetFile(path) as file:
            names = json.loads(file.schema_arrow.metadata[_CLASS_NAMES])
            probabilities = _matrix(file, "probabilities")
            return Predictions(
                class_names=tuple(names),
                file_names=_column(file, "file_name").to_pylist(),
                hashes=_column(file, "content_sha256").to_pylist(),
                label_names=_shared_texts(file, "label"),
                labels=_column(file, "label_index").to_numpy(),
                heights=_column(file, "height").to_numpy(),
                widths=_column(file, "width").to_numpy(),
                formats=_shared_texts(file, "format"),
                probabilities=np.zeros([0, len(names)], np.float32) if probabilities is None else probabilities,
                decided=_find_decided(file),
                unknown_scores=_numbers(file, "unknown_score"),
                embeddings=_matrix(file, "embedding") if embeddings else None,
                baseline_probabilities=_matrix(file, "baseline_probabilities"),
            )


def _column(file: pq.ParquetFile, name: str) -> pa.ChunkedArray:
    return file.read([name])[name]


def _shared_texts(file: pq.ParquetFile, name: str) -> list[str]:
    """Returns a column of few different texts, each once in memory."""
    known: dict[str, str] = {}
    return [known.setdefault(text, text) for text in _column(file, name).to_pylist()]


def _find_decided(file: pq.ParquetFile) -> np.ndarray | None:
    """Returns whether the model decided, bool [rows]; None of a model that does not say, or a file of before it did."""
    if "decision" not in file.schema_arrow.names or (column := _column(file, "decision")).null_count:
        return None
    return np.array([text != UNDECIDED for text in column.to_pylist()], bool)


def _numbers(file: pq.ParquetFile, name: str) -> np.ndarray | None:
    if name not in file.schema_arrow.names or (column := _column(file, name)).null_count:
        return None
    return column.to_numpy()


def _matrix(file: pq.ParquetFile, name: str) -> np.ndarray | None:
    """Returns a column of lists of one length as float32 [rows, n]; None where it is null."""
    column = _column(file, name)
    if not len(column) or column.null_count:
        return None
    return np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks]).reshape(len(column), -1)
