"""Runs a compiled Vertex AI pipeline on this machine: `python -m pipeline.rehearse SPEC.json`."""

import argparse
import contextlib
import datetime
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from data.errors import UserError
from pipeline.command_line import EXIT_DONE, EXIT_FAILED, CommandLineParser, command
from pipeline.output_dir import DEFAULT_OUTPUT, OutputDir
from pipeline.rehearsal.artifact_store import ArtifactStore
from pipeline.rehearsal.checks import check_images, check_tasks
from pipeline.rehearsal.graph import Task, make_tasks
from pipeline.rehearsal.processes import Processes
from pipeline.rehearsal.report import Report
from pipeline.rehearsal.schedule import run_tasks
from pipeline.rehearsal.spec import Spec, read_spec
from pipeline.rehearsal.substitutions import Places, substitute
from pipeline.rehearsal.tasks import FAILED, Job

DEFAULT_PARALLEL = 2


@command(interrupted="interrupted; run it again: tasks that had finished are served from cache")
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 0 all tasks ended well, 1 a task failed, 2 the user's mistake, 130 interrupted.
    """
    arguments = make_parser().parse_args(argv)
    spec = read_spec(Path(arguments.spec))
    tasks = make_tasks(spec)
    check_tasks(spec.path, tasks)
    output_dir = OutputDir(Path(arguments.output_dir or DEFAULT_OUTPUT / f"{spec.name}-rehearsal").resolve())
    if any(character in str(output_dir.root) for character in "\"'\\{}"):
        raise UserError(
            f"{output_dir.root}: cannot be the output folder, since its name goes into JSON in place of gs://;"
            " choose one without quotes, backslashes and braces with --output-dir"
        )
    with output_dir.locked():
        return rehearse(spec, tasks, output_dir.root, arguments)


def make_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = CommandLineParser(
        prog="python -m pipeline.rehearse",
        description="Runs a compiled Vertex AI pipeline on this machine, every task as the process that it names. "
        "Buckets become folders, cloud-only executors their local equals; each such substitution is printed.",
        epilog="exit status: 0 all tasks ended well, 1 a task failed, 2 a mistake in the input, 130 interrupted",
    )
    parser.add_argument("spec", metavar="SPEC", help="what pipeline.run_vertex --compile-only wrote")
    parser.add_argument("--output-dir", metavar="DIR", help="where everything goes (output/<name>-rehearsal)")
    parser.add_argument("--no-cache", action="store_true", help="run every task anew")
    parser.add_argument("--no-retries", action="store_true", help="end at a task's first failure, whatever its policy")
    parser.add_argument(
        "--fail-fast", action="store_true", help="begin nothing after a failure, as run_vertex --fail-fast has it"
    )
    parser.add_argument(
        "--parallel",
        metavar="N",
        type=_positive,
        default=DEFAULT_PARALLEL,
        help="tasks that may run at the same time (%(default)s)",
    )
    return parser


def rehearse(spec: Spec, tasks: dict[str, Task], output_dir: Path, arguments: argparse.Namespace) -> int:
    """Runs the tasks in a locked output folder.

    Returns:
        The exit status.

    Raises:
        UserError: a task has no local equal, or what earlier rehearsals left is damaged.
        KeyboardInterrupt: all processes have been ended.
    """
    started = time.monotonic()
    places = Places(output_dir)
    check_images(spec.path, tasks, places)
    root = Path(places.local(spec.pipeline_root) if spec.pipeline_root else output_dir / "pipeline_root")
    local_tasks, substitutions = substitute(tasks, places, output_dir)
    # To the microsecond, of whoever holds the folder's lock: another rehearsal has another one.
    job_id = f"{spec.name}-{datetime.datetime.now():%Y%m%d%H%M%S%f}"
    log_dir = output_dir / "logs" / job_id
    log_dir.mkdir(parents=True)
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    report = Report(console)
    with report.live if console.is_terminal else contextlib.nullcontext():
        report.message(f"{spec.name}: {len(tasks)} tasks of {spec.path} -> {output_dir}")
        report.substitutions(substitutions)
        job = Job(
            pipeline=spec.name,
            job_id=job_id,
            root=root.resolve(),
            log_dir=log_dir,
            store=ArtifactStore(output_dir / "artifacts.json", spec.name),
            lock=threading.Lock(),
            processes=Processes(),
            use_cache=not arguments.no_cache,
            use_retries=not arguments.no_retries,
            fail_fast=arguments.fail_fast,
            retrying=report.retrying,
        )
        outcomes = run_tasks(local_tasks, job, report, arguments.parallel)
    report.table(local_tasks, outcomes)
    failed = [name for name, outcome in outcomes.items() if outcome.state == FAILED]
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    verdict = f"failed: {', '.join(failed)}" if failed else "all tasks ended well"
    report.message(f"{verdict}; {minutes} min {seconds:02} s; logs: {log_dir}")
    return EXIT_FAILED if failed else EXIT_DONE


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
