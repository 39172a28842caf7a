"""TFRecord files of `tf.train.Example`: those of TFX (`Split-train/...`), of TensorFlow Datasets, or anybody's."""

import hashlib
import itertools
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import tensorflow as tf
from google.protobuf import message

from data import gfile
from data.class_names import read_label_names
from data.errors import UserError
from data.features import normal_form
from data.files import FileEntry, has_glob, is_left_behind, list_names, list_tree, open_binary, stat_file
from data.settings import DataSettings
from data.sources.reading import ReadAll
from data.sources.source import SourceImage

_NAME = re.compile(r"(\.tfrecords?(-\d+-of-\d+)?|-\d{5}-of-\d{5})(\.gz)?$", re.IGNORECASE)

_SAMPLE = 20
"""Records; if none of so many has an image and a class, that is no accident."""


def is_tfrecord_name(path: str) -> bool:
    """Says whether a file is called like a TFRecord file: `*.tfrecord` or `*-00000-of-00010`, `.gz` may follow."""
    return _NAME.search(path) is not None


@dataclass(frozen=True)
class RecordFile:
    """One file of records.

    Attributes:
        path: absolute, or as the settings give it.
        name: for people: relative to the root, or the last part of the path.
        split: as its folder or the words of its name declare it, else None.
    """

    path: str
    name: str
    split: str | None


class TFRecordSource:
    """A file, a glob or a folder of TFRecord files, compressed by gzip or not."""

    def __init__(self, settings: DataSettings) -> None:
        """Keeps the settings; `settings.path` is where the files are."""
        self._settings = settings

    @staticmethod
    def lies_at(path: str) -> bool:
        """See `Source`: by the names of files."""
        if has_glob(path) and not gfile.exists(path):
            return any(map(is_tfrecord_name, gfile.glob(path)))
        if not gfile.isdir(path):
            return gfile.exists(path) and is_tfrecord_name(path)
        # TFX and others put the records of each split into a folder of its own.
        folders = (name for name in gfile.list_folders(path) if not is_left_behind(name))
        below = [inner for name in itertools.islice(folders, 10) for inner in list_names(os.path.join(path, name))]
        return any(map(is_tfrecord_name, list_names(path))) or (bool(below) and all(map(is_tfrecord_name, below)))

    def fingerprint(self) -> str:
        """See `Source`: hashes each file's path, size and time."""
        digest = hashlib.sha256()
        for file in self._entries():
            digest.update(f"{file.path}\0{file.size}\0{file.mtime_ns}\0".encode())
        if self._settings.class_names:
            digest.update("\n".join(read_label_names(self._settings.class_names)).encode())
        return digest.hexdigest()

    def prepare(self) -> list[str]:
        """See `Source`; refuses records that the settings name no image or class of before all are read."""
        self.fingerprint()
        sample = list(itertools.islice(self._reader().read_file(next(self.list_files())), _SAMPLE))
        if len(sample) == _SAMPLE and all(image.problem for image in sample):
            raise UserError(
                f"data.path is {self._path}, where none of the first {_SAMPLE} records of a file can be used, such as"
                f" {sample[0].name}: {sample[0].problem}"
            )
        if not self._is_folder():
            return []
        tree = list_tree(self._path)
        return [*tree.ignored, *(file.path for file in tree.files if not is_tfrecord_name(file.path))]

    def read(self) -> beam.PTransform:
        """See `Source`: within a file the order is the file's own."""
        return ReadAll(self.list_files, _path_of, self._reader().read_file)

    def _reader(self) -> "_Reader":
        names = read_label_names(self._settings.class_names) if self._settings.class_names else None
        return _Reader(self._settings, names)

    def list_files(self) -> Iterator[RecordFile]:
        """Yields the files, in an order that mixes the splits.

        Raises:
            UserError: as `_entries`.
        """
        files = [
            RecordFile(self._absolute(entry.path), entry.path.rsplit("/", 1)[-1], self._split_of(entry.path))
            for entry in self._entries()
        ]
        yield from sorted(files, key=lambda file: hashlib.sha256(file.path.encode()).digest())

    @property
    def _path(self) -> str:
        assert self._settings.path is not None  # DataSettings sees to it
        return self._settings.path

    def _absolute(self, path: str) -> str:
        return f"{self._path.rstrip('/')}/{path}" if self._is_folder() else path

    def _is_folder(self) -> bool:
        return gfile.isdir(self._path)

    def _entries(self) -> list[FileEntry]:
        """Returns the files: those of a folder relative to it, others as they are.

        Raises:
            UserError: there are none, or only some of them declare a split: the others would all be for training.
        """
        if self._is_folder():
            entries = [file for file in list_tree(self._path).files if is_tfrecord_name(file.path)]
        elif has_glob(self._path) and not gfile.exists(self._path):  # `run[1].tfrecord` is a name, too.
            entries = [FileEntry(*found) for found in gfile.glob_files(self._path)]
        else:
            entries = [stat_file(self._path)]
        if not entries:
            raise UserError(
                f"data.path is {self._path}, where no TFRecord file was found; their names end in .tfrecord or"
                " -00000-of-00010, and .gz may follow"
            )
        without_split = [entry.path for entry in entries if self._split_of(entry.path) is None]
        if 0 < len(without_split) < len(entries):
            raise UserError(
                f"data.path: {self._absolute(without_split[0])} lies beside files of declared splits and names none;"
                " remove it, or name a word of its name, or its folder, in data.split_folders"
                f" (known: {', '.join(self._settings.split_folders.meanings())})"
            )
        return entries

    def _split_of(self, path: str) -> str | None:
        splits = self._settings.split_folders.meanings()
        # Of an absolute path only the last folder speaks of the file: `/data/test/run1/train.tfrecord` is for training.
        *parents, name = path.split("/")[-2:]
        words = [
            *(parent.casefold().removeprefix("split-") for parent in parents),
            *re.split(r"[-_.]", name.casefold()),
        ]
        declared = next((splits[word] for word in words if word in splits), None)
        return declared or self._settings.split_folders.split_of(name)


def _path_of(file: RecordFile) -> str:
    return file.path


@dataclass(frozen=True)
class _Reader:
    """Reads files of records.

    Attributes:
        settings: name the features.
        label_names: the class of each integer label; None where the numbers are the names.
    """

    settings: DataSettings
    label_names: list[str] | None

    def read_file(self, file: RecordFile) -> Iterator[SourceImage]:
        count = 0
        try:
            with gfile.local_copy(file.path) as path:
                with open_binary(path) as opened:
                    compression = _find_compression(opened.read(10))
                for record in tf.data.TFRecordDataset([path], compression).as_numpy_iterator():
                    yield self._read_record(record, f"{file.name}#{count}", file.split)
                    count += 1
        except (tf.errors.OpError, OSError) as error:
            problem = f"cannot be read after {count} records ({type(error).__name__}); copy the file anew or remove it"
            yield SourceImage(file.path, "", None, b"", problem, fatal=True)

    def _read_record(self, record: bytes, name: str, split: str | None) -> SourceImage:
        """Returns the record's image; `name` is used where the record holds none."""
        example = tf.train.Example()
        try:
            example.ParseFromString(record)
        except message.DecodeError:
            return SourceImage(name, "", split, b"", "not a tf.train.Example")
        names = _bytes_values(example, self.settings.tfrecord_name_feature)
        name = names[0].decode("utf-8", "backslashreplace") if names else name
        images = _bytes_values(example, self.settings.tfrecord_image_feature)
        label = self._read_label(example)
        if len(images) == 1 and (label is not None or not self.settings.needs_labels):
            return SourceImage(name, label or "", split, images[0])
        what, setting = ("image", "tfrecord_image_feature") if len(images) != 1 else ("class", "tfrecord_label_feature")
        feature = getattr(self.settings, setting)
        problem = f"no {what} in the feature {feature!r} (data.{setting})"
        found = ", ".join(sorted(example.features.feature)) or "none"
        if what == "class" and feature in example.features.feature:
            problem += f", which holds {_describe_values(example, feature)}: a class is a name, a whole number"
            problem += f"{' below ' + str(len(self.label_names)) if self.label_names else ''}, or 0s and a 1 (one-hot)"
        return SourceImage(name, "", split, b"", f"{problem}; the record's features: {found}")

    def _read_label(self, example: tf.train.Example) -> str | None:
        """Returns the class name, or None where the feature does not give exactly one."""
        key = self.settings.tfrecord_label_feature
        texts = _bytes_values(example, key)
        if len(texts) == 1:
            return normal_form(texts[0].decode("utf-8", "backslashreplace")) or None
        numbers = _numbers(example, key)
        if len(numbers) > 1 and sorted(numbers)[-2:] == [0, 1] and min(numbers) == 0:
            numbers = [numbers.index(1)]
        if len(numbers) != 1 or numbers[0] != int(numbers[0]):
            return None
        number = int(numbers[0])
        if self.label_names is None:
            return str(number)
        return self.label_names[number] if 0 <= number < len(self.label_names) else None


def _find_compression(start: bytes) -> str:
    """Returns TensorFlow's word for how a file is packed that begins so.

    A plain one begins with a record's length in eight bytes, of which the last four are 0, and its checksum.
    """
    if start[:3] == b"\x1f\x8b\x08" and start[8:9] in (b"\x00", b"\x02", b"\x04"):
        return "GZIP"
    is_zlib = start[:1] == b"\x78" and int.from_bytes(start[:2], "big") % 31 == 0 and any(start[4:8])
    return "ZLIB" if is_zlib else ""


def _numbers(example: tf.train.Example, key: str) -> list[float]:
    """Returns the finite numbers of a feature."""
    features = example.features.feature
    if key not in features:
        return []
    return [
        value for value in [*features[key].int64_list.value, *features[key].float_list.value] if math.isfinite(value)
    ]


def _describe_values(example: tf.train.Example, key: str) -> str:
    texts, numbers = _bytes_values(example, key), _numbers(example, key)
    shown = [*(text.decode("utf-8", "backslashreplace")[:20] for text in texts), *(f"{number:g}" for number in numbers)]
    return f"{', '.join(shown[:5])}{', ...' if len(shown) > 5 else ''}" or "nothing"


def _bytes_values(example: tf.train.Example, key: str) -> list[bytes]:
    # `in` first: looking a missing key up in a protobuf map adds it.
    features = example.features.feature
    return list(features[key].bytes_list.value) if key in features else []
