"""What a person sees of a rehearsal."""

from io import StringIO
from types import SimpleNamespace

from rich.console import Console

from pipeline.rehearsal.report import Report
from pipeline.rehearsal.tasks import TaskResult


def test_a_terminal_of_80_columns_cuts_nothing_off_the_table() -> None:
    written = StringIO()
    names = ("ModelResolver-model-blessing-resolver", "Trainer")
    tasks = {name: SimpleNamespace(kind="container") for name in names}
    outcomes = {name: TaskResult("succeeded", attempts=2, seconds=1234.56) for name in names}
    Report(Console(file=written, width=80)).table(tasks, outcomes)  # type: ignore[arg-type]
    heading, *rows = written.getvalue().splitlines()
    assert heading.split() == ["task", "kind", "state", "tries", "seconds"]
    assert [row.split() for row in rows] == [[name, "container", "✓", "succeeded", "2", "1234.6"] for name in names]
