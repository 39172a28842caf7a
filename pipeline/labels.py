"""Sends doubtful labels to people and takes their decisions back: `python -m pipeline.labels export|import`."""

import argparse
import datetime
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data import gfile
from data.errors import UserError
from pipeline.command_line import EXIT_DONE, CommandLineParser, command, silence_libraries, user_name

_FILES = {"csv": "doubtful-labels.csv", "label-studio": "doubtful-labels.json"}
_SIDE = 512
"""Pixels of a task's picture, its longer side."""
_READ_BATCH = 64


@command()
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 0, or 2 for the user's mistake.
    """
    silence_libraries()
    arguments = _make_parser().parse_args(argv)
    if arguments.act == "export":
        _export(arguments)
    else:
        _import(arguments)
    return EXIT_DONE


def _make_parser() -> argparse.ArgumentParser:
    parser = CommandLineParser(
        prog="python -m pipeline.labels",
        description="Gives the labels that a run doubts to people, and makes of their decisions the file that "
        "data.corrections applies.",
    )
    acts = parser.add_subparsers(dest="act", required=True, metavar="export|import")
    export = acts.add_parser("export", help="write what a run doubts, for people to decide")
    export.add_argument(
        "run",
        nargs="?",
        metavar="RUN",
        help="an output folder (its last run), a report's number, or a folder of ReportGen (default: the last run)",
    )
    export.add_argument(
        "--format",
        choices=_FILES,
        default="csv",
        help="csv: fill in the column new_label, with a class, REMOVE, or the label again where it is right; "
        "label-studio: tasks with pictures, and the labeling interface beside them (%(default)s)",
    )
    export.add_argument("--first", type=int, metavar="N", help="only the N most doubtful")
    export.add_argument("--output", metavar="FILE", help="where it goes (doubtful-labels.csv or .json)")
    read = acts.add_parser("import", help="read decisions, and add them to a file of corrections")
    read.add_argument("file", metavar="FILE", help="the spreadsheet (CSV), or Label Studio's JSON export")
    read.add_argument(
        "--to", required=True, metavar="CORRECTIONS", help="the file of corrections; made where there is none"
    )
    read.add_argument("--who", metavar="NAME", help="who decided, where FILE does not say (default: you)")
    return parser


def _export(arguments: argparse.Namespace) -> None:
    from pipeline.label_files import render_csv, render_labeling_config, render_tasks
    from pipeline.report_runs import find_run

    path = Path(arguments.output or _FILES[arguments.format])
    if arguments.first is not None and arguments.first < 1:
        raise UserError(f"--first {arguments.first}: must be at least 1")
    tasks = arguments.format == "label-studio"
    interface = path.with_suffix(".xml")
    for taken in (path, interface) if tasks else (path,):
        if taken.exists():
            raise UserError(f"{taken}: is there already, and may hold somebody's decisions; name another with --output")
    run = find_run(arguments.run)
    rows = _read_doubtful(run)[: arguments.first]
    if tasks:
        images = _read_images(run, {row["content_sha256"] for row in rows})
        classes = [row.name for row in run.load_account().classes]
        _write(interface, render_labeling_config(classes))
        _write(path, render_tasks(rows, images))
        print(f"{path}: {len(rows):,} tasks; {interface} is the labeling interface of the project that takes them")
    else:
        _write(path, render_csv(rows))
        print(f"{path}: {len(rows):,} images; fill in new_label: a class, REMOVE, or the label again where it is right")


def _read_doubtful(run: Any) -> list[dict[str, str]]:
    from components.report_gen import DOUBTFUL_FILE
    from components.report_gen.label_doubts import COLUMNS
    from data.corrections import read_table
    from data.files import read_bytes

    path = f"{os.path.dirname(run.facts_path)}/{DOUBTFUL_FILE}" if run.facts_path else None
    try:
        content = read_bytes(path) if path else None
    except Exception:  # TensorFlow's file systems have errors of their own.
        content = None
    if content is None:
        raise UserError(f"{run.title}: has no {DOUBTFUL_FILE}, which ReportGen writes; run the pipeline again")
    rows = read_table(content, str(path), COLUMNS)
    if not rows:
        raise UserError(f"{run.title}: doubts no label; there is nothing to look at")
    if not all(row["content_sha256"] for row in rows):
        raise UserError(
            f"{run.title}: its examples hold no content hashes, by which images are corrected; run it again"
        )
    return rows


def _read_images(run: Any, wanted: set[str]) -> dict[str, str]:
    """Returns content hash -> data URI of the run's own examples."""
    import tensorflow as tf
    from tfx.types import artifact_utils, standard_artifacts

    from components.predictor.executor import read_records
    from components.report_gen.thumbnails import make_data_uri
    from data.features import CONTENT_HASH_KEY, IMAGE_KEY, SPLITS

    uri = run.record.uris.get(("ImageExampleGen", "examples")) if run.record else None
    if uri is None or not tf.io.gfile.exists(uri):
        raise UserError(f"{run.title}: its images are not at hand; name its output folder, or export --format csv")
    examples = standard_artifacts.Examples()
    examples.uri, examples.split_names = uri, artifact_utils.encode_split_names(list(SPLITS))
    spec = {key: tf.io.FixedLenFeature([], tf.string) for key in (IMAGE_KEY, CONTENT_HASH_KEY)}
    found: dict[str, str] = {}
    for split in SPLITS:
        for records in read_records([examples], split, _READ_BATCH):
            parsed = {key: value.numpy() for key, value in tf.io.parse_example(records, spec).items()}
            for encoded, sha256 in zip(parsed[IMAGE_KEY], parsed[CONTENT_HASH_KEY], strict=True):
                if (key := sha256.decode()) in wanted and key not in found:
                    found[key] = make_data_uri(encoded, _SIDE)
    return found


def _import(arguments: argparse.Namespace) -> None:
    import tensorflow as tf

    from data.corrections import REMOVE, merge_corrections
    from data.corrections_file import read_corrections, write_corrections
    from data.files import read_bytes
    from pipeline.label_files import read_decisions

    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    try:
        content = read_bytes(arguments.file)
    except Exception as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise UserError(f"{arguments.file}: cannot be read: {reason}") from None
    decisions = read_decisions(content, arguments.file, arguments.who or user_name(), now)
    if not decisions:
        raise UserError(f"{arguments.file}: holds no decision; fill in the column new_label, or label some tasks")
    try:
        old = read_corrections(arguments.to) if gfile.exists(arguments.to) else {}
        merged = merge_corrections(old, decisions)
        write_corrections(merged, arguments.to)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"{arguments.to}: cannot be written: {reason}; choose another with --to") from None
    removed = sum(one.label == REMOVE for one in decisions)
    right = sum(one.label == one.was for one in decisions)
    print(
        f"{arguments.to}: {len(decisions) - removed - right:,} labels corrected, {removed:,} images left out,"
        f" {right:,} found right; it holds {len(merged):,} now. Apply them with --set data.corrections={arguments.to}"
    )


def _write(path: Path, text: str) -> None:
    from pipeline.output_dir import write_whole

    try:
        write_whole(path, text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}; choose another with --output") from None


if __name__ == "__main__":
    sys.exit(main())
