"""What the head of a model reads of its backbone."""

from typing import Literal

Pooling = Literal["last", "roots-1", "roots-2", "roots-3"]
"""What a head reads: `last`, the averages over the image of the last block's channels; `roots-N`, the square roots of
the averages of the last N blocks' channels, side by side."""


def pooled_blocks(pooling: Pooling) -> int:
    """Returns from how many of the last blocks a head reads."""
    return 1 if pooling == "last" else int(pooling.rpartition("-")[2])
