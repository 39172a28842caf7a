"""The way of a picture through the server: decoded in threads, answered in batches by one version."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from components.exported_model.loaded import LoadedModel, ModelAnswer
from data.picture import UnusableImage
from pipeline.serving.batching import Batcher
from pipeline.serving.limits import Limits
from pipeline.serving.metrics import Metrics
from pipeline.serving.refusals import Refusal
from pipeline.serving.versions import Prepared, Version

_T = TypeVar("_T")


@dataclass(frozen=True)
class Unusable:
    """In place of an answer: why the picture has none."""

    reason: str


Said = ModelAnswer | Unusable
Picture = bytes | np.ndarray | Unusable
"""A file's bytes; uint8 [image_size, image_size, 3], an input of the model; or why there is none."""


@dataclass(frozen=True)
class Evidence:
    """Where in a picture the evidence for the likeliest class lies.

    Attributes:
        seen: uint8 [image_size, image_size, 3], what the model saw.
        heat: float32 [rows, columns], 0..1, over all of it; None of a model that cannot tell.
    """

    seen: np.ndarray
    heat: np.ndarray | None


class Answering:
    """Decodes and answers, with the threads for both.

    Attributes:
        images: how many are decoded, wait or are answered.
    """

    def __init__(self, limits: Limits, wait_seconds: float, threads: int | None = None) -> None:
        """Starts no thread before there is something to do.

        Args:
            limits: of the server.
            wait_seconds: how long an idle model waits for more images.
            threads: that decode; as many as there are cores by default.
        """
        self._limits, self._wait_seconds = limits, wait_seconds
        self._decoders = ThreadPoolExecutor(threads or len(os.sched_getaffinity(0)), thread_name_prefix="decoder")
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.images = 0
        self._being_prepared = 0
        self._image_seconds = 0.0  # from one image's answer to the next one's, lately
        self._last_end: float | None = None  # of a call that others waited for
        self.metrics: Metrics | None = None

    def make_batcher(self, model: LoadedModel, size: int) -> Batcher[Prepared, ModelAnswer]:
        """Returns what asks a model; the batchers of all versions share one thread."""

        def answer(prepared: Sequence[Prepared]) -> list[ModelAnswer]:
            start = time.perf_counter()
            answers = model.answer(prepared)
            end = time.perf_counter()
            # Between calls others are decoded, which takes cores and time, too.
            since = start if self._last_end is None else self._last_end
            self._image_seconds += ((end - since) / len(prepared) - self._image_seconds) / 4
            self._last_end = end if self.images > len(prepared) else None
            seconds = end - start
            if self.metrics:
                self.metrics.count_call(len(prepared), seconds)
            return answers

        return Batcher(answer, self._model_thread, size, self._wait_seconds, lambda: self._being_prepared > 0)

    async def answer(self, version: Version, pictures: Sequence[Picture]) -> list[Said]:
        """Answers the pictures of a request, in their order, all by one version.

        Raises:
            Refusal: there are too many, or the queue is full or too slow.
            asyncio.TimeoutError: there would be no answer in time.
        """
        if len(pictures) > self._limits.max_images:
            raise Refusal(413, f"{len(pictures):,} images; at most {self._limits.max_images} of a request are answered")
        if self.images + len(pictures) > self._limits.max_queue:
            raise Refusal(503, f"{self.images} images are being answered already; send it again later")
        # What cannot be answered in time would only take the time of those before it.
        if (seconds := self.images * self._image_seconds) > self._limits.timeout_seconds:
            raise Refusal(503, f"{self.images} images before it take {seconds:.0f} s; send it again later")
        self.images += len(pictures)
        deadline = time.monotonic() + self._limits.timeout_seconds
        try:
            tasks = [asyncio.ensure_future(self._answer_one(version, picture, deadline)) for picture in pictures]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()
        finally:
            self.images -= len(pictures)
            if not self.images:
                self._last_end = None

    async def explain(self, version: Version, picture: bytes) -> Evidence | None:
        """Returns what the model saw of a usable picture, and where the evidence lies; None of a model that is old."""
        seen = await self.in_thread(version.model.prepare, picture, self._limits.max_pixels)
        if not isinstance(seen, np.ndarray):
            return None
        if not version.model.can_explain:
            return Evidence(seen, None)
        loop = asyncio.get_running_loop()
        heat = await loop.run_in_executor(self._model_thread, version.model.explain, [seen])
        return Evidence(seen, heat[0])

    async def in_thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Runs what takes milliseconds where pictures are decoded, so that other requests go on."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, function, *arguments)

    def stop(self) -> None:
        """Ends the threads, once what they are at is done."""
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._model_thread.shutdown(wait=False, cancel_futures=True)

    async def _answer_one(self, version: Version, picture: Picture, deadline: float) -> Said:
        if isinstance(picture, Unusable):
            return picture
        prepared: Prepared | Unusable
        if isinstance(picture, bytes):
            self._being_prepared += 1
            try:
                loop = asyncio.get_running_loop()
                prepared = await loop.run_in_executor(self._decoders, self._prepare, version.model, picture)
            finally:
                self._being_prepared -= 1
        else:
            prepared = picture
        return prepared if isinstance(prepared, Unusable) else await version.batcher.submit(prepared, deadline)

    def _prepare(self, model: LoadedModel, picture: bytes) -> Prepared | Unusable:
        start = time.perf_counter()
        prepared: Prepared | Unusable
        try:
            prepared = model.prepare(picture, self._limits.max_pixels)
        except UnusableImage as error:
            prepared = Unusable(error.reason)
        if self.metrics:
            self.metrics.count_picture(not isinstance(prepared, Unusable), time.perf_counter() - start)
        return prepared
