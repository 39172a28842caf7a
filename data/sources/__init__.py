"""The sources of labelled images, one module each; `data/source_kinds.py` is their table."""

from data.settings import DataSettings
from data.source_kinds import SOURCES
from data.sources.relabelled import RelabelledSource
from data.sources.source import Source
from data.sources.spans import SpanSource
from data.spans import has_span


def make_source(settings: DataSettings) -> Source:
    """Returns the source that the settings name, with the labels that they give; no image is read yet.

    Raises:
        UserError: `data.path` has a `{SPAN}`, and there is none.
    """
    source: Source = SpanSource(settings) if has_span(settings.path) else SOURCES[settings.source].load()(settings)
    return RelabelledSource(source, settings.labels) if settings.labels else source
