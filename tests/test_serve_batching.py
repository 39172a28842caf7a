"""The batcher: what gathers, how long it waits, and what becomes of callers that give up or of a call that fails."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.serving.batching import Batcher


def run(scenario: "asyncio.Future[None] | object") -> None:
    asyncio.run(scenario)  # type: ignore[arg-type]


class Doubler:
    """Answers twice a number, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        if 13 in items:
            raise ValueError("unlucky")
        return [2 * item for item in items]


@pytest.fixture
def doubler() -> Doubler:
    return Doubler()


def test_what_comes_while_others_are_on_their_way_is_one_batch_at_most_so_large(doubler: Doubler) -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as pool:
            batcher: Batcher[int, int] = Batcher(doubler, pool, 4, 60, lambda: True)
            # The fourth fills the batch, so that nobody waits for the 60 s.
            assert await asyncio.gather(*map(batcher.submit, range(8))) == [2 * item for item in range(8)]
        assert doubler.batches == [[0, 1, 2, 3], [4, 5, 6, 7]]

    run(scenario())


def test_alone_nobody_waits(doubler: Doubler) -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as pool:
            batcher: Batcher[int, int] = Batcher(doubler, pool, 4, 3600, lambda: False)
            assert await asyncio.wait_for(batcher.submit(5), 30) == 10

    run(scenario())


def test_who_gave_up_is_not_asked_for(doubler: Doubler) -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as pool:
            batcher: Batcher[int, int] = Batcher(doubler, pool, 3, 60, lambda: True)
            gone = asyncio.create_task(batcher.submit(1))
            await asyncio.sleep(0)
            gone.cancel()
            assert await asyncio.gather(batcher.submit(2), batcher.submit(3)) == [4, 6]
        assert doubler.batches == [[2, 3]]

    run(scenario())


def test_a_call_that_fails_fails_its_own_batch_alone(doubler: Doubler) -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as pool:
            batcher: Batcher[int, int] = Batcher(doubler, pool, 2, 60, lambda: True)
            said = await asyncio.gather(*map(batcher.submit, [1, 13, 3, 4]), return_exceptions=True)
        assert [str(one) for one in said] == ["unlucky", "unlucky", "6", "8"]

    run(scenario())


def test_what_would_be_answered_too_late_is_told_so_and_takes_no_time(doubler: Doubler) -> None:
    def slowly(items: Sequence[int]) -> list[int]:
        time.sleep(0.2)
        return doubler(items)

    async def scenario() -> None:
        with ThreadPoolExecutor(1) as pool:
            batcher: Batcher[int, int] = Batcher(slowly, pool, 1, 60, lambda: False)
            now = time.monotonic()
            deadlines = [now + 60, now + 0.3, now + 60]
            said = await asyncio.gather(*map(batcher.submit, range(3), deadlines), return_exceptions=True)
        assert (said[0], type(said[1]), said[2]) == (0, asyncio.TimeoutError, 4)
        assert doubler.batches == [[0], [2]]

    run(scenario())
