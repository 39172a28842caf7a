"""What `data.labels` does to the images of any source."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import apache_beam as beam

from data.sources.reading import then
from data.sources.source import Source, SourceImage
from data.spans import Span


class RelabelledSource:
    """A source whose labels are renamed, or left out with their images."""

    def __init__(self, source: Source, labels: Mapping[str, str | None]) -> None:
        """Keeps the source, and label -> class name, or None."""
        self._source = source
        self._labels = labels

    @property
    def spans(self) -> tuple[Span, ...]:
        """See `SpanSource`; none of another source."""
        spans: tuple[Span, ...] = getattr(self._source, "spans", ())
        return spans

    def fingerprint(self) -> str:
        """See `Source`; the settings, which hold the new names, count apart from it."""
        return self._source.fingerprint()

    def prepare(self) -> Sequence[str]:
        """See `Source`."""
        return self._source.prepare()

    def notes(self) -> Sequence[str]:
        """See `Source`."""
        return read_notes(self._source)

    def read(self) -> beam.PTransform:
        """See `Source`."""
        return then(self._source.read(), partial(relabel, labels=self._labels))


def relabel(image: SourceImage, labels: Mapping[str, str | None]) -> SourceImage:
    """Returns an image with its label as `data.labels`, label -> class name or None, has it.

    One that is left out has no bytes.
    """
    if image.label not in labels:
        return image
    label = labels[image.label]
    if label is None:
        return replace(image, encoded=b"", problem=None, given_label=image.label, left_out=True)
    return replace(image, label=label, given_label=image.label)


def read_notes(source: Source) -> Sequence[str]:
    """Returns what a source has to tell, once it is prepared."""
    notes: Sequence[str] = source.notes() if hasattr(source, "notes") else []
    return notes
