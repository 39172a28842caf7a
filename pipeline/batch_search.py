"""The largest batch that fits, found with few compilations: each takes a minute or two."""

from collections.abc import Callable
from dataclasses import dataclass

MULTIPLE = 8
LARGEST = 8192
_GUESSES = 5
_FULL = 0.75


@dataclass(frozen=True)
class Trial:
    """One compilation: whether a batch fits, and the bytes that it needs, if the compiler told."""

    batch_size: int
    fits: bool
    used_bytes: int | None


@dataclass(frozen=True)
class BatchSearch:
    """What was found.

    Attributes:
        largest: the largest batch that was seen to fit, a multiple of 8; None if not even 8 does.
        refused: the smallest that was seen not to fit; None if nothing was refused.
        trials: all compilations in their order.
    """

    largest: int | None
    refused: int | None
    trials: tuple[Trial, ...]

    @property
    def exact(self) -> bool:
        """Whether the next multiple of 8 was seen not to fit."""
        return self.refused is not None and self.refused - (self.largest or 0) == MULTIPLE


def find_largest_batch(
    attempt: Callable[[int], Trial], limit_bytes: int, start: int, most_trials: int = 12
) -> BatchSearch:
    """Searches the multiples of 8: a line through the memory that was used guesses, bisection finishes.

    Args:
        attempt: compiles for a batch size.
        limit_bytes: what a program may use.
        start: the first batch to try; rounded to a multiple of 8.
        most_trials: compilations at most; an unfinished search returns what it knows.
    """
    fits, refused = 0, LARGEST + MULTIPLE
    trials: list[Trial] = []
    size = min(max(_down(start), MULTIPLE), LARGEST)
    while len(trials) < most_trials:
        trial = attempt(size)
        trials.append(trial)
        if trial.fits:
            fits = max(fits, size)
        else:
            refused = min(refused, size)
        if refused - fits <= MULTIPLE:
            break
        size = _next(trials, fits, refused, limit_bytes)
    return BatchSearch(fits or None, refused if refused <= LARGEST else None, tuple(trials))


def _next(trials: list[Trial], fits: int, refused: int, limit_bytes: int) -> int:
    """Returns the next batch between the two bounds."""
    guess = _guess(trials, limit_bytes)
    if guess is not None and fits < guess < refused and len(trials) <= _GUESSES:
        size = guess
    else:
        # Where the line ends, steps of 8, 16, 32, ...: the compiler may have begun to recompute instead of storing,
        # and then its memory no longer tells how far to go.
        full = sum(trial.fits and (trial.used_bytes or 0) > _FULL * limit_bytes for trial in trials)
        size = fits + MULTIPLE * 2 ** (full - 1) if full else 2 * fits
        if refused <= LARGEST:
            middle = _down((fits + refused) // 2)
            size = min(size, middle) if full else middle
    return min(max(size, fits + MULTIPLE), refused - MULTIPLE)


def _guess(trials: list[Trial], limit_bytes: int) -> int | None:
    """Extends the line through the two batches nearest to the limit, or the one from nothing, to the limit."""
    known = {trial.batch_size: trial.used_bytes for trial in trials if trial.used_bytes}
    points = sorted(known.items(), key=lambda point: abs(point[1] - limit_bytes))[:2]
    if not points:
        return None
    (size, used), (other_size, other_used) = points[0], points[1] if len(points) > 1 else (0, 0)
    if (used - other_used) * (size - other_size) <= 0:
        return None
    return _down(int(size + (limit_bytes - used) * (size - other_size) / (used - other_used)))


def _down(size: int) -> int:
    return size // MULTIPLE * MULTIPLE
