"""How the images of a source are read: by Beam, or before a run by who wants to look at some."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam

from data.errors import UserError
from data.sources.source import Source, SourceImage
from data.threads import FlatMapInThreads

Change = Callable[[SourceImage], SourceImage]


@dataclass(frozen=True)
class _Changed:
    """What a function reads, changed image by image."""

    read_fn: Callable[..., Iterable[SourceImage]]
    change: Change

    def __call__(self, *references: Any) -> Iterator[SourceImage]:
        return map(self.change, self.read_fn(*references))


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
        self.list_fn, self._key_fn, self.read_fn, self._one_by_one = list_fn, key_fn, read_fn, one_by_one

    def then(self, change: Change) -> "ReadAll":
        """Returns a reading of the same images, each of them changed by a function that pickles."""
        return ReadAll(self.list_fn, self._key_fn, _Changed(self.read_fn, change), self._one_by_one)

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        """See the class. Only references pass through the grouping, which an in-process run keeps in memory."""
        read = _ReadInThreads(self.read_fn) if self._one_by_one else _Read(self.read_fn)
        return (
            begin
            | "Start" >> beam.Create([None])
            | "List" >> beam.FlatMap(_list, self.list_fn)
            # Not beam.Reshuffle: its keys are random, and so would be the order of the records.
            | "Key" >> beam.WithKeys(partial(_key, key_fn=self._key_fn))
            | "Spread" >> beam.GroupByKey()
            | "Ungroup" >> beam.FlatMap(_values)
            | "Read" >> beam.ParDo(read)
        )


class ReadInOrder(beam.PTransform):
    """Reads all images in one place, in the order of the function.

    Args:
        read_fn: module-level function (or method of an object that pickles) without arguments: `SourceImage`s.
    """

    def __init__(self, read_fn: Callable[[], Iterable[SourceImage]]) -> None:
        super().__init__()
        self.read_fn = read_fn

    def then(self, change: Change) -> "ReadInOrder":
        """See `ReadAll`."""
        return ReadInOrder(_Changed(self.read_fn, change))

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        """See the class."""
        return begin | "Start" >> beam.Create([None]) | "Read" >> beam.FlatMap(_read_alone, self.read_fn)


class ReadParts(beam.PTransform):
    """Reads several sources.

    Args:
        parts: what each is called in the job, and how it is read.
    """

    def __init__(self, parts: Sequence[tuple[str, beam.PTransform]]) -> None:
        super().__init__()
        self.parts = parts

    def then(self, change: Change) -> "ReadParts":
        """See `ReadAll`."""
        return ReadParts([(name, then(read, change)) for name, read in self.parts])

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        """See the class."""
        read = tuple(begin | name >> transform for name, transform in self.parts)
        return read[0] if len(read) == 1 else read | "Flatten" >> beam.Flatten()


class _Read(beam.DoFn):
    """Reads references, until a place cannot be read: each further one would take its time to fail."""

    def __init__(self, read_fn: Callable[[Any], Iterable[SourceImage]]) -> None:
        """Keeps the function, which must pickle."""
        self._read_fn = read_fn

    def start_bundle(self) -> None:
        """Begins anew."""
        self._stopped = False

    def process(self, reference: Any) -> Iterator[Any]:
        """Reads one."""
        if not self._stopped:
            try:
                yield from _call(reference, self._read_fn)
            except UserError as mistake:
                self._stopped = True
                yield _tell(mistake)


class _ReadInThreads(FlatMapInThreads):
    """The same in threads, of references that are one image."""

    def start_bundle(self) -> None:
        """Begins anew."""
        super().start_bundle()
        self._stopped = False

    def work(self, reference: Any) -> list[Any]:
        """Reads one."""
        if self._stopped:
            return []
        try:
            return list(_call(reference, self._function))
        except UserError as mistake:
            self._stopped = True
            return [_tell(mistake)]


# Any: Beam reads annotations, and cannot read those of functions.
def _list(_: None, function: Any) -> Iterable[Any]:
    try:
        yield from function()
    except UserError as mistake:  # Who reads it tells it.
        yield mistake


def _key(reference: Any, key_fn: Any) -> Any:
    return "" if isinstance(reference, UserError) else key_fn(reference)


def _call(reference: Any, function: Any) -> Iterable[Any]:
    if isinstance(reference, UserError):
        raise reference
    return function(reference)


def _read_alone(_: None, function: Any) -> Iterable[Any]:
    try:
        yield from function()
    except UserError as mistake:
        yield _tell(mistake)


def _tell(mistake: UserError) -> SourceImage:
    """Returns what stops the run: an error on a Beam worker loses its type on its way back."""
    return SourceImage("", "", None, b"", str(mistake), fatal=True)


def _values(keyed: Any) -> Iterable[Any]:
    return keyed[1]


def _change(image: Any, change: Any) -> Any:
    return change(image)


def then(read: beam.PTransform, change: Change) -> beam.PTransform:
    """Returns a reading of what another one reads, each image changed by a function that pickles."""
    if isinstance(read, ReadAll | ReadInOrder | ReadParts):
        return read.then(change)
    return read | "Change" >> beam.Map(_change, change)


def parts_of(read: beam.PTransform) -> list[beam.PTransform]:
    """Returns the readings that a reading is made of; of most sources there is one."""
    return [part for _, inner in read.parts for part in parts_of(inner)] if isinstance(read, ReadParts) else [read]


def list_references(read: beam.PTransform) -> list[Any] | None:
    """Returns what a source lists, images or the files that hold them; None where only reading tells."""
    return list(read.list_fn()) if isinstance(read, ReadAll) else None


def count_listed(source: Source) -> int | None:
    """Returns how many images a source's listing names; None where only reading tells."""
    listed = [list_references(part) for part in parts_of(source.read())]
    named = [references for references in listed if references is not None and are_images(references)]
    return sum(map(len, named)) if len(named) == len(listed) else None


def are_images(references: Sequence[Any]) -> bool:
    """Says whether each reference is one image, as those that have its label are."""
    return all(hasattr(reference, "label") for reference in references[:1])
