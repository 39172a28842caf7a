"""Work in threads, in Beam steps and elsewhere: decoding, hashing and compressing leave Python to other threads."""

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_WAITING_PER_THREAD = 4
"""More than one, so that no thread rests while a large image is waited for whose turn it is."""


def thread_count() -> int:
    """Returns how many threads work: the cores that this process may use."""
    return len(os.sched_getaffinity(0))


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """One for all steps of a process: a worker of Dataflow runs several bundles of several steps at a time."""
    return ThreadPoolExecutor(threads, thread_name_prefix="images")


def map_in_threads(function: Callable[[_In], _Out], elements: Iterable[_In], ahead: int) -> Iterator[_Out]:
    """Yields what a function makes of elements, in their order, worked on in threads while the caller does other work.

    Args:
        function: called in several threads at once.
        elements: read in the caller's thread.
        ahead: how many are read, worked on or waiting for their turn, at most.
    """
    waiting: deque[Future[_Out]] = deque()
    pool = _pool(thread_count())
    try:
        for element in elements:
            waiting.append(pool.submit(function, element))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


class WorkInThreads(beam.DoFn):
    """What a subclass does in `work`, in threads: results come in the order of the elements.

    At most four elements a thread are read, worked on or waiting for their turn. An error ends the step, as anywhere.
    """

    _waiting: deque[Future[list[Any]]]

    def work(self, element: Any) -> Iterable[Any]:
        """Returns what an element becomes; called in several threads at once."""
        raise NotImplementedError

    def start_bundle(self) -> None:
        """Begins with nothing under way."""
        threads = thread_count()
        self._executor, self._most, self._waiting = _pool(threads), threads * _WAITING_PER_THREAD, deque()

    def process(self, element: Any) -> Iterator[Any]:
        """Hands an element to the threads, and yields what comes of an earlier one once enough are under way."""
        self._waiting.append(self._executor.submit(self._work, element))
        if len(self._waiting) >= self._most:
            yield from self._waiting.popleft().result()

    def finish_bundle(self) -> Iterator[Any]:
        """Yields the rest."""
        while self._waiting:
            for output in self._waiting.popleft().result():
                if isinstance(output, beam.pvalue.TaggedOutput):
                    yield beam.pvalue.TaggedOutput(output.tag, _in_global_window(output.value))
                else:
                    yield _in_global_window(output)

    def _work(self, element: Any) -> list[Any]:
        return list(self.work(element))


class FlatMapInThreads(WorkInThreads):
    """`beam.FlatMap` of a function whose results are few and small enough to be held."""

    def __init__(self, function: Callable[[Any], Iterable[Any]]) -> None:
        """Keeps the function, which must pickle."""
        self._function = function

    def work(self, element: Any) -> Iterable[Any]:
        """Calls it."""
        return self._function(element)


def _in_global_window(value: Any) -> WindowedValue:
    window = GlobalWindow()
    return WindowedValue(value, window.max_timestamp(), [window])
