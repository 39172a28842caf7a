"""Settings of the data section."""

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from data.features import normal_form
from data.section import LocalPath, Settings
from data.source_kinds import SOURCES
from data.spans import check_span_pattern, has_span
from data.tables.columns import TableColumns

Share = Annotated[float, Field(gt=0, le=0.5)]


def _as_text(value: Any) -> Any:
    """Returns what a YAML number or a name stands for as a label; what is neither, as it is."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return normal_form(str(value)) if is_number or isinstance(value, str) else value


LabelText = Annotated[str, Field(min_length=1), BeforeValidator(_as_text)]

_ALSO_CALLED = {"training": "train", "testing": "test"}


class SplitFolders(Settings):
    """Which names of folders and TFRecord files, or words of them, mean which split; upper and lower case are alike."""

    train: tuple[str, ...] = ("train",)
    """Folders that hold the images to train on."""
    eval: tuple[str, ...] = ("val", "valid", "validation", "eval", "dev")
    """Folders whose images choose epochs and stop early; without any, `eval` is cut from train."""
    test: tuple[str, ...] = ("test",)
    """Folders whose images only gate the push; without any, `test` is cut from train."""

    def meanings(self) -> dict[str, str]:
        """Returns name, in lower case, -> `train`, `eval` or `test`."""
        return {name.casefold(): split for split, names in self for name in names}

    def split_of(self, name: str) -> str | None:
        """Returns the one split that a name, or a word of it, means: `seg_train`, `TestSet`, `val2017`; else None."""
        meanings = self.meanings()
        if name.casefold() in meanings:
            return meanings[name.casefold()]
        words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold())
        words = [re.sub(r"(?<=.)(set|data|images|imgs)$", "", word) for word in words]
        found = {meanings.get(word) or meanings.get(_ALSO_CALLED.get(word, "")) for word in words} - {None}
        return found.pop() if len(found) == 1 else None

    @model_validator(mode="after")
    def _each_name_means_one_split(self) -> "SplitFolders":
        names = [name.casefold() for name in (*self.train, *self.eval, *self.test)]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"{repeated[0]!r} is named twice; each folder name means one split")
        if not self.train:
            raise ValueError("train names no folder; name at least one")
        return self


class DataSettings(Settings):
    """Where the labelled images come from, how they are checked and how they are split."""

    needs_labels: ClassVar[bool] = True
    # No setting: training needs them, and who scores images has `UnlabelledDataSettings`.

    source: Literal[tuple(SOURCES)] = "digits"  # type: ignore[valid-type]  # mypy wants each name written out
    """The kind of source: `digits` (1,797 handwritten digits that come with scikit-learn), `image_folder` (one folder a
    class, or `train|val|test/<class>`), `table` (CSV, JSON or Parquet with a row for each image), `archive`
    (ZIP or tar of a folder), `cifar10` (`cifar-10-python.tar.gz`) or `tfrecords` (of `tf.train.Example`)."""

    path: LocalPath | None = None
    """The folder (`image_folder`), the archive (`archive`, `cifar10`; without it the latter is downloaded) or the file,
    folder or glob (`tfrecords`, `table`): a local path, `gs://...` or `s3://...`. `digits` takes none."""

    num_spans: Annotated[int, Field(ge=1)] = 1
    """How many deliveries are read together, a rolling window of the newest, where `path` has a `{SPAN}`: a number, as
    in TFX, in the name of a folder or file (`day-{SPAN}`, or `{SPAN:8}` of eight digits). Each run looks for them."""

    eval_share: Share = 0.1
    """Share of the train images cut off as `eval`, by the hash of their content, if the source declares no `eval`."""

    test_share: Share = 0.1
    """Share of the train images cut off as `test`, by the hash of their content, if the source declares no `test`."""

    split_folders: SplitFolders = SplitFolders()
    """Which folder names declare which split (`image_folder`, `tfrecords`); in tables, which values."""

    class_names: LocalPath | None = None
    """A text file of class names. `image_folder`: lines `<folder> <class name>`, such as ImageNet's
    `n01440764 tench, Tinca tinca`; a name that several folders have gets the folder appended. `tfrecords` with integer
    labels: line N (from 0) is the name of label N. Without it, folder names and numbers are the names."""

    labels: dict[LabelText, LabelText | None] = {}
    """Label -> the class name to use in its place, or null to leave its images out: `{kirik: Fracture, Skip: null}`."""

    columns: TableColumns = TableColumns()
    """Which column of a table means what."""

    uri_map: dict[str, LocalPath] = {}
    """How paths begin in a table -> the folder that stands for it: `{"s3://bucket/x": /data/x}`; the longest counts."""

    unlabelled: Literal["quarantine", "ignore"] = "quarantine"
    """`table`: what becomes of images without a label, in a row or because they have no row and lie beside one that
    has: `ignore` leaves them out, where a table names a selection."""

    corrections: LocalPath | None = None
    """A CSV file of corrected labels, of `python -m pipeline.labels`, local, `gs://` or `s3://`. They are applied to
    the images that they name by content, before labels are compared; the source stays as it is."""

    duplicates: Literal["drop_from_train", "keep", "fail"] = "drop_from_train"
    """What happens where declared splits share an image, byte for byte, or a group: `drop_from_train` keeps it in
    `test`, else in `eval`, and drops the other copies, or the group's other images; `keep` keeps them all (figures are
    then too good); `fail` stops the run."""

    near_duplicates: Literal["tell", "keep_together"] = "tell"
    """What happens with images that differ in little but their bytes: `tell` counts those that splits share in the
    report; `keep_together` also has all that are alike in one split, as if they were a group (up to 100,000 images)."""

    max_pixels: Annotated[int, Field(ge=1, le=89_000_000)] = 50_000_000
    """Images of more pixels (height x width) are quarantined before they are decoded."""

    max_quarantined_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """The run stops when more than this share of all images cannot be used."""

    tfrecord_image_feature: Annotated[str, Field(min_length=1)] = "image"
    """`tfrecords`: the bytes feature that holds the encoded image."""

    tfrecord_label_feature: Annotated[str, Field(min_length=1)] = "label"
    """`tfrecords`: the feature that holds the class: a name (bytes) or a number (int64)."""

    tfrecord_name_feature: Annotated[str, Field(min_length=1)] = "file_name"
    """`tfrecords`: the bytes feature that names the image in lists; records without it are called `FILE#NUMBER`."""

    def without_unread(self) -> "DataSettings":
        """Returns a copy with defaults for what this source never reads, so that changing it re-runs nothing."""
        unread = {name for kind in SOURCES.values() for name in kind.reads} - {*SOURCES[self.source].reads}
        return self.model_copy(update={name: type(self).model_fields[name].default for name in unread})

    @model_validator(mode="after")
    def _fits_the_source(self) -> "DataSettings":
        kind = SOURCES[self.source]
        if self.path and kind.path == "none":
            raise ValueError(f"path is {self.path!r}, but source={self.source} reads no path; choose another source")
        if not self.path and kind.path == "needed":
            raise ValueError(f"source={self.source} needs path, the place of the images (--data PATH)")
        if self.path and kind.local and "://" in self.path:
            raise ValueError(f"path is {self.path}, an archive that is not on this machine; unpack it there or here")
        if has_span(self.path):
            check_span_pattern(self.path or "")
        elif self.num_spans > 1:
            raise ValueError(f"num_spans is {self.num_spans}, but path has no {{SPAN}} to count; leave one of them out")
        if self.class_names and "class_names" not in kind.reads:
            raise ValueError(f"class_names is set, but source={self.source} brings its own names; leave it out")
        if self.eval_share + self.test_share >= 1:
            raise ValueError("eval_share and test_share together leave nothing to train on; lower one")
        return self


class UnlabelledDataSettings(DataSettings):
    """The same where images are only looked at: labels are taken along where there are any."""

    needs_labels: ClassVar[bool] = False
