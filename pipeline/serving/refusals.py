"""What a request is refused with."""


class Refusal(Exception):
    """A request that is not answered; what is told is one line.

    Attributes:
        status: 400 where the request is wrong, 413 where it is too large, 503 where it may be sent again later; of an
            address that there is not, 404.
        reason: what was found, and what is allowed.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


RETRY_AFTER_SECONDS = 1
"""What a 503 asks for: a full queue is empty again after about a second or two."""
