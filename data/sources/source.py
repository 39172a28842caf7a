"""What every source of labelled images gives."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import apache_beam as beam

from data.threads import FlatMapInThreads


@dataclass(frozen=True)
class SourceImage:
    """One labelled image as its source holds it, not yet checked.

    Attributes:
        name: where it lies, relative to its source; for people.
        label: the class name; empty where `problem` says why.
        split: `train`, `eval` or `test` where the source declares it, else None.
        encoded: the file's bytes.
        problem: why it cannot be used, where the source knows, else None.
        fatal: whether the problem hides further images, so that the run must stop.
        group: images of one group (a patient, a camera, a burst) stay in one split; None where it belongs to none.
        weight: what it weighs in training, above 0.
        given_label: the label that the source gives, where `data.labels` changes it, else None.
        left_out: whether `data.labels` leaves it out.
    """

    name: str
    label: str
    split: str | None
    encoded: bytes
    problem: str | None = None
    fatal: bool = False
    group: str | None = None
    weight: float = 1.0
    given_label: str | None = None
    left_out: bool = False


class Source(Protocol):
    """A place that labelled images come from; one that reads `data.path` has `lies_at` for `--data PATH`.

    `lies_at(path: str) -> bool` is a static method: says whether what lies at a path is of this kind, by names, and no
    deeper than two levels of a folder. One with something to tell has `notes() -> Sequence[str]`, lines for people, to
    be called after `prepare`.
    """

    def fingerprint(self) -> str:
        """Returns a hexadecimal hash that changes when any image, label or split may have changed.

        Cheap: reads no image and downloads nothing, but sees whether the place is laid out as this source expects.

        Raises:
            UserError: there is no such place, or it is laid out otherwise.
        """

    def prepare(self) -> Sequence[str]:
        """Makes sure that the images can be read: to be called once before `read`.

        Here and not while reading, since an error on a Beam worker loses its type on its way back.

        Returns:
            The names of what lies there and is neither class nor image, for people: side files, and what systems leave.

        Raises:
            UserError: as `fingerprint`, or a download fails.
        """

    def read(self) -> beam.PTransform:
        """Returns a transform from the pipeline's begin to all images, as `SourceImage`s.

        The order does not depend on the order in which a file system lists its files.
        """


class ReadAll(beam.PTransform):
    """Lists references in one place, spreads them over the workers, and reads each where it ends up.

    Args:
        list_fn: module-level function (or method of an object that pickles) without arguments: the references, small.
        key_fn: reference -> a str that no other reference has.
        read_fn: reference -> `SourceImage`s.
        one_by_one: whether a reference is one image, so that several can be read at once, ahead of who takes them.
    """

    def __init__(
        self,
        list_fn: Callable[[], Iterable[Any]],
        key_fn: Callable[[Any], str],
        read_fn: Callable[[Any], Iterable[SourceImage]],
        one_by_one: bool = False,
    ) -> None:
        super().__init__()
        self.list_fn = list_fn
        self._key_fn = key_fn
        self.read_fn = read_fn
        self._read = beam.ParDo(FlatMapInThreads(read_fn)) if one_by_one else beam.FlatMap(read_fn)

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        """See the class. Only references pass through the grouping, which an in-process run keeps in memory."""
        return (
            begin
            | "Start" >> beam.Create([None])
            | "List" >> beam.FlatMap(_list_references, self.list_fn)
            # Not beam.Reshuffle: its keys are random, and so would be the order of the records.
            | "Key" >> beam.WithKeys(self._key_fn)
            | "Spread" >> beam.GroupByKey()
            | "Ungroup" >> beam.FlatMap(_values)
            | "Read" >> self._read
        )


class ReadInOrder(beam.PTransform):
    """Reads all images in one place, in the order of the function.

    Args:
        read_fn: module-level function (or method of an object that pickles) without arguments: `SourceImage`s.
    """

    def __init__(self, read_fn: Callable[[], Iterable[SourceImage]]) -> None:
        super().__init__()
        self.read_fn = read_fn

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        """See the class."""
        return begin | "Start" >> beam.Create([None]) | "Read" >> beam.FlatMap(_list_references, self.read_fn)


# Any: Beam reads annotations, and cannot read those of functions.
def _list_references(_: None, list_fn: Any) -> Iterable[Any]:
    return list_fn()


def _values(keyed: Any) -> Iterable[Any]:
    return keyed[1]


def list_references(read: Any) -> list[Any] | None:
    """Returns what a source lists, images or the files that hold them; None where only reading tells."""
    return list(read.list_fn()) if isinstance(read, ReadAll) else None


def count_listed(source: Source) -> int | None:
    """Returns how many images a source's listing names; None where only reading tells."""
    references = list_references(source.read())
    return len(references) if references is not None and are_images(references) else None


def are_images(references: Sequence[Any]) -> bool:
    """Says whether each reference is one image, as those that have its label are."""
    return all(hasattr(reference, "label") for reference in references[:1])
