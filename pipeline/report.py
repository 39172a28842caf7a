"""Opens, rebuilds, compares and slices reports: `python -m pipeline.report [RUN...]`."""

import argparse
import contextlib
import json
import logging
import sys
import webbrowser
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.report_gen import CARD_FILE, DOUBTFUL_FILE, REPORT_FILE
from components.report_gen.account import Account
from data.errors import UserError
from pipeline.command_line import EXIT_DONE, CommandLineParser, command, reader_may_leave, silence_libraries
from pipeline.output_dir import OutputDir, write_whole
from pipeline.report_comparison import comparison_rows, make_titles, render_comparison, render_rows
from pipeline.report_runs import ReportRun, find_run, list_runs

if TYPE_CHECKING:
    from pipeline.local_runner import NodeResult

FORMATS = ("json", "csv", "md")
_OTHER_OUTPUT = "choose another with --output"


@command()
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 0, or 2 for the user's mistake.
    """
    silence_libraries()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # TFMA reads with what TensorFlow calls deprecated
    arguments = _make_parser().parse_args(argv)
    _check(arguments)
    with reader_may_leave():
        runs = [find_run(text) for text in arguments.runs or [None]]
        if arguments.list:
            _print_list(runs[0])
        elif arguments.slice or arguments.threshold is not None or arguments.top_k is not None:
            _print_slices(runs, arguments)
        elif len(runs) > 1:
            _compare(runs, arguments)
        elif arguments.format:
            _print_facts(runs[0], arguments.format)
        else:
            _write_page(runs[0], arguments)
    return EXIT_DONE


def _make_parser() -> argparse.ArgumentParser:
    parser = CommandLineParser(
        prog="python -m pipeline.report",
        description="Opens the report of a run, rebuilt with what the run's own node could not know: durations and "
        "lineage. Several runs: a page that compares them, and a table here.",
    )
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="an output folder (its last run), a number of --list, or any folder that TFMA wrote (default: the last "
        "run in output)",
    )
    parser.add_argument("--list", action="store_true", help="list the runs of RUN's output folder")
    parser.add_argument("--format", choices=FORMATS, help="print figures in this format, and write no page")
    parser.add_argument(
        "--slice",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="figures of the test images for which it holds: label, predicted, format, file_name (=, with * and ?), "
        "confidence, height, width (=, <, <=, >, >=), correct (yes, no); several must all hold",
    )
    parser.add_argument(
        "--threshold", type=float, metavar="P", help="figures of the answers that are at least so sure, and their share"
    )
    parser.add_argument(
        "--top-k", type=int, metavar="K", help="how often the label is among the K most probable classes"
    )
    parser.add_argument("--no-images", action="store_true", help="a page without thumbnails, for private data")
    parser.add_argument("--output", metavar="FILE", help="where the page goes (report.html in the output folder)")
    parser.add_argument("--no-open", action="store_true", help="do not open the page in a browser")
    return parser


def _check(arguments: argparse.Namespace) -> None:
    if arguments.threshold is not None and not 0.0 <= arguments.threshold <= 1.0:
        raise UserError(f"--threshold {arguments.threshold:g}: is no probability; give one from 0 to 1")
    if arguments.top_k is not None and arguments.top_k < 1:
        raise UserError(f"--top-k {arguments.top_k}: must be at least 1")
    if arguments.output and Path(arguments.output).is_dir():
        raise UserError(f"--output {arguments.output}: is a folder; name a file in it")


def publish_report(output: OutputDir, results: "Sequence[NodeResult]") -> Path | None:
    """Puts the report of the run that has just ended into its output folder, with durations and lineage.

    Args:
        output: of the run.
        results: of its nodes, whose measured times are more exact than ML Metadata's.

    Returns:
        The page's path, or None if the run came to no report.

    Raises:
        UserError: it cannot be written, or what it is made from cannot be read.
    """
    if not any(result.node_id == "ReportGen" and result.outputs for result in results):
        return None
    run = find_run(str(output.root))
    account = run.load_account()
    nodes = [one.to_account() for one in results]
    account = replace(account, run={**(account.run or {"title": "", "lineage": []}), "nodes": nodes})
    with _writing(output.report_path, f"make it writable, then run python -m pipeline.report {output.root}"):
        _write_files(account, output.report_path)
        doubtful = Path(str(run.facts_path)).with_name(DOUBTFUL_FILE)
        if doubtful.exists():
            write_whole(output.report_path.with_name(DOUBTFUL_FILE), doubtful.read_text(encoding="utf-8"))
    return output.report_path


def withdraw_report(output: OutputDir) -> None:
    """Removes the last run's report, which is not to be taken for that of the run that begins.

    Raises:
        UserError: it cannot be removed.
    """
    with _writing(output.report_path, "move it away"):
        output.report_path.unlink(missing_ok=True)
        output.report_path.with_name(DOUBTFUL_FILE).unlink(missing_ok=True)


def _write_page(run: ReportRun, arguments: argparse.Namespace) -> None:
    account = run.load_account()
    if arguments.no_images:
        account = account.without_images()
    if arguments.output:
        path = Path(arguments.output)
    elif run.output:
        path = run.output.report_path if run.latest else run.output.root / f"report-{run.number or 'evaluation'}.html"
    else:
        path = Path(REPORT_FILE).resolve()
    with _writing(path, _OTHER_OUTPUT):
        _write_files(account, path)
    _open(path, arguments)


@contextlib.contextmanager
def _writing(path: Path, advice: str) -> Iterator[None]:
    """Tells in one line that a page cannot be written, and what to do."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}; {advice}") from None


def _write_files(account: Account, path: Path) -> None:
    """Writes the page, and beside it the model card; both whole or not at all."""
    from components.report_gen.model_card import render_card
    from components.report_gen.page import render_page

    write_whole(path, render_page(account))
    suffix = path.stem.removeprefix(Path(REPORT_FILE).stem)
    suffix = suffix if not suffix or suffix.startswith("-") else f"-{path.stem}"
    write_whole(path.with_name(CARD_FILE.replace(".", f"{suffix}.")), render_card(account))


def _open(path: Path, arguments: argparse.Namespace) -> None:
    print(path)
    if not arguments.no_open and sys.stdout.isatty():
        webbrowser.open(path.resolve().as_uri())


def _print_facts(run: ReportRun, format: str) -> None:
    account = run.load_account()
    if format == "json":
        # What a program reads; not the pictures.
        left_out = {"thumbnails", "heat", "test_images"}
        content = {key: value for key, value in account.to_json().items() if key not in left_out}
        print(json.dumps(content, ensure_ascii=False, indent=2))
        return
    print(render_rows(comparison_rows([account]), [run.title], format), end="")


def _compare(runs: Sequence[ReportRun], arguments: argparse.Namespace) -> None:
    rows, titles = comparison_rows([run.load_account() for run in runs]), make_titles(runs)
    if arguments.format:
        print(render_rows(rows, titles, arguments.format), end="")
        return
    from rich.markup import escape
    from rich.table import Table

    from pipeline.display import print_table

    table = Table(box=None, pad_edge=False)
    for column in ("", *titles):
        table.add_column(escape(column), overflow="fold")
    for row in rows:
        table.add_row(escape(row.name), *map(escape, row.shown))
    print_table(table)
    path = Path(arguments.output or "comparison.html").resolve()
    with _writing(path, _OTHER_OUTPUT):
        write_whole(path, render_comparison(rows, titles))
    _open(path, arguments)


def _print_slices(runs: Sequence[ReportRun], arguments: argparse.Namespace) -> None:
    from pipeline.report_slices import make_slice, render_slice

    if len(runs) > 1:
        raise UserError("--slice, --threshold and --top-k look at one run; name one")
    uri = runs[0].load_account().sources.get("predictions")
    if uri is None:
        raise UserError(
            f"{runs[0].title}: has no predictions of single images, which --slice, --threshold and --top-k need"
        )
    uri = runs[0].output.rebase(uri) if runs[0].output else uri
    figures = make_slice(uri, arguments.slice, arguments.threshold, arguments.top_k)
    print(render_slice(figures, arguments.format), end="")


def _print_list(run: ReportRun) -> None:
    from rich.markup import escape
    from rich.table import Table

    from pipeline.display import print_table

    if run.output is None:
        raise UserError(
            f"{run.title}: lies in no output folder of pipeline.run_local, so that there is no list of runs"
        )
    table = Table(box=None, pad_edge=False)
    for column in ("report", "started", "verdict", "accuracy"):
        table.add_column(column)
    from components.report_gen.numbers import format_number

    for one in list_runs(run.output):
        started = f"{one.record.started:%Y-%m-%d %H:%M:%S}" if one.record else ""
        if one.cleaned:
            table.add_row(one.number, started, "cleaned", format_number(None))
            continue
        account = one.load_account()
        accuracy = next((figure.value for figure in account.headline if figure.name == "accuracy"), None)
        verdict = ", ".join(filter(None, [account.verdict.describe(), account.verdict.rollback]))
        table.add_row(one.number, started, escape(verdict), escape(format_number(accuracy)))
    print_table(table)


if __name__ == "__main__":
    sys.exit(main())
