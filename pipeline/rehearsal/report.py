"""What a person sees of a rehearsal: the substitutions, each task as it ends, and a table with the logs."""

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipeline.rehearsal.graph import Task
from pipeline.rehearsal.substitutions import Substitution
from pipeline.rehearsal.tasks import CACHED, FAILED, HEADER, NOT_RUN, SUCCEEDED, TaskResult

_MARKS = {
    SUCCEEDED: "[green]✓[/]",
    CACHED: "[cyan]=[/]",
    FAILED: "[red]✗[/]",
    NOT_RUN: "[yellow]·[/]",
}
_LAST_LINES, _LINE_LENGTH = 20, 500


class Report:
    """Prints; animated while `live` is entered."""

    def __init__(self, console: Console) -> None:
        """Writes to `console`."""
        self._console = console
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self.live = Progress(*columns, console=console, transient=True)
        self._lines: dict[str, TaskID] = {}

    def message(self, text: str) -> None:
        """Prints a line as it is."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def substitutions(self, found: Sequence[Substitution]) -> None:
        """Prints what differs from the spec that is submitted."""
        self.message(f"substitutions ({len(found)}); all else is as in the spec:")
        for item in found:
            self.message(f"     {item.where + ': ' if item.where else ''}{item.found} -> {item.used}")

    def task_started(self, name: str) -> None:
        """Begins a live line."""
        self._lines[name] = self.live.add_task(escape(name), total=None)

    def task_ended(self, task: Task, result: TaskResult) -> None:
        """Replaces the live line by the result; a failure shows the last lines of its log."""
        if task.name in self._lines:
            self.live.remove_task(self._lines.pop(task.name))
        self._line(f" {_MARKS[result.state]} {escape(task.name):<38}{result.seconds:6.1f} s  {escape(_note(result))}")
        if result.state == FAILED and result.log_path is not None:
            self.message(f"     last lines of {result.log_path}:")
            for line in last_lines(result.log_path):
                self.message(f"     | {line}")

    def retrying(self, name: str, reason: str) -> None:
        """Tells that a task is tried again."""
        self._line(f" [yellow]↻[/] {escape(name)}: {escape(reason)}")

    def table(self, tasks: Mapping[str, Task], results: Mapping[str, TaskResult]) -> None:
        """Prints all tasks in the order in which they ended; a container's log has its task's name."""
        # The columns of the longest names have 78 characters: a terminal of 80 cuts nothing.
        table = Table(box=None, pad_edge=False)
        for heading in ("task", "kind", "state", "tries", "seconds"):
            table.add_column(heading, justify="right" if heading in ("tries", "seconds") else "left", no_wrap=True)
        for name, result in results.items():
            table.add_row(
                escape(name),
                tasks[name].kind,
                f"{_MARKS[result.state]} {result.state}",
                str(result.attempts or ""),
                f"{result.seconds:.1f}",
            )
        self._console.print(table)

    def _line(self, markup: str) -> None:
        self._console.print(markup, highlight=False, soft_wrap=True)


def last_lines(path: Path) -> list[str]:
    """Returns the last lines that the last process of a log printed, without empty ones."""
    lines: deque[str] = deque(maxlen=_LAST_LINES)
    with path.open(encoding="utf-8", errors="replace") as log:
        for line in log:
            if line.startswith(f"{HEADER} "):
                lines.clear()
            elif line.strip():
                lines.append(line.rstrip()[:_LINE_LENGTH])
    return list(lines)


def _note(result: TaskResult) -> str:
    state = "" if result.state == SUCCEEDED else result.state
    return ": ".join(filter(None, [state, result.reason]))
