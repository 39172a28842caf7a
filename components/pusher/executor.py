"""A Pusher whose version folders are whole or not there."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tfx.components.pusher import executor as tfx_executor
from tfx.proto import pusher_pb2
from tfx.types import Artifact, artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.utils import io_utils, proto_utils

from components.exported_model import SAVED_MODEL_FILE
from components.exported_model.fingerprint import is_same_export
from components.pusher.archive import archive_model
from data import gfile
from data.files import remove_path

PARTIAL_PREFIX = ".partial-"
"""Model servers look at folders with a number for a name only."""

ASIDE_PREFIX = "rolled-back-"
"""Of the folder of a version that was rolled back; its number is not given again, since it may come back."""

LOCK_FILE = ".push.lock"


class Executor(tfx_executor.Executor):
    """TFX's Pusher, but for how a local version folder comes to be.

    TFX copies file by file into the final folder. A run that is killed meanwhile leaves half a model with the highest
    version, which a server takes for the newest; two pushes within one second share one version, and the second
    model is dropped without a word. Here the copy is made beside it and renamed, which is atomic in one file system.
    An object store has no such rename: there `saved_model.pb` is copied last, which servers take for the sign. What is
    pushed is the archive, to which the profile of the test split was added.
    """

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes the model to `<base_directory>/<version>` if it is blessed.

        Args:
            input_dict: `model`, and optionally `model_blessing` and `predictions`.
            output_dict: `pushed_model`; it gets the properties `pushed`, `pushed_destination`, `pushed_version`.
            exec_properties: `push_destination`, JSON of a PushDestination to a file system.
        """
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties[specs.PUSH_DESTINATION_KEY], destination)
        base_dir = destination.filesystem.base_directory
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(output_dict[specs.PUSHED_MODEL_KEY])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        # The archive goes first: once the version is visible nothing is left to do that a kill could leave undone.
        archive_model(self.GetModelPath(input_dict), input_dict, pushed.uri)
        push = push_to_bucket if "://" in base_dir else push_atomically
        version_path = push(pushed.uri, base_dir)
        self._MarkPushed(pushed, pushed_destination=version_path, pushed_version=os.path.basename(version_path))


def push_atomically(model_path: str, base_dir: str) -> str:
    """Copies a model into a new version folder that appears complete or not at all.

    The version is the time in seconds since 1970, or one more than the highest there, whichever is greater. A model
    that is served, as the highest, is not copied again: a run that is not served from cache may come to it anew.

    Args:
        model_path: folder of a SavedModel, local or remote.
        base_dir: local folder of the versions; made if it does not exist.

    Returns:
        The path of the model's version.
    """
    os.makedirs(base_dir, exist_ok=True)
    with locked_for_push(os.path.join(base_dir, LOCK_FILE)):
        names = os.listdir(base_dir)
        for name in names:
            if name.startswith(PARTIAL_PREFIX):
                # Whoever holds the lock is the only one at work here: this was left by a killed push.
                shutil.rmtree(os.path.join(base_dir, name))
        numbers = [int(name) for name in names if name.isdecimal()]
        if numbers and is_same_export(model_path, served := os.path.join(base_dir, str(max(numbers)))):
            return served
        version = _next_version(names)
        partial_path = os.path.join(base_dir, PARTIAL_PREFIX + version)
        version_path = os.path.join(base_dir, version)
        io_utils.copy_dir(model_path, partial_path)
        os.rename(partial_path, version_path)
    return version_path


def push_to_bucket(model_path: str, base_dir: str) -> str:
    """Copies a model into a new version folder of a bucket, as `push_atomically` numbers it.

    No lock keeps others out: two pushes that begin within one second, which one output folder never makes, may mix.

    Args:
        model_path: folder of a SavedModel, local or remote.
        base_dir: `gs://` or `s3://` folder of the versions.

    Returns:
        The path of the model's version.
    """
    names = [name.rstrip("/") for name in gfile.listdir(base_dir)] if gfile.isdir(base_dir) else []
    for number in sorted((int(name) for name in names if name.isdecimal()), reverse=True):
        if gfile.exists(f"{(served := os.path.join(base_dir, str(number)))}/{SAVED_MODEL_FILE}"):
            if is_same_export(model_path, served):
                return served
            break
    version_path = os.path.join(base_dir, _next_version(names))
    copy_model(model_path, version_path)
    return version_path


def copy_model(source: str, target: str) -> None:
    """Copies a SavedModel file by file, `saved_model.pb` last: who looks for that never sees half of it.

    Args:
        source: folder, local or remote.
        target: folder; what is there of a copy that was interrupted is replaced.
    """
    names = [name for name, *_ in gfile.list_below(source)]
    for name in sorted(names, key=lambda name: (name == SAVED_MODEL_FILE, name)):
        gfile.makedirs(os.path.dirname(f"{target}/{name}"))
        if not gfile.is_s3(target):  # which may be written by who may not remove
            remove_path(f"{target}/{name}")  # TensorFlow's ram:// would add to it
        gfile.copy(f"{source}/{name}", f"{target}/{name}")


def _next_version(names: Iterable[str]) -> str:
    """Returns the time in seconds since 1970, or one more than the highest number there, served or set aside."""
    numbers = [int(number) for name in names if (number := name.removeprefix(ASIDE_PREFIX)).isdecimal()]
    return str(max(int(time.time()), max(numbers, default=0) + 1))


@contextmanager
def locked_for_push(path: str) -> Iterator[None]:
    """Holds a file's lock, which the system frees when the process ends, however it ends."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
