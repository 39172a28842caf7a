"""Runs the SavedModel in a process of its own, which has TensorFlow and the model's folder and nothing else."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tfx.utils import io_utils

from components.serving_validator import probe

_TIMEOUT_SECONDS = 1800
# What a process needs to find its libraries and a place for temporary files. Not the rest: a variable of this run must
# neither help the model nor make the process take a GPU or a TPU, which this one may hold.
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "OMP_NUM_THREADS")
_ERRORS_FILE = "stderr.txt"
_LAST_CHARACTERS = 300


class ProcessDied(Exception):
    """The process ended without an answer: the model cannot be loaded, or took the process down with it."""


@dataclass(frozen=True)
class Call:
    """One call of a signature.

    Attributes:
        signature: its name.
        argument: the name of its one input.
        items: the batch, encoded images or serialised Examples; or pictures, uint8 [height, width, 3].
        alone: whether the signature takes one item and no batch.
    """

    signature: str
    argument: str
    items: tuple[bytes | np.ndarray, ...]
    alone: bool = False


@dataclass(frozen=True)
class Answer:
    """What came of a call: outputs by name, or an error's type and message."""

    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    error: str | None = None
    message: str = ""


@dataclass(frozen=True)
class Answers:
    """All that the process told.

    Attributes:
        signatures: name -> {"inputs" or "outputs": {name: (type, shape)}}, None for an open dimension or shape.
        calls: in the order of the calls.
        latencies_ms: of calls with one item after the warm-up, in order.
        load_seconds: for loading the model.
    """

    signatures: dict[str, dict[str, dict[str, tuple[str, list[int | None] | None]]]]
    calls: tuple[Answer, ...]
    latencies_ms: tuple[float, ...]
    load_seconds: float


class FreshProcess:
    """A process that loads the model while we prepare what to ask it."""

    def __init__(self, folder: Path, process: subprocess.Popen) -> None:
        """Takes over a started process, whose folder holds the model and the probe."""
        self._folder = folder
        self._process = process

    def ask(
        self,
        calls: Sequence[Call],
        latency_call: Call,
        *,
        warm_up_calls: int,
        latency_calls: int,
        latency_seconds: float,
    ) -> Answers:
        """Sends all calls and waits for the process to end.

        Args:
            calls: made in order; one that fails does not end the others.
            latency_call: made again and again after them, and timed.
            warm_up_calls: how often it is made before it is timed.
            latency_calls: how often it is timed at most.
            latency_seconds: after how long no further one is made; one is timed all the same.

        Raises:
            ProcessDied: it ended otherwise than by answering, or did not end.
        """
        items: list[np.ndarray] = []
        numbers: dict[tuple[bytes, tuple[int, ...]], int] = {}

        def number_of(item: bytes | np.ndarray) -> int:
            """Returns the item's place; one that is sent again is stored once."""
            array = item if isinstance(item, np.ndarray) else np.frombuffer(item, np.uint8)
            number = numbers.setdefault((array.tobytes(), array.shape), len(items))
            if number == len(items):
                items.append(array)
            return number

        wanted = [
            {
                "signature": call.signature,
                "input": call.argument,
                "items": [number_of(item) for item in call.items],
                "alone": call.alone,
            }
            for call in calls
        ]
        (timed,) = latency_call.items
        latency = {
            "signature": latency_call.signature,
            "input": latency_call.argument,
            "item": number_of(timed),
            "warm_up_calls": warm_up_calls,
            "calls": latency_calls,
            "seconds": latency_seconds,
        }
        stored: dict[str, Any] = {str(number): item for number, item in enumerate(items)}
        np.savez(self._folder / probe.ITEMS_FILE, **stored)
        (self._folder / probe.REQUEST_FILE).write_text(
            json.dumps({"calls": wanted, "latency": latency}), encoding="utf-8"
        )
        try:
            self._process.communicate("start\n", timeout=_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise ProcessDied(f"no answer within {_TIMEOUT_SECONDS} s") from None
        if self._process.returncode or not (self._folder / probe.ANSWERS_FILE).exists():
            errors = (self._folder / _ERRORS_FILE).read_text(encoding="utf-8", errors="replace")
            last = " ".join(errors.split())[-_LAST_CHARACTERS:]
            raise ProcessDied(f"exit status {self._process.returncode}: {last}")
        return self._read()

    def _read(self) -> Answers:
        told = json.loads((self._folder / probe.ANSWERS_FILE).read_text(encoding="utf-8"))
        with np.load(self._folder / probe.ARRAYS_FILE, allow_pickle=False) as arrays:
            calls = tuple(
                Answer(error=call["error"], message=call["message"])
                if "error" in call
                else Answer({key: arrays[f"{number}.{key}"] for key in call["outputs"]})
                for number, call in enumerate(told["calls"])
            )
        return Answers(told["signatures"], calls, tuple(told["latencies_ms"]), told["load_seconds"])


@contextmanager
def start_fresh_process(saved_model_path: str) -> Iterator[FreshProcess]:
    """Starts loading a model in a fresh process; the process and its folder are gone after the block.

    Args:
        saved_model_path: local or remote folder that holds `saved_model.pb`; a copy of it is loaded, as a server does.
    """
    with tempfile.TemporaryDirectory(prefix="serving-") as name:
        folder = Path(name)
        io_utils.copy_dir(saved_model_path, str(folder / "model"))
        script = shutil.copy(probe.__file__, folder / "probe.py")
        environment = {key: os.environ[key] for key in _KEPT_VARIABLES if key in os.environ}
        environment.update(CUDA_VISIBLE_DEVICES="-1", TF_CPP_MIN_LOG_LEVEL="3")
        with open(folder / _ERRORS_FILE, "wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-I", str(script), str(folder)],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                text=True,
            )
        try:
            yield FreshProcess(folder, process)
        finally:
            process.kill()
            process.communicate()
