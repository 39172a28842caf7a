"""Lists pushed versions, rolls them back and promotes them again: `python -m pipeline.models list|rollback|promote`."""

import argparse
import contextlib
import functools
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import UserError
from pipeline.command_line import EXIT_DONE, CommandLineParser, command, reader_may_leave, silence_libraries
from pipeline.version_changes import ROLLBACK, Change, add_change_flags
from pipeline.version_changes import change as change_versions
from pipeline.vertex.flags import add_place_flags, load_project

if TYPE_CHECKING:
    from pipeline.model_blessings import ModelBlessings
    from pipeline.model_list import ModelVersion
    from pipeline.pushed_versions import PushedVersions
    from pipeline.rollbacks import Blessings

_PLACE_FLAGS = ("project", "region", "vertex_config", "vertex_set")


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
        versions, blessings = stack.enter_context(_opened_for_changes(arguments))
        if arguments.yes:
            stack.enter_context(versions.locked())
        number = arguments.to if arguments.act == ROLLBACK else arguments.version
        reason, who = getattr(arguments, "reason", ""), getattr(arguments, "who", "")
        hint = functools.partial(_hint, arguments)
        asked = Change(arguments.act, number, arguments.yes, reason, who, hint)
        return [versions.root, *change_versions(asked, versions, blessings)]


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
            help="an output folder of pipeline.run_local, or a folder of pushed versions: a local path, gs://... or s3://...",
        )
        act.add_argument(
            "--output-dir",
            metavar="DIR",
            help="whose runs pushed to FOLDER, where that does not lie in it (of a bucket: the one in output/)",
        )
    listing.add_argument("--json", action="store_true", help="print an array of objects")
    rollback.add_argument(
        "--to",
        type=int,
        metavar="VERSION",
        help="what is to be served; all that are newer go aside (default: the newest that is another model)",
    )
    promote.add_argument("version", type=int, metavar="VERSION", help="one that list shows as rolled back")
    add_change_flags(rollback, (rollback, promote))
    for act in (rollback, promote):
        add_place_flags(act, "if a run on Vertex AI pushed to FOLDER")
    return parser


@contextlib.contextmanager
def _opened_for_changes(arguments: argparse.Namespace) -> Iterator[tuple["PushedVersions", "Blessings | None"]]:
    """Yields the folder of versions, and where the blessings of its models are: in a project, or as `_opened`."""
    if not any(getattr(arguments, name) for name in _PLACE_FLAGS):
        with _opened(arguments, changes=True) as opened:
            yield opened
        return
    if arguments.output_dir:
        raise UserError(
            f"--output-dir {arguments.output_dir}: the run was either here or on Vertex AI; leave it out, or"
            " --project, --region and --vertex-config"
        )
    project = load_project(arguments)
    from pipeline.display import output_to_log

    with output_to_log(Path(os.devnull), verbose=False):
        from pipeline.model_places import find_versions
        from pipeline.vertex.cloud import Cloud
        from pipeline.vertex.metadata_blessings import MetadataBlessings

        versions = find_versions(arguments.folder, None, None)
        blessings = MetadataBlessings(Cloud(project.project, project.region))
    yield versions, blessings


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


def _hint(arguments: argparse.Namespace, to: int | None = None) -> str:
    words = ["python", "-m", "pipeline.models", arguments.act, arguments.folder]
    if arguments.act == "promote":
        words.append(str(arguments.version))
    elif to is not None or arguments.to is not None:
        words += ["--to", str(arguments.to if to is None else to)]
    for name in ("reason", "who", "output_dir", "project", "region", "vertex_config"):
        if value := getattr(arguments, name, None):
            words += [f"--{name.replace('_', '-')}", value]
    if arguments.vertex_set:
        words += ["--vertex-set", *arguments.vertex_set]
    return " ".join(map(shlex.quote, [*words, "--yes"]))


if __name__ == "__main__":
    sys.exit(main())
