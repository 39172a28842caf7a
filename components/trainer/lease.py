"""A sign that a process uses a folder, for places that have no locks: buckets."""

import atexit
import contextlib
import os
import threading
import time
import uuid

import tensorflow as tf

from components.progress import report_progress

LEASE_FILE = "lease"
_SECONDS = 20.0
_MISSED = 3


class Lease:
    """A file of a folder that its holder writes anew every few seconds, so that others see that somebody is there.

    Of two that ask in the same instant both may get it: a bucket cannot tell who was first.
    """

    def __init__(self, folder: str, seconds: float = _SECONDS) -> None:
        """Takes nothing yet.

        Args:
            folder: local or `gs://`; need not exist.
            seconds: between two signs; all that use the folder have the same.
        """
        self._folder, self._path, self._seconds = folder, os.path.join(folder, LEASE_FILE), seconds
        self._holder, self._ended = uuid.uuid4().hex, threading.Event()
        self._thread: threading.Thread | None = None

    def take(self) -> bool:
        """Takes the folder, unless another process gives signs of using it.

        One that was killed leaves its last sign, which is watched for three times the seconds between two.

        Returns:
            Whether it was taken: from then on a thread gives signs, until `release`, or until the file is removed.
        """
        last = self._read()
        watched_until = time.monotonic() + _MISSED * self._seconds
        if last is not None:
            report_progress(f"watching {self._path} for {_MISSED * self._seconds:g} s: another run may use this folder")
        while last is not None and time.monotonic() < watched_until:
            time.sleep(self._seconds / 2)
            sign = self._read()
            if sign is not None and sign != last:
                return False
            last = sign
        tf.io.gfile.makedirs(self._folder)
        self._write(0)
        self._thread = threading.Thread(target=self._give_signs, name="lease", daemon=True)
        self._thread.start()
        atexit.register(self.release)  # a thread that is within TensorFlow when Python ends aborts the process
        return True

    def release(self) -> None:
        """Lets others have the folder at once; the end of the process does it, too, unless it is killed."""
        atexit.unregister(self.release)
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            with contextlib.suppress(tf.errors.OpError):  # whoever comes next then watches the file, and takes it
                if self._is_ours():
                    tf.io.gfile.remove(self._path)

    def _give_signs(self) -> None:
        number = 0
        while not self._ended.wait(self._seconds):
            with contextlib.suppress(tf.errors.OpError):  # a bucket that cannot be reached for a moment
                if not self._is_ours():
                    return
                number += 1
                self._write(number)

    def _is_ours(self) -> bool:
        """Whether nobody has removed the file, or taken the folder from a process that stood still for long."""
        return (self._read() or "").startswith(self._holder)

    def _read(self) -> str | None:
        try:
            with tf.io.gfile.GFile(self._path, "r") as file:
                return file.read()
        except tf.errors.NotFoundError:
            return None

    def _write(self, number: int) -> None:
        with tf.io.gfile.GFile(self._path, "w") as file:
            file.write(f"{self._holder} {number}")
