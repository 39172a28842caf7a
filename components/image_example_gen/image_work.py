"""What both Beam jobs do image by image, in threads."""

from collections.abc import Iterator
from typing import Any

from components.progress import report_progress
from data.sources.source import SourceImage
from data.threads import WorkInThreads

_PROGRESS_STEP = 500


class ImageWork(WorkInThreads):
    """Tells every 500 images how many are done."""

    def __init__(self, message: str, total: int | None) -> None:
        """Keeps what is being done, for people, and to how many images, where that is known."""
        self._message, self._total, self._done = message, total, 0

    def process(self, image: SourceImage) -> Iterator[Any]:
        """See `WorkInThreads`."""
        yield from super().process(image)
        self._done += 1
        if self._done % _PROGRESS_STEP == 0:
            report_progress(self._message, completed=self._done, total=self._total)
