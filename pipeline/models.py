"""Lists pushed versions, rolls them back and promotes them again: `python -m pipeline.models list|rollback|promote`."""

import argparse
import contextlib
import datetime
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import UserError
from pipeline.command_line import EXIT_DONE, CommandLineParser, command, reader_may_leave, silence_libraries, user_name

if TYPE_CHECKING:
    from pipeline.model_blessings import ModelBlessings
    from pipeline.model_list import ModelVersion
    from pipeline.pushed_versions import PushedVersions


@command("interrupted; start it again: it goes on where it was")
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 0, or 2 for the user's mistake.
    """
    silence_libraries()
    arguments = make_parser().parse_args(argv)
    if arguments.act == "list":
        _list(arguments)
        return EXIT_DONE
    lines = change(arguments)
    with reader_may_leave():
        print("\n".join(lines))
    return EXIT_DONE


def change(arguments: argparse.Namespace) -> list[str]:
    """Rolls back or promotes, as a parsed command line says, or only looks; returns what is told of it.

    Raises:
        UserError: it cannot be done.
    """
    with contextlib.ExitStack() as stack:
        versions, blessings = stack.enter_context(_opened(arguments, changes=True))
        if arguments.yes:
            stack.enter_context(versions.locked())
        return [versions.root, *_change(arguments, versions, blessings)]


def make_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = CommandLineParser(
        prog="python -m pipeline.models",
        description="Which versions of a model were pushed, and which one is served; takes versions out of service and "
        "brings them back. Servers take the highest number in the folder.",
        epilog="exit status: 0 done, 2 a mistake in the input, 1 a fault, 130 interrupted",
    )
    acts = parser.add_subparsers(dest="act", required=True, metavar="list|rollback|promote")
    listing = acts.add_parser("list", help="the versions, the newest first")
    rollback = acts.add_parser(
        "rollback", help="set the served version aside, and take its blessing back; without --yes only say so"
    )
    promote = acts.add_parser("promote", help="undo a rollback of one version; without --yes only say so")
    for act in (listing, rollback, promote):
        act.add_argument(
            "folder",
            metavar="FOLDER",
            help="an output folder of pipeline.run_local, or a folder of pushed versions: a local path or gs://...",
        )
        act.add_argument(
            "--output-dir", metavar="DIR", help="whose runs pushed to FOLDER, where that does not lie in it"
        )
    listing.add_argument("--json", action="store_true", help="print an array of objects")
    rollback.add_argument(
        "--to",
        type=int,
        metavar="VERSION",
        help="what is to be served; all that are newer go aside (default: the newest that is another model)",
    )
    rollback.add_argument("--reason", default="", metavar="TEXT", help="why; list and report show it")
    rollback.add_argument("--who", metavar="NAME", help="who decided (default: you)")
    promote.add_argument("version", type=int, metavar="VERSION", help="one that list shows as rolled back")
    for act in (rollback, promote):
        act.add_argument("--yes", action="store_true", help="do it, not only say so")
    return parser


@contextlib.contextmanager
def _opened(
    arguments: argparse.Namespace, *, changes: bool
) -> Iterator[tuple["PushedVersions", "ModelBlessings | None"]]:
    """Yields the folder of versions, and the blessings of the output folder around it, which is locked for changes."""
    from pipeline.display import output_to_log

    with contextlib.ExitStack() as stack:
        with output_to_log(Path(os.devnull), verbose=False):  # TFX greets on standard error
            from pipeline.model_blessings import ModelBlessings
            from pipeline.model_places import find_output, find_versions

            output = find_output(arguments.folder, arguments.output_dir)
            if output and changes:
                stack.enter_context(output.locked(least_free_bytes=0))
            blessings = ModelBlessings(output) if output else None
            versions = find_versions(arguments.folder, output, blessings)
        yield versions, blessings


def _list(arguments: argparse.Namespace) -> None:
    from pipeline.display import output_to_log

    with _opened(arguments, changes=False) as (versions, blessings), output_to_log(Path(os.devnull), verbose=False):
        from pipeline.model_list import list_versions

        found = list(list_versions(versions, versions.read_journal(), blessings))
    if not found:
        raise UserError(f"{versions.root}: holds no version of a model")
    with reader_may_leave():
        if arguments.json:
            print(json.dumps([version.to_json() for version in found], indent=2, ensure_ascii=False))
        else:
            _print_table(versions.root, found)


def _print_table(root: str, found: "Sequence[ModelVersion]") -> None:
    from rich.markup import escape
    from rich.table import Table

    from components.report_gen.numbers import format_number
    from pipeline.display import print_table

    table = Table(box=None, pad_edge=False)
    for column in ("version", "state", "pushed", "classes", "accuracy", "report", "run", "why"):
        table.add_column(column, overflow="fold")
    for version in found:
        state = "served" if version.served else "rolled back" if version.rolled_back else ""
        table.add_row(
            str(version.number),
            f"{version.interrupted} interrupted" if version.interrupted else state,
            f"{version.pushed:%Y-%m-%d %H:%M:%S}" if version.pushed else "",
            "" if version.classes is None else str(len(version.classes)),
            format_number(version.accuracy),
            version.run or "",
            f"{version.started:%Y-%m-%d %H:%M:%S}" if version.started else "",
            escape(version.rolled_back.describe()) if version.rolled_back else "",
        )
    print(root)
    print_table(table)


def _change(arguments: argparse.Namespace, versions: "PushedVersions", blessings: "ModelBlessings | None") -> list[str]:
    """Does what is asked for, or only looks, and returns what is told of it."""
    from pipeline.pushed_versions import ROLLBACK
    from pipeline.rollbacks import go_on

    journal = versions.read_journal()
    lines = []
    if journal.act:
        moved = ", ".join(map(str, journal.versions))
        if not arguments.yes:
            return [f"  a {journal.act} of {moved} was interrupted; {_hint(arguments)} finishes it"]
        go_on(versions, journal, blessings)
        lines.append(f"  finished  the {journal.act} of {moved}, which was interrupted")
        wanted = journal.act == ROLLBACK if arguments.act == ROLLBACK else journal.versions == (arguments.version,)
        # Of a rollback that names no version nobody can say whether it means one more.
        if journal.act == arguments.act and wanted and (arguments.act != ROLLBACK or arguments.to is None):
            return lines
    act = _roll_back if arguments.act == ROLLBACK else _promote
    return [*lines, *act(arguments, versions, blessings)]


def _roll_back(
    arguments: argparse.Namespace, versions: "PushedVersions", blessings: "ModelBlessings | None"
) -> list[str]:
    from components.evaluator.rollback import Rollback
    from pipeline.rollbacks import find_target, start_rollback

    to, leaving = find_target(versions, arguments.to)
    if not leaving:
        return [f"  {to} is served; there is nothing to roll back"]
    lines = [f"  aside     {', '.join(map(str, leaving))}", f"  served    {to}", *_tell(versions, blessings, leaving)]
    if not arguments.yes:
        return [*lines, f"nothing was changed; {_hint(arguments, to)} does it"]
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    why = Rollback(" ".join(arguments.reason.split()), arguments.who or user_name(), now)
    start_rollback(versions, versions.read_journal(), blessings, leaving, why)
    return lines


def _promote(
    arguments: argparse.Namespace, versions: "PushedVersions", blessings: "ModelBlessings | None"
) -> list[str]:
    from pipeline.rollbacks import check_promotion, start_promotion

    journal, number = versions.read_journal(), arguments.version
    check_promotion(versions, journal, blessings, number)
    served = max([number, *versions.list()[0]])
    lines = [f"  back      {number}", f"  served    {served}" + (", which is newer" if served != number else "")]
    lines += _tell(versions, blessings, [number])
    if not arguments.yes:
        return [*lines, f"nothing was changed; {_hint(arguments)} does it"]
    start_promotion(versions, journal, blessings, number)
    return lines


def _tell(versions: "PushedVersions", blessings: "ModelBlessings | None", numbers: Sequence[int]) -> Iterator[str]:
    """Yields a line for each version, on whether a blessing goes with it."""
    for number in numbers:
        models = sorted(blessings.find_models(versions.served_path(number))) if blessings else []
        if blessings and models:
            yield f"  blessing  of {number}, {', '.join(map(blessings.describe_model, models))}"
        elif blessings:
            yield f"  blessing  not of {number}: no run of {blessings.output.root} is known to have pushed it"
        else:
            yield (
                f"  blessing  not of {number}: the metadata of its run are not at hand (--output-dir), so that for"
                " the next run's baseline nothing changes"
            )


def _hint(arguments: argparse.Namespace, to: int | None = None) -> str:
    words = ["python", "-m", "pipeline.models", arguments.act, arguments.folder]
    if arguments.act == "promote":
        words.append(str(arguments.version))
    elif to is not None or arguments.to is not None:
        words += ["--to", str(arguments.to if to is None else to)]
    for name in ("reason", "who", "output_dir"):
        if value := getattr(arguments, name, None):
            words += [f"--{name.replace('_', '-')}", value]
    return " ".join(map(shlex.quote, [*words, "--yes"]))


if __name__ == "__main__":
    sys.exit(main())
