"""The sources of labelled images, one module each; `data/source_kinds.py` is their table."""

from data.settings import DataSettings
from data.source_kinds import SOURCES
from data.sources.relabelled import RelabelledSource
from data.sources.source import Source


def make_source(settings: DataSettings) -> Source:
    """Returns the source that the settings name, with the labels that they give; nothing is read yet."""
    source: Source = SOURCES[settings.source].load()(settings)
    return RelabelledSource(source, settings.labels) if settings.labels else source
