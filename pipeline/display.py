"""What a person sees while a pipeline runs: a live line in a terminal, a plain one now and then elsewhere."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as LiveProgress
from rich.segment import Segment

from components.progress import LOGGER as PROGRESS_LOGGER
from components.progress import Progress
from pipeline.time_left import TimeLeft, describe_count

_PLAIN_SECONDS = 30.0
"""How often a passing state is told at most where there is no terminal: in a log, each line stays."""

_MARKS = {"complete": "[green]✓[/]", "cached": "[cyan]=[/]", "failed": "[red]✗[/]"}


class Display(logging.Handler):
    """Shows nodes, their progress and messages; listens to the nodes through the progress logger."""

    def __init__(self, console: Console):
        """Writes to `console`; animated only where it is a terminal."""
        super().__init__(logging.INFO)
        self._console = console
        self._live: LiveProgress | None = None
        self._task: TaskID | None = None
        self._node_id = ""
        self._time_left = TimeLeft()
        self._told_at = time.monotonic()

    @property
    def console(self) -> Console:
        """Where everything is written to."""
        return self._console

    def message(self, text: str) -> None:
        """Prints a line of rich markup that stays."""
        self._console.print(text, highlight=False, soft_wrap=not self._console.is_terminal)

    @contextlib.contextmanager
    def listening(self) -> Iterator["Display"]:
        """Receives the nodes' progress, and animates it in a terminal, while the block runs."""
        PROGRESS_LOGGER.setLevel(logging.INFO)
        PROGRESS_LOGGER.addHandler(self)
        if self._console.is_terminal:
            self._live = LiveProgress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[count]}"),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
                redirect_stdout=False,  # The log has them, by `output_to_log`.
                redirect_stderr=False,
            )
        try:
            with self._live or contextlib.nullcontext():
                yield self
        finally:
            PROGRESS_LOGGER.removeHandler(self)
            self._live = None

    def node_started(self, node_id: str) -> None:
        """Begins a node's live line."""
        self._node_id, self._told_at = node_id, time.monotonic()
        if self._live is not None:
            self._end_live_line()
            self._task = self._live.add_task(node_id, total=None, count="")

    def node_ended(self, node_id: str, state: str, seconds: float) -> None:
        """Replaces the live line by the node's result."""
        self._end_live_line()
        note = "" if state == "complete" else f"  {state}"
        self.message(f" {_MARKS[state]} {node_id:<20}{seconds:6.1f} s{note}")

    def emit(self, record: logging.LogRecord) -> None:
        """Shows one progress record of a node."""
        progress: Progress | None = getattr(record, "progress", None)
        if progress is None:
            return
        if progress.lasting:
            self.message(f"     {escape(progress.message)}")
            self._told_at = time.monotonic()
            return
        left = self._time_left.update(progress.completed, progress.total)
        count = describe_count(progress.completed, progress.total, left)
        if self._live is not None and self._task is not None:
            self._live.update(
                self._task,
                description=f"{self._node_id}  {escape(progress.message)}",
                completed=progress.completed or 0,
                total=progress.total,
                count=count,
            )
        elif self._live is None and time.monotonic() - self._told_at >= _PLAIN_SECONDS:
            self.message(f"     {escape(' '.join(filter(None, [progress.message, count])))}")
            self._told_at = time.monotonic()

    def _end_live_line(self) -> None:
        if self._live is not None and self._task is not None:
            self._live.remove_task(self._task)
            self._task = None


class _Screen(Console):
    """The real standard output of a run, which goes on if its reader leaves, as `| head` does: the log has it all."""

    def on_broken_pipe(self) -> None:
        """Is called by rich; prints to nobody from now on."""
        self.file = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


class Unpadded:
    """A table without the spaces that fill its last column: they wrap in a narrow terminal, and get into files."""

    def __init__(self, table: RenderableType):
        """Keeps what is rendered."""
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in console.render_lines(self._table, options, pad=False):
            while line and not line[-1].text.strip():
                line.pop()
            if line:
                yield from line[:-1]
                yield Segment(line[-1].text.rstrip(), line[-1].style)
            yield Segment.line()


def print_table(table: RenderableType) -> None:
    """Prints a table for a person: folded to the terminal's width, one line a row elsewhere."""
    Console(highlight=False, width=None if sys.stdout.isatty() else 10_000).print(Unpadded(table))


@contextlib.contextmanager
def output_to_log(path: Path, verbose: bool) -> Iterator[Console]:
    """Sends all that Python, TensorFlow's C++ and child processes print to a log file.

    Args:
        path: the log file.
        verbose: show Python's log lines on screen, too.

    Yields:
        A console on the real standard output, for what a person reads.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    screen: IO[str] = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors="replace", buffering=1)
    saved_stderr = os.dup(2)
    with open(path, "a", encoding="utf-8", buffering=1) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        handlers: list[logging.Handler] = [logging.StreamHandler(log)]
        if verbose:
            handlers.append(logging.StreamHandler(screen))
        root = logging.getLogger()
        level, formatter = root.level, logging.Formatter("%(asctime)s %(levelname).1s %(name)s: %(message)s")
        formatter.converter = time.localtime
        for handler in handlers:
            handler.setFormatter(formatter)
            root.addHandler(handler)
        root.setLevel(logging.INFO)
        logging.captureWarnings(True)
        try:
            yield _Screen(file=screen, width=None if screen.isatty() else 10_000, highlight=False)
        finally:
            logging.captureWarnings(False)
            root.setLevel(level)
            for handler in handlers:
                root.removeHandler(handler)
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(screen.fileno(), 1)
            os.dup2(saved_stderr, 2)
            os.close(saved_stderr)
            with contextlib.suppress(BrokenPipeError):
                screen.close()
