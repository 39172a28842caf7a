"""Frees an output folder of what no blessed, pushed or latest run needs: `python -m pipeline.clean OUTPUT_DIR`."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import UserError
from pipeline.command_line import EXIT_DONE, CommandLineParser, command, reader_may_leave
from pipeline.output_dir import OutputDir

if TYPE_CHECKING:
    from pipeline.clean_needs import Needs
    from pipeline.clean_places import Plan


@command("interrupted; what is left is whole: run it again for the rest")
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 0, or 2 for the user's mistake.
    """
    arguments = _make_parser().parse_args(argv)
    output = _find_output(arguments.output_dir)
    with output.locked(least_free_bytes=0):
        from pipeline.display import output_to_log

        with output_to_log(Path(os.devnull), verbose=False):  # TFX greets on standard error
            from pipeline.clean_needs import find_needs, read_metadata
            from pipeline.clean_places import carry_out, make_plan
            from pipeline.report_lineage import open_store

            store = open_store(output.metadata_path)
            known = read_metadata(store)
            needs = find_needs(store, known, output)
            plan = make_plan(known, needs, output)
        with reader_may_leave():
            _print_plan(plan, needs, output)
        if arguments.yes:
            carry_out(plan, store, known, output)
        with reader_may_leave():
            print(_conclusion(plan, output, done=arguments.yes))
    return EXIT_DONE


def _make_parser() -> argparse.ArgumentParser:
    parser = CommandLineParser(
        prog="python -m pipeline.clean",
        description="Removes from an output folder of pipeline.run_local what no latest, blessed or pushed run needs; "
        "without --yes it only says what that is. Files that no run made are left alone.",
        epilog="exit status: 0 done, 2 a mistake in the input, 1 a fault, 130 interrupted",
    )
    parser.add_argument("output_dir", metavar="OUTPUT_DIR", help="of pipeline.run_local, on this machine")
    parser.add_argument("--yes", action="store_true", help="remove it, not only say so")
    return parser


def _find_output(text: str) -> OutputDir:
    """Returns the output folder that a person names.

    Raises:
        UserError: it is none, or none of this machine.
    """
    if "://" in text:
        raise UserError(
            f"{text}: is not on this machine; only an output folder of pipeline.run_local can be cleaned (a bucket's"
            " lifecycle rules remove what is old there)"
        )
    output = OutputDir(Path(text).resolve())
    if not output.metadata_path.is_file() or not output.pipeline_root.is_dir():
        raise UserError(
            f"{text}: holds no runs (no metadata.sqlite and pipeline_root); give an output folder of pipeline.run_local"
        )
    return output


def _print_plan(plan: "Plan", needs: "Needs", output: OutputDir) -> None:
    print(output.root)
    for reason in needs.reasons:
        print(f"  keeps    {reason}")
    for why in dict.fromkeys(place.why for place in plan.places):
        places = [place for place in plan.places if place.why == why]
        size = sum(place.size_bytes for place in places)
        print(f"  removes  {len(places):5} {describe_bytes(size):>9}  {why}")
        largest = sorted(places, key=lambda one: -one.size_bytes)
        shown = [str(place.path).removeprefix(f"{output.root}/") for place in largest]
        print(f"           {', '.join(shown[:3])}{', ...' if len(shown) > 3 else ''}")


def _conclusion(plan: "Plan", output: OutputDir, *, done: bool) -> str:
    if not plan.places and not plan.marked:
        return "nothing to remove"
    size = describe_bytes(sum(place.size_bytes for place in plan.places))
    if done:
        return f"removed {size}"
    return f"{size} in all; nothing was removed: python -m pipeline.clean {shlex.quote(str(output.root))} --yes does it"


def describe_bytes(size: float) -> str:
    """Returns a size in the greatest unit that it fills: `1.5 GiB`, `340 MiB`, `12 KiB`."""
    for unit, power in (("GiB", 30), ("MiB", 20)):
        if size >= 2**power:
            return f"{size / 2**power:.1f} {unit}" if size < 10 * 2**power else f"{size / 2**power:.0f} {unit}"
    return f"{-(-int(size) // 1024)} KiB"


if __name__ == "__main__":
    sys.exit(main())
