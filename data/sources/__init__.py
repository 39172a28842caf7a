"""The sources of labelled images, one module each; `data/source_kinds.py` is their table."""

from data.settings import DataSettings
from data.source_kinds import SOURCES
from data.sources.source import Source


def make_source(settings: DataSettings) -> Source:
    """Returns the source that the settings name; nothing is read yet."""
    source: Source = SOURCES[settings.source].load()(settings)
    return source
