"""The table of the sources of labelled images; their code lies in `data/sources/`, one module each."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class SourceKind:
    """One kind of source.

    Attributes:
        module: import path of the module that it is in.
        class_name: its `Source` there, which is made of the data section's settings.
        place: what `data.path` is, for people.
        path: whether it must be given, is none of its business, or is downloaded where it is not given.
        reads: settings of the data section that it reads, of those that not all sources read.
        local: whether it must lie on this machine.
        bucket_name: pattern of the last part of a `gs://` path that is one, where nothing can be looked at.
    """

    module: str
    class_name: str
    place: str = ""
    path: Literal["needed", "none", "or_download"] = "needed"
    reads: tuple[str, ...] = ()
    local: bool = False
    bucket_name: str = "(?!)"

    def load(self) -> Any:
        """Returns the class. By its name, since each brings what only it needs, and reads settings that ask this."""
        return getattr(importlib.import_module(self.module), self.class_name)


_FILE_SETTINGS = ("class_names", "split_folders")
_RECORD_SETTINGS = ("tfrecord_image_feature", "tfrecord_label_feature", "tfrecord_name_feature")
_TABLE_SETTINGS = ("columns", "unlabelled", "uri_map")

# In this order a path is asked which kind it is: the last takes any folder of folders.
SOURCES: Mapping[str, SourceKind] = {
    "digits": SourceKind("data.sources.digits", "DigitsSource", path="none"),
    "cifar10": SourceKind(
        "data.sources.cifar10",
        "Cifar10Source",
        "cifar-10-python.tar.gz",
        path="or_download",
        bucket_name=r"\.(tar\.gz|tgz)$",
    ),
    "archive": SourceKind(
        "data.sources.archive",
        "ArchiveSource",
        "a ZIP or tar archive",
        reads=(*_FILE_SETTINGS, *_RECORD_SETTINGS, *_TABLE_SETTINGS),
        local=True,
        bucket_name=r"\.(zip|tar|tar\.\w+|tbz2?|txz)$",
    ),
    "tfrecords": SourceKind(
        "data.sources.tfrecords",
        "TFRecordSource",
        "TFRecord files (a file, folder or glob)",
        reads=(*_FILE_SETTINGS, *_RECORD_SETTINGS),
        bucket_name=r"tfrecord|\*",
    ),
    "table": SourceKind(
        "data.sources.table",
        "TableSource",
        "a table of images (CSV, JSON, Parquet)",
        reads=("split_folders", *_TABLE_SETTINGS),
        bucket_name=r"\.(csv|tsv|jsonl|ndjson|json|manifest|parquet)$",
    ),
    "image_folder": SourceKind(
        "data.sources.image_folder",
        "ImageFolderSource",
        "a folder of class folders",
        reads=_FILE_SETTINGS,
        bucket_name="",
    ),
}
