"""The version that answers, and the change to another one, which is loaded and tried beside it."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from components.exported_model.loaded import LoadedModel, ModelAnswer
from data.errors import Fault, UserError
from data.picture import UnusableImage
from pipeline.serving.batching import Batcher
from pipeline.serving.model_source import Candidate, ModelSource
from pipeline.serving.trial import FailedTrial, measure_batch, probe, warm

_SETTLE_SECONDS = 1.0
"""After its last request was answered, what handled that one lets go of a version."""
Prepared = np.ndarray | bytes
Log = Callable[[str], None]
_logger = logging.getLogger(__name__)


@dataclass
class Version:
    """A version that is loaded.

    Attributes:
        number: of its folder.
        model: what it is.
        batcher: through which it is asked.
        users: how many requests it has to answer.
    """

    number: int
    model: LoadedModel
    batcher: Batcher[Prepared, ModelAnswer]
    users: int = 0


@dataclass
class Versions:
    """Holds the version that answers, and looks for newer ones.

    The highest number counts, as for TensorFlow Serving: where that is moved aside, the one below it answers again.

    Attributes:
        source: where versions are.
        make_batcher: model and batch size -> what asks it.
        batch_size: of all versions; None until the first one was measured.
        tell: for the few lines on the screen.
        current: the version that answers; set by `start`.
        loading: the number of the one that is being loaded.
    """

    source: ModelSource
    make_batcher: Callable[[LoadedModel, int], Batcher[Prepared, ModelAnswer]]
    batch_size: int | None
    tell: Log
    current: Version = field(init=False)
    loading: int | None = None
    _failed: dict[int, Candidate] = field(default_factory=dict)
    _seen: dict[int, Candidate] = field(default_factory=dict)
    _executor: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="loader"))

    def start(self) -> None:
        """Loads the highest version that passes its trial.

        Raises:
            UserError: none does.
        """
        reasons = []
        for candidate in self.source.find():
            try:
                model = self._load(candidate)
            except (UserError, FailedTrial) as error:
                self._refuse(candidate, str(error))
                reasons.append(f"version {candidate.number}: {error}")
                continue
            if self.batch_size is None:
                self.batch_size, rate = measure_batch(model)
                self.tell(f"batches of {self.batch_size} measured best: {rate:,.1f} images a second")
            self.current = Version(candidate.number, model, self.make_batcher(model, self.batch_size))
            return
        raise UserError(
            f"--model {self.source.uri}: no version can answer; {reasons[0] if reasons else 'none is there'}"
        )

    @contextlib.contextmanager
    def in_use(self) -> Iterator[Version]:
        """Gives the version that answers all of a request, whatever comes meanwhile."""
        version = self.current
        version.users += 1
        try:
            yield version
        finally:
            version.users -= 1

    async def watch(self, poll_seconds: float) -> None:
        """Looks for another version again and again, until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(poll_seconds)
            try:
                candidate = await loop.run_in_executor(self._executor, self._look)
                if candidate is not None:
                    await self._change(candidate)
            except Exception:  # A bucket that is away for a while must not end the looking.
                _logger.exception("looking for a newer version failed")

    def stop(self) -> None:
        """Ends the thread that loads."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> Candidate | None:
        """Returns the version to change to: the highest that did not fail as it is, once its files stand still."""
        found = self.source.find()
        seen, self._seen = self._seen, {candidate.number: candidate for candidate in found}
        for candidate in found:
            if candidate.number == self.current.number:
                return None
            if self._failed.get(candidate.number) == candidate:
                continue
            return candidate if seen.get(candidate.number) == candidate else None
        return None

    async def _change(self, candidate: Candidate) -> None:
        self.loading = candidate.number
        try:
            model = await asyncio.get_running_loop().run_in_executor(self._executor, self._load, candidate)
        except (UserError, FailedTrial, UnusableImage) as error:
            self._refuse(candidate, str(error))
            return
        finally:
            self.loading = None
        assert self.batch_size is not None  # `start` measured it.
        old, self.current = self.current, Version(candidate.number, model, self.make_batcher(model, self.batch_size))
        self.tell(f"version {candidate.number} answers now, in place of {old.number}")
        del model
        while old.users:
            await asyncio.sleep(0.1)
        del old
        await asyncio.sleep(_SETTLE_SECONDS)
        await asyncio.get_running_loop().run_in_executor(self._executor, _give_memory_back)

    def _load(self, candidate: Candidate) -> LoadedModel:
        """Loads, warms and probes a version.

        Raises:
            UserError: it cannot be loaded.
            FailedTrial: it does not answer sanely.
        """
        with tempfile.TemporaryDirectory(prefix="model-") as root:
            try:
                model = LoadedModel(self.source.fetch(candidate, Path(root)))
                probe(model)
                if self.batch_size is not None:
                    warm(model, self.batch_size)
            except (UserError, FailedTrial, Fault):
                raise
            except Exception as error:  # TensorFlow's are of many types, and whichever it is, another version answers.
                raise FailedTrial(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
        return model

    def _refuse(self, candidate: Candidate, reason: str) -> None:
        self._failed[candidate.number] = candidate
        self.tell(f"version {candidate.number} is left alone until it changes: {reason}")


def _give_memory_back() -> None:
    """Frees models that nobody uses, which hold themselves in cycles, and returns to the system what glibc keeps.

    After six changes between two versions of VGG16 at 32 px it held 776 MB, and 674 after this; 656 before all.
    """
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
