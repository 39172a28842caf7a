"""Tells whether scored images drift from what a model met on test: `python -m pipeline.watch SCORED --model DIR`."""

import argparse
import heapq
import json
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import UserError
from pipeline.command_line import (
    EXIT_DONE,
    EXIT_DRIFTED,
    CommandLineParser,
    command,
    reader_may_leave,
    silence_libraries,
)
from pipeline.model_versions import find_model

if TYPE_CHECKING:
    from components.exported_model.reference import Profile
    from pipeline.scoring.drift import DriftTest

_LEAST_IMAGES = 30
_SAMPLE_FILE = "to-label.csv"


@command()
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 0 without drift, 3 with, 2 for the user's mistake.
    """
    silence_libraries()
    arguments = _make_parser().parse_args(argv)
    if not 0 < arguments.false_alarms < 1:
        raise UserError(f"--false-alarms {arguments.false_alarms}: must lie between 0 and 1")
    sample = _Sample(arguments)
    from components.exported_model.reference import PUSHED_REFERENCE_FILE, read_reference
    from pipeline.scoring.drift import find_drift
    from pipeline.scoring.rows import read_rows

    model = find_model(arguments.model)
    reference = read_reference(model)
    if reference is None:
        raise UserError(
            f"--model {model}: carries no {PUSHED_REFERENCE_FILE} to compare with; it was not pushed, or by an older"
            " version: run the pipeline again"
        )
    scored, unusable = _count(sample.seeing(read_rows(arguments.scored)), Path(model).name, arguments.scored)
    if scored.images < _LEAST_IMAGES:
        raise UserError(
            f"{arguments.scored}: holds {scored.images} images that could be scored; {_LEAST_IMAGES} are the fewest to"
            " compare"
        )
    tests = find_drift(reference, scored, arguments.false_alarms)
    written = sample.write()
    with reader_may_leave():
        if arguments.json:
            print(
                json.dumps(_facts(arguments, model, reference, scored, unusable, tests), indent=2, ensure_ascii=False)
            )
        else:
            _tell(reference, scored, unusable, tests, written)
    return EXIT_DRIFTED if any(test.drifted for test in tests) else EXIT_DONE


def _make_parser() -> argparse.ArgumentParser:
    from pipeline.scoring import FALSE_ALARMS

    parser = CommandLineParser(
        prog="python -m pipeline.watch",
        description="Compares scored images, predicted classes and confidence with what the model met on test.",
        epilog="exit status: 0 no drift, 3 drift, 2 a mistake in the input, 130 interrupted",
    )
    parser.add_argument("scored", metavar="SCORED", help="what python -m pipeline.predict --out wrote")
    parser.add_argument(
        "--model",
        metavar="DIR",
        help="the version that scored them, or the folder of its versions (default: the latest pushed)",
    )
    parser.add_argument(
        "--false-alarms",
        type=float,
        default=FALSE_ALARMS,
        metavar="RATE",
        help="the share of comparisons without drift that may raise an alarm (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print an object with every test")
    parser.add_argument("--sample", type=int, metavar="N", help="write N images to label next, drawn at random")
    parser.add_argument("--least-certain", action="store_true", help="those of the smallest probability instead")
    parser.add_argument(
        "--to", metavar="FILE", help=f"where the sample goes, for python -m pipeline.labels import ({_SAMPLE_FILE})"
    )
    return parser


def _count(rows: Iterable[dict[str, Any]], version: str, scored: str) -> tuple["Profile", int]:
    """Returns the profile of the images that could be used, and the number of the others.

    Raises:
        UserError: another model scored them.
    """
    from components.exported_model.reference import CONFIDENCE, Profile
    from components.exported_model.signatures import UNKNOWN_SCORE
    from pipeline.scoring.rows import FIGURE_COLUMNS

    profile, unusable = Profile(), 0
    for row in rows:
        if row["version"] != version:
            raise UserError(
                f"{scored}: was scored by version {row['version']}, and --model is {version}; give the model that"
                " scored it, or score anew"
            )
        if row["problem"]:
            unusable += 1
            continue
        figures = {figure: row[column] for column, figure in FIGURE_COLUMNS.items()}
        profile.add(row["label"], {**figures, CONFIDENCE: row["probability"], UNKNOWN_SCORE: row["unknown_score"]})
    return profile, unusable


class _Sample:
    """Images to label next, of rows that pass by: no more than asked for are held, and of each content one."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        """Checks what is asked for.

        Raises:
            UserError: it does not fit together, or its file is there already.
        """
        self._size, self._least_certain = arguments.sample, arguments.least_certain
        if self._size is None and (arguments.least_certain or arguments.to):
            raise UserError(
                f"{'--least-certain' if arguments.least_certain else '--to'} is for a sample; give --sample"
            )
        if self._size is not None and self._size < 1:
            raise UserError(f"--sample {self._size}: must be at least 1")
        self._path = Path(arguments.to or _SAMPLE_FILE)
        if self._size and self._path.exists():
            raise UserError(
                f"{self._path}: is there already, and may hold somebody's decisions; name another with --to"
            )
        self._heap: list[tuple[float, str, dict[str, Any]]] = []
        self._held: set[str] = set()

    def seeing(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yields the rows, and keeps those of the smallest probability, or of the smallest of random numbers."""
        for row in rows:
            if self._size and not row["problem"] and row["sha256"] not in self._held:
                # The same number for the same content, so that a copy further on has no second chance.
                drawn = row["probability"] if self._least_certain else random.Random(row["sha256"]).random()
                heapq.heappush(self._heap, (-drawn, row["sha256"], row))
                self._held.add(row["sha256"])
                if len(self._heap) > self._size:
                    self._held.discard(heapq.heappop(self._heap)[1])
            yield row

    def write(self) -> str | None:
        """Writes the spreadsheet that `pipeline.labels import` reads; returns a line for people.

        Raises:
            UserError: it cannot be written.
        """
        if not self._size:
            return None
        from pipeline.label_files import render_csv
        from pipeline.output_dir import write_whole

        ordered = [row for _, _, row in sorted(self._heap, key=lambda item: (-item[0], item[1]))]
        try:
            write_whole(self._path, render_csv(map(_to_label, ordered)))
        except OSError as error:
            raise UserError(f"{self._path}: cannot be written: {error.strerror}; choose another with --to") from None
        return f"{self._path}: {len(ordered):,} images to label; fill in new_label: a class, REMOVE, or the label again"


def _to_label(row: dict[str, Any]) -> dict[str, str]:
    """Returns the columns of `doubtful.csv`; an image without a label stands under the one that the model gives it."""
    return {
        "content_sha256": row["sha256"],
        "name": row["name"],
        "split": "",
        "label": row["given_label"] or row["label"],
        "suggested_label": row["label"],
        "kind": "scored",
        "label_probability": "",
        "suggested_probability": f"{row['probability']:.6f}",
    }


def _facts(
    arguments: argparse.Namespace,
    model: str,
    reference: "Profile",
    scored: "Profile",
    unusable: int,
    tests: Sequence["DriftTest"],
) -> dict[str, Any]:
    return {
        "scored": arguments.scored,
        "model": model,
        "images": scored.images,
        "unusable": unusable,
        "reference_images": reference.images,
        "false_alarms": arguments.false_alarms,
        "drifted": any(test.drifted for test in tests),
        "tests": [test.to_json() for test in tests],
    }


def _tell(
    reference: "Profile", scored: "Profile", unusable: int, tests: Sequence["DriftTest"], written: str | None
) -> None:
    drifted = [test for test in tests if test.drifted]
    for test in drifted:
        print(f"drift  {test.describe()}")
    bad = f", {unusable:,} that cannot be used left out" if unusable else ""
    print(
        f"{len(drifted) or 'no'} drift of {len(tests)} tests: {scored.images:,} images{bad}, against"
        f" {reference.images:,} of test"
    )
    if written:
        print(written)


if __name__ == "__main__":
    sys.exit(main())
