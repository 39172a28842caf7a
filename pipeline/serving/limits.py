"""How much a request may ask for, and how much the server holds at a time."""

from dataclasses import dataclass

from data.errors import UserError


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
        for name, least, most in (
            ("max_bytes", 1, self.max_held_bytes),
            ("max_pixels", 1, 89_000_000),
            ("max_images", 1, self.max_queue),
            ("timeout_seconds", 0.1, 20),  # A drain of 25 s answers what was taken.
        ):
            if not least <= getattr(self, name) <= most:
                flag = f"--{name.removesuffix('_seconds').replace('_', '-')}"
                raise UserError(f"{flag} {getattr(self, name):g}: must be {least:g} to {most:,}")
