"""Runs the pipeline on this machine: `python -m pipeline.run_local`."""

import argparse
import datetime
import os
import shlex
import sys
import textwrap
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from components.model_converter.formats import check_installed
from data.errors import UserError
from data.json_files import write_json
from data.spans import newest_path
from pipeline.command_line import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_NOT_BLESSED,
    EXIT_USER_ERROR,
    CommandLineParser,
    add_config_flags,
    command,
    find_full_disk,
    reader_may_leave,
)
from pipeline.config import (
    DataChoice,
    PipelineConfig,
    describe_settings,
    dump_config,
    load_config,
    name_from_path,
    read_yaml,
)
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS
from pipeline.interruption import EXIT_INTERRUPTED, was_interrupted
from pipeline.output_dir import DEFAULT_OUTPUT, OutputDir, make_serving_dir, write_whole

if TYPE_CHECKING:
    from tfx.orchestration.pipeline import Pipeline

    from pipeline.display import Display


@command()
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 0 pushed, 3 not blessed, 2 the user's mistake, 1 a fault, 130 interrupted.
    """
    arguments = make_parser().parse_args(argv)
    overrides = arguments.set + ["tuner.enabled=true"] * arguments.tune
    config = load_config(arguments.preset, arguments.config, data_choice(arguments.data), overrides)
    if arguments.print_config:
        with reader_may_leave():
            print(dump_config(config), end="")
        return EXIT_DONE
    output_dir = OutputDir(Path(arguments.output_dir or DEFAULT_OUTPUT / config.name).resolve())
    _check_places(config, output_dir)
    if arguments.dry_run:
        return _dry_run(config, output_dir)
    check_installed(config.export.formats)
    with output_dir.locked():
        return run(config, output_dir, enable_cache=not arguments.no_cache, verbose=arguments.verbose)


def make_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser; its help lists every setting."""
    settings = "\n".join(
        f"  {key} ({kind}) = {default}\n" + textwrap.indent(textwrap.fill(text, 74), " " * 6)
        for key, kind, default, text in describe_settings()
    )
    parser = CommandLineParser(
        prog="python -m pipeline.run_local",
        description="Runs the image classification pipeline on this machine: ingest, check, transform, train, "
        "evaluate, push.",
        epilog=f"settings and their defaults before the preset (--set KEY=VALUE, or a --config file):\n{settings}\n\n"
        "exit status: 0 pushed, 3 not blessed, 2 a mistake in the input, 1 a fault, 130 interrupted",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_flags(
        parser, "digits", ("PATH", "a folder of class folders, a table of images, an archive, or TFRecords")
    )
    parser.add_argument("--output-dir", metavar="DIR", help="where everything goes (output/<name> in the checkout)")
    parser.add_argument(
        "--tune", action="store_true", help="first search for the Trainer's best settings, as the tuner section says"
    )
    parser.add_argument("--no-cache", action="store_true", help="run every node anew")
    parser.add_argument("--print-config", action="store_true", help="print the resolved configuration and stop")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would be trained on, what a run would refuse, and what it takes in time, disk and memory;"
        " nothing is written into the output folder",
    )
    parser.add_argument("--verbose", action="store_true", help="show the log on screen, too")
    return parser


def data_choice(path: str | None) -> DataChoice | None:
    """Looks at what `--data` names.

    Raises:
        UserError: nothing is there, or it is nothing that can be read as images.
    """
    if path is None:
        return None
    from pipeline.display import output_to_log

    with output_to_log(Path(os.devnull), verbose=False):  # TensorFlow greets on standard error
        from data.detect import settings_for_path

        settings = settings_for_path(path if "://" in path else os.path.abspath(path))
    return DataChoice(name=name_from_path(path), settings=settings)


def _check_places(config: PipelineConfig, output_dir: OutputDir) -> None:
    """Refuses places that a run would spoil for itself.

    Raises:
        UserError: what it writes lies in the images, or these among what it may remove.
    """
    path = config.data.path and newest_path(config.data.path)
    if not path or not Path(path).is_dir():
        return
    images = Path(path).resolve()
    for place, name in ((output_dir.root, "--output-dir"), (config.serving_model_dir, "serving_model_dir")):
        if place and "://" not in str(place) and Path(place).resolve().is_relative_to(images):
            raise UserError(
                f"{name} is {place}, which lies in the images ({images}): what a run leaves there would be taken for"
                f" images; choose another {name}"
            )
    if images.is_relative_to(output_dir.pipeline_root):
        raise UserError(
            f"data.path is {images}, which lies in {output_dir.pipeline_root}, where a run may remove files; choose"
            " another --output-dir"
        )


def _describe_other_data(config: PipelineConfig, output_dir: OutputDir) -> str | None:
    """Returns a line if the last run in the folder had its images from another place."""
    try:
        last = read_yaml(output_dir.config_path).get("data")
    except UserError:  # the first run, or what somebody wrote there
        return None
    now = (config.data.source, config.data.path)
    before = (last.get("source"), last.get("path")) if isinstance(last, dict) else now
    if before == now:
        return None
    return (
        f"data.path is {' '.join(filter(None, now))}; the last run in this folder had {' '.join(filter(None, before))}:"
        " its blessed models stay what new ones are compared with"
    )


def _dry_run(config: PipelineConfig, output_dir: OutputDir) -> int:
    """Tells what a run would do; returns the exit status: 2 if it would refuse."""
    from pipeline.display import output_to_log

    with output_to_log(Path(os.devnull), verbose=False) as console:
        with console.status("loading TensorFlow") as status:
            from pipeline.dry_run import look_ahead

            found = look_ahead(config, output_dir, status.update)
        for title, text in found.lines:
            console.print(f"{title:<8} {text}", markup=False, soft_wrap=True)
        for warning in found.warnings:
            console.print(f"warning  {warning}", markup=False, soft_wrap=True)
    for problem in found.problems:
        print(f"error: {problem}", file=sys.stderr)
    return EXIT_USER_ERROR if found.problems else EXIT_DONE


def run(config: PipelineConfig, output_dir: OutputDir, *, enable_cache: bool, verbose: bool) -> int:
    """Runs the pipeline in a locked output folder and returns the exit status."""
    run_id = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    log_path = output_dir.log_path(run_id)
    from pipeline.display import Display, output_to_log

    with output_to_log(log_path, verbose) as console:
        display = Display(console)
        display.message(f"[bold]{config.name}[/]: {config.data.source} -> {escape(str(output_dir.root))}")
        if other := _describe_other_data(config, output_dir):
            display.message(escape(f"     {other}"))
        with display.listening():
            display.node_started("loading TensorFlow and TFX")
            return _run_and_summarise(config, output_dir, log_path, display, enable_cache)


def _run_and_summarise(
    config: PipelineConfig, output_dir: OutputDir, log_path: Path, display: "Display", enable_cache: bool
) -> int:
    from pipeline.formats import publish_formats
    from pipeline.local_runner import ObservedLocalRunner, adopt_moved_artifacts, clear_abandoned_executions
    from pipeline.report import publish_report, withdraw_report
    from pipeline.summary import PUSHED, make_summary, render_summary

    output_dir.summary_path.unlink(missing_ok=True)  # If this run is killed, nobody takes the last one's for its own.
    write_whole(output_dir.config_path, dump_config(config))
    runner = ObservedLocalRunner(display)
    weights, status, error, mistake, report_path = config.trainer.weights, EXIT_FAILED, None, None, None
    formats_path = None
    try:
        withdraw_report(output_dir)
        if output_dir.pipeline_root.exists() and not output_dir.metadata_path.exists():
            display.message(
                "     metadata.sqlite is gone: earlier runs, and what new models were compared with, are lost"
            )
        if moved := adopt_moved_artifacts(output_dir):
            display.message(escape(f"     {moved}"))
        closed = clear_abandoned_executions(str(output_dir.metadata_path), str(output_dir.pipeline_root))
        if closed:
            display.message(f"     closed {closed} execution(s) that a killed run had left open")
        pipeline, weights = _make_pipeline(config, output_dir, enable_cache, display)
        runner.run(pipeline)
        formats_path = publish_formats(output_dir, config.name, runner.results)
        report_path = publish_report(output_dir, runner.results)
    except (Exception, KeyboardInterrupt) as fault:
        if was_interrupted() or isinstance(fault, KeyboardInterrupt):
            status, error = EXIT_INTERRUPTED, "interrupted; run it again: nodes that had finished are served from cache"
            display.message(f"[yellow]{error}[/]")
        elif isinstance(fault, UserError):
            mistake, error = fault, str(fault)
        elif find_full_disk(fault):
            raise  # Nor could a summary be written.
        else:
            error = f"{type(fault).__name__}: {fault}"
            print(traceback.format_exc(), file=sys.stderr)  # into the log
            display.console.print(traceback.format_exc(), markup=False, soft_wrap=True)
    summary = make_summary(config, weights, runner.results, error)
    if formats_path is not None:
        summary["formats"]["place"] = str(formats_path)
    if mistake is not None and mistake.facts:
        summary["data"] = mistake.facts
    if error is None:
        status = EXIT_DONE if summary["status"] == PUSHED else EXIT_NOT_BLESSED
    write_json(str(output_dir.summary_path), summary)
    display.console.print(
        render_summary(summary, log_path, _next_commands(summary, output_dir, report_path)), soft_wrap=True
    )
    if mistake is not None:
        raise mistake
    return status


def _make_pipeline(
    config: PipelineConfig, output_dir: OutputDir, enable_cache: bool, display: "Display"
) -> tuple["Pipeline", str]:
    """Looks up what only this machine knows, the weights and the state of the images, and builds the graph."""
    from components.pusher.component import AtomicPusher
    from components.trainer.weights import resolve_weights
    from data.corrections_file import corrected_fingerprint
    from data.sources import make_source
    from pipeline.create_pipeline import Deployment, create_pipeline

    fingerprint = corrected_fingerprint(make_source(config.data).fingerprint(), config.data.corrections)
    trainer = config.trainer
    weights = resolve_weights(trainer.weights, trainer.backbone, mirror=trainer.weights_mirror)
    note = f", random ones instead: {weights.reason}" if weights.reason else ""
    if weights.head and config.trainer.weights_head == "drop":
        note += f", without the head in the file ({', '.join(weights.head)})"
    display.message(escape(f"     weights: {weights.kind}{note}"))
    serving_dir = make_serving_dir(config.serving_model_dir or str(output_dir.serving_model_dir))
    deployment = Deployment(
        pipeline_root=str(output_dir.pipeline_root),
        make_pusher=partial(AtomicPusher, base_directory=os.path.join(serving_dir, config.name)),
        beam_pipeline_args=IN_PROCESS_BEAM_ARGS,
        metadata_path=str(output_dir.metadata_path),
        enable_cache=enable_cache,
    )
    return create_pipeline(config, deployment, fingerprint, weights), weights.kind


def _next_commands(summary: dict[str, Any], output_dir: OutputDir, report_path: Path | None) -> list[str]:
    look = [f"open {shlex.quote(str(report_path))} in a browser"] if report_path else []
    if not summary["pushed_model"]:
        return look
    return [
        *look,
        f"python -m pipeline.predict --model {shlex.quote(summary['pushed_model'])} IMAGE...",
        f"tensorboard --logdir {shlex.quote(str(output_dir.pipeline_root / 'Trainer' / 'model_run'))}",
    ]


if __name__ == "__main__":
    sys.exit(main())
