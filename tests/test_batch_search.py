"""The largest batch that fits is found, whatever the compiler does with its memory, and with few compilations."""

from collections.abc import Callable

import pytest

from pipeline.batch_search import LARGEST, Trial, find_largest_batch

LIMIT = 16_000


def compiler(used: Callable[[int], int | None], limit: int = LIMIT) -> Callable[[int], Trial]:
    def attempt(size: int) -> Trial:
        need = used(size)
        return Trial(size, need is not None and need <= limit, need)

    return attempt


@pytest.mark.parametrize("start", [1, 8, 64, 100, 384, 2000])
@pytest.mark.parametrize("per_image", [7, 41, 333, 1999])
def test_the_largest_is_found(start: int, per_image: int) -> None:
    found = find_largest_batch(compiler(lambda size: 200 + per_image * size), LIMIT, start)
    assert (found.largest or 0) == min((LIMIT - 200) // per_image // 8 * 8, LARGEST)
    assert found.exact
    assert len(found.trials) <= 7


def test_nothing_fits() -> None:
    found = find_largest_batch(compiler(lambda size: 9000 * size), LIMIT, 64)
    assert (found.largest, found.refused) == (None, 8)


def test_everything_fits() -> None:
    found = find_largest_batch(compiler(lambda size: 10), LIMIT, 64)
    assert (found.largest, found.refused, found.exact) == (LARGEST, None, False)


def test_recomputation_near_the_limit_bends_the_line() -> None:
    """Near the limit the compiler recomputes instead of storing: memory stays below it for a while, then jumps."""

    def used(size: int) -> int:
        return min(200 + 41 * size, 15_900) if size <= 520 else 18_000

    found = find_largest_batch(compiler(used), LIMIT, 64)
    assert (found.largest, found.refused) == (520, 528)


def test_a_compiler_that_tells_no_sizes_is_bisected() -> None:
    def attempt(size: int) -> Trial:
        return Trial(size, size <= 424, None)

    found = find_largest_batch(attempt, LIMIT, 64)
    assert (found.largest, found.refused) == (424, 432)


def test_a_search_that_must_stop_says_so() -> None:
    found = find_largest_batch(compiler(lambda size: None if size > 424 else 5), LIMIT, 8, most_trials=3)
    assert len(found.trials) == 3
    assert not found.exact
