"""The newest of several deliveries: the same kind of source for each of them, read one after the other."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import apache_beam as beam

from data.settings import DataSettings
from data.source_kinds import SOURCES
from data.sources.reading import ReadParts, then
from data.sources.relabelled import read_notes
from data.sources.source import Source, SourceImage
from data.spans import Span, find_spans


class SpanSource:
    """What `data.path` with `{SPAN}` names now: what is delivered later is not read by this one.

    Attributes:
        spans: the oldest first.
    """

    def __init__(self, settings: DataSettings) -> None:
        """Looks which deliveries there are.

        Raises:
            UserError: none, or `data.path` cannot be listed.
        """
        assert settings.path is not None  # DataSettings sees to it
        self.spans: tuple[Span, ...] = tuple(find_spans(settings.path, settings.num_spans))
        kind = SOURCES[settings.source].load()
        self._sources: list[Source] = [
            kind(settings.model_copy(update={"path": span.path, "num_spans": 1})) for span in self.spans
        ]
        self._named = settings.num_spans > 1

    def fingerprint(self) -> str:
        """See `Source`: hashes the numbers and what each delivery says."""
        digest = hashlib.sha256()
        for span, source in zip(self.spans, self._sources, strict=True):
            digest.update(f"{span.number}\0{source.fingerprint()}\0".encode())
        return digest.hexdigest()

    def prepare(self) -> list[str]:
        """See `Source`."""
        return [
            self._name(span, name)
            for span, source in zip(self.spans, self._sources, strict=True)
            for name in source.prepare()
        ]

    def notes(self) -> Sequence[str]:
        """See `Source`: of the newest."""
        return read_notes(self._sources[-1])

    def read(self) -> beam.PTransform:
        """See `Source`: where several spans are wanted, names begin with that of the span."""
        parts = []
        for span, source in zip(self.spans, self._sources, strict=True):
            read = source.read()
            named = then(read, partial(_add_span, number=span.number)) if self._named else read
            parts.append((f"Span{span.number}", named))
        return ReadParts(parts)

    def _name(self, span: Span, name: str) -> str:
        return f"{span.number}/{name}" if self._named else name


def _add_span(image: SourceImage, number: int) -> SourceImage:
    return replace(image, name=f"{number}/{image.name}")
