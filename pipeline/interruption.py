"""Ctrl-C and SIGTERM: both end a command with one line and status 130, whatever it is doing, and however often."""

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

EXIT_INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_seen: list[int] = []


def was_interrupted() -> bool:
    """Says whether a signal came since the command began: Beam makes a RuntimeError of it where it meets a DoFn."""
    return bool(_seen)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Makes each signal a KeyboardInterrupt in the block; behind one that was interrupted the next ends the process."""
    _seen.clear()
    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to that one alone.
        yield
        return
    # Who started us in the background, as `nohup` does, may have had SIGINT ignored.
    before = {number: handler for number in _SIGNALS if (handler := signal.getsignal(number)) != signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, _interrupt)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, _leave if _seen else handler)


def listen_while_loading() -> None:
    """Ends a command in one line while its modules are still imported; does nothing in a process that runs none."""
    main = sys.modules["__main__"]
    if main.__name__ == "__main__" and getattr(main.__spec__, "name", "").startswith("pipeline."):
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _leave)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _seen:
        # Where KeyboardInterrupt passes through `exec` of a text, as imports of data classes do, Python ends by killing
        # itself with SIGINT, whatever the status; where it cannot, by 130.
        atexit.register(signal.pthread_sigmask, signal.SIG_BLOCK, {signal.SIGINT})
    _seen.append(number)
    raise KeyboardInterrupt


def _leave(number: int, frame: FrameType | None) -> None:
    if not _seen:  # Else it was told.
        os.write(2, b"error: interrupted\n")
    os._exit(EXIT_INTERRUPTED)
