"""The processes of the node: one converts a model, another runs a format's client over images."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

import components
from components.exported_model import SAVED_MODEL_FILE
from components.exported_model.signatures import PIXELS_SIGNATURE
from components.model_converter import conversion
from components.model_converter.client import CLIENT_FILE
from data.files import read_bytes

_CONVERSION_SECONDS = 3600
# Of a client that hangs; the largest backbone takes less than a second for an image.
_START_SECONDS, _IMAGE_SECONDS = 600, 60
# What a process needs to find its libraries and a place for temporary files.
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "OMP_NUM_THREADS")
_LAST_CHARACTERS = 300


class ProcessDied(Exception):
    """A process ended without having done its work, or could not have done it; the text says how."""


def convert(saved_model_path: str, format: str, folder: Path) -> float:
    """Converts a model, and returns how long the SavedModel takes for an image, in milliseconds.

    Args:
        saved_model_path: local or remote.
        format: one of `FORMATS`.
        folder: gets the format's file; holds `CALIBRATION_FILE`, where the format needs it.

    Raises:
        ProcessDied: it cannot be converted.
    """
    (graph,) = SavedModel.FromString(read_bytes(os.path.join(saved_model_path, SAVED_MODEL_FILE))).meta_graphs
    if PIXELS_SIGNATURE not in graph.signature_def:
        raise ProcessDied(f"cannot be converted: the model has no signature {PIXELS_SIGNATURE}; train it anew")
    root = Path(components.__path__[0]).parent
    command = [sys.executable, "-m", conversion.__name__, saved_model_path, format, str(folder)]
    with tempfile.TemporaryFile() as errors:
        # As it is, but for these: a model in a bucket needs credentials.
        paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=errors)
        with _ending(done, _CONVERSION_SECONDS):
            if done.wait():
                raise ProcessDied(f"cannot be converted: {_last_line(errors.fileno(), done)}")
    return float(json.loads((folder / conversion.MEASURED_FILE).read_text(encoding="utf-8"))["milliseconds"])


def ask_client(folder: Path, images: Iterable[bytes], count: int) -> Iterator[tuple[str, float]]:
    """Runs a client as a user would, with nothing of this project, and yields class and seconds of each image.

    Args:
        folder: of the format.
        images: encoded.
        count: how many there are, about.

    Raises:
        ProcessDied: it ended, or did not answer in time.
    """
    environment = {key: os.environ[key] for key in _KEPT_VARIABLES if key in os.environ}
    environment.update(CUDA_VISIBLE_DEVICES="-1", TF_CPP_MIN_LOG_LEVEL="3")
    with tempfile.TemporaryDirectory(prefix="client-") as name, tempfile.TemporaryFile() as errors:
        image_path = Path(name) / "image"
        client = subprocess.Popen(
            [sys.executable, "-I", "-X", "utf8", str(folder / CLIENT_FILE)],
            cwd=name,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
        )
        assert client.stdin is not None
        assert client.stdout is not None
        with _ending(client, _START_SECONDS + _IMAGE_SECONDS * count):
            for image in images:
                image_path.write_bytes(image)
                line = ""
                with contextlib.suppress(BrokenPipeError):
                    client.stdin.write(f"{image_path}\n")
                    client.stdin.flush()
                    line = client.stdout.readline()
                if not line:
                    client.wait()
                    raise ProcessDied(f"its client ended: {_last_line(errors.fileno(), client)}")
                try:
                    answer = json.loads(line)
                    label, seconds = answer["label"], answer["seconds"]
                except (ValueError, KeyError, TypeError):
                    raise ProcessDied(f"its client said {line.strip()[:_LAST_CHARACTERS]!r}") from None
                yield label, seconds


@contextlib.contextmanager
def _ending(process: subprocess.Popen, seconds: float) -> Iterator[None]:
    """Ends a process after a time, and with the block."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        process.kill()
        for pipe in filter(None, (process.stdin, process.stdout)):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        process.wait()


def _last_line(errors: int, process: subprocess.Popen) -> str:
    """Returns the last line that a process wrote as an error, most often an exception and its text."""
    text = os.pread(errors, 1 << 20, max(0, os.fstat(errors).st_size - (1 << 20))).decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if process.returncode < 0 or not lines:
        return f"exit status {process.returncode}"
    return lines[-1][:_LAST_CHARACTERS]
