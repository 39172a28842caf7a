"""Gathers what several requests ask of a model into one call of it."""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")
_LONGER = 1.5
"""Than the last call, as it may take where others want the cores."""


class Batcher(Generic[_Item, _Answer]):
    """Answers items in batches, one batch at a time; used from one event loop.

    While a batch is answered the next one gathers. An idle model waits for more only while others are on their way: a
    client alone is answered at once.

    Attributes:
        size: the most items of a batch.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[_Item]], Sequence[_Answer]],
        executor: Executor,
        size: int,
        wait_seconds: float,
        others_come: Callable[[], bool],
    ) -> None:
        """Makes one that does nothing until there are items.

        Args:
            answer: a batch -> as many answers in its order; called in the executor.
            executor: of one thread, which several batchers may share.
            size: the most items of a batch.
            wait_seconds: how long an idle model waits for more.
            others_come: whether further items are being prepared.
        """
        self.size = size
        self._answer, self._executor = answer, executor
        self._wait_seconds, self._others_come = wait_seconds, others_come
        self._waiting: deque[tuple[_Item, asyncio.Future[_Answer], float]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._full = asyncio.Event()
        self._call_seconds = 0.0

    async def submit(self, item: _Item, deadline: float = math.inf) -> _Answer:
        """Returns an item's answer; one whose caller was cancelled meanwhile is not asked for.

        Args:
            item: to answer.
            deadline: by `time.monotonic`. What would be answered after it is not asked for while others wait, which
                would come too late as well.

        Raises:
            asyncio.TimeoutError: there would be no answer by then.
        """
        future: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future, deadline))
        if len(self._waiting) >= self.size:
            self._full.set()
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())
        return await future

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._gather()
                if batch := self._take():
                    await self._run(batch)
        finally:
            self._worker = None

    async def _gather(self) -> None:
        self._full.clear()
        if len(self._waiting) < self.size and self._others_come():
            with contextlib.suppress(asyncio.TimeoutError):  # What came is enough.
                await asyncio.wait_for(self._full.wait(), self._wait_seconds)

    def _take(self) -> list[tuple[_Item, asyncio.Future[_Answer]]]:
        batch: list[tuple[_Item, asyncio.Future[_Answer]]] = []
        earliest = time.monotonic() + _LONGER * self._call_seconds
        while self._waiting and len(batch) < self.size:
            item, future, deadline = self._waiting.popleft()
            if future.done():  # Its caller gave up.
                continue
            # The last one is tried: it takes nobody's time, and the call may be quick again.
            if earliest > deadline and self._waiting:
                future.set_exception(asyncio.TimeoutError())
            else:
                batch.append((item, future))
        return batch

    async def _run(self, batch: list[tuple[_Item, asyncio.Future[_Answer]]]) -> None:
        items = [item for item, _ in batch]
        start = time.monotonic()
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._executor, self._answer, items)
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        finally:
            self._call_seconds = time.monotonic() - start
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
