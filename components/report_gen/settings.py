"""Settings of the report section."""

from pydantic import Field

from data.section import Settings


class ReportSettings(Settings):
    """What the report of a run shows."""

    images: bool = True
    """Whether the report holds thumbnails of images; false for private data: then it names files only."""

    image_kib: int = Field(default=1400, ge=0, le=20_000)
    """KiB of the page that thumbnails may take, the worst first; the other images are counted and named."""
