"""The sources of labelled images, one module each."""

from data.settings import DataSettings
from data.sources.source import Source


def make_source(settings: DataSettings) -> Source:
    """Returns the source that the settings name; nothing is read yet."""
    # Imported here: each brings what only it needs.
    if settings.source == "digits":
        from data.sources.digits import DigitsSource

        return DigitsSource()
    if settings.source == "cifar10":
        from data.sources.cifar10 import Cifar10Source

        return Cifar10Source(settings)
    if settings.source == "tfrecords":
        from data.sources.tfrecords import TFRecordSource

        return TFRecordSource(settings)
    from data.sources.image_folder import ImageFolderSource

    return ImageFolderSource(settings)
