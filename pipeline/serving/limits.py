"""How much a request may ask for, and how much the server holds at a time."""

from dataclasses import dataclass

from data.errors import UserError

MEGABYTE = 1_000_000
DEFAULT_MEGABYTES = 32
"""Of a request's body."""


@dataclass(frozen=True)
class Limits:
    """The bounds of a server.

    Attributes:
        max_bytes: of a request's body.
        max_pixels: of a picture, height x width.
        max_images: of a request.
        timeout_seconds: from a request's head to its answer.
        max_queue: how many images are decoded, wait or are answered at a time; the next gets a 503.
        max_held_bytes: of all bodies that are held at a time; the next gets a 503.
    """

    max_bytes: int
    max_pixels: int
    max_images: int = 64
    timeout_seconds: float = 20.0
    max_queue: int = 256
    max_held_bytes: int = 512 * 2**20

    def check(self) -> None:
        """Looks whether the bounds fit together.

        Raises:
            UserError: some request would never be answered.
        """
        for flag, value, least, most in (
            ("max-megabytes", self.max_bytes / MEGABYTE, 1 / MEGABYTE, self.max_held_bytes / MEGABYTE),
            ("max-pixels", self.max_pixels, 1, 89_000_000),
            ("max-images", self.max_images, 1, self.max_queue),
            ("timeout", self.timeout_seconds, 0.1, 20),  # A drain of 25 s answers what was taken.
        ):
            if not least <= value <= most:
                raise UserError(f"--{flag} {value:g}: must be {least:g} to {most:g}")
