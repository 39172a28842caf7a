"""Runs the pipeline on Vertex AI: `python -m pipeline.run_vertex`."""

import argparse
import datetime
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import UserError
from pipeline.command_line import (
    EXIT_DONE,
    EXIT_FAILED,
    CommandLineParser,
    add_config_flags,
    command,
    reader_may_leave,
)
from pipeline.config import DataChoice, PipelineConfig, load_config
from pipeline.output_dir import write_whole
from pipeline.vertex.endpoint_command import ACTS, act, add_act_flags, refuse_act_flags
from pipeline.vertex.flags import add_flags, load_project, load_settings, load_tree
from pipeline.vertex.settings import ProjectSettings, VertexSettings

if TYPE_CHECKING:
    from pipeline.vertex.cloud import Cloud, Submission

SUCCEEDED = "SUCCEEDED"


@command()
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 0 done, 1 the run failed or --check found an error, 2 the user's mistake, 130 interrupted.
    """
    # Google's packages announce, on each import, that they will one day want a later Python than TFX has.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.")
    arguments = make_parser().parse_args(argv)
    refuse_act_flags(arguments)
    if arguments.command in ACTS:
        return _move(arguments)
    return _submit(arguments) if arguments.command == "submit" else _ask(arguments)


def make_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = CommandLineParser(
        prog="python -m pipeline.run_vertex",
        usage="%(prog)s [submit | list | status RUN | cancel RUN | endpoint | rollback | promote [VERSION]] [flags]",
        description="Compiles the pipeline for Vertex AI, checks it, says what it may take, and submits it.",
        epilog="exit status: 0 done, 1 the run failed or --check found an error, 2 a mistake in the input, "
        "130 interrupted",
    )
    parser.add_argument(
        "command",
        nargs="?",
        default="submit",
        choices=["submit", "status", "cancel", "list", *ACTS],
        help="submit (default), or ask about runs and schedules, or about what the endpoint serves; change that",
    )
    parser.add_argument(
        "run",
        nargs="?",
        help="of status and cancel: the run's name or id; of cancel: a schedule's name; of promote: the version",
    )
    add_config_flags(parser, "digits", ("gs://...", "a folder of class folders, a table of images, or TFRecords"))
    add_flags(parser)
    parser.add_argument(
        "--compile-only", metavar="FILE", help="write the spec (JSON) and stop: no network, no credentials"
    )
    parser.add_argument("--check", action="store_true", help="say whether it can run, and stop")
    parser.add_argument("--wait", action="store_true", help="follow the run to its end")
    parser.add_argument("--prices", metavar="FILE", help="your prices (YAML), for --max-cost; none are shipped")
    parser.add_argument("--max-cost", type=float, metavar="AMOUNT", help="submit nothing that may cost more")
    add_act_flags(parser)
    parser.add_argument("--api-endpoint", metavar="HOST", help="of Vertex AI, instead of the region's")
    return parser


def _submit(arguments: argparse.Namespace) -> int:
    """Compiles, and then writes, checks or submits."""
    if arguments.run:
        raise UserError(f"submit takes no run, but {arguments.run!r} is given; did you mean status or cancel?")
    settings = load_settings(arguments)
    config = load_config(arguments.preset, arguments.config, _data_choice(arguments.data), arguments.set)
    offline = bool(arguments.compile_only)
    if offline and (arguments.check or arguments.wait or arguments.max_cost is not None):
        raise UserError("--compile-only writes the spec and stops; leave out --check, --wait and --max-cost")
    if arguments.check and arguments.wait:
        raise UserError("--check submits nothing to --wait for; leave one out")
    if arguments.prices and arguments.max_cost is None:
        raise UserError("--prices are for a limit; give --max-cost AMOUNT, too, or leave it out")
    if settings.schedule.cron and arguments.wait:
        raise UserError("--wait follows one run, but --schedule starts many; leave one out")
    if settings.schedule.cron and settings.experiment:
        raise UserError("--experiment lists runs that are submitted here, not those of a --schedule; leave one out")
    job, notes = compile_quietly(config, settings, offline=offline)
    for note in notes:
        print(f"note: {note}")
    if offline:
        _write_spec(Path(arguments.compile_only), job)
        print(f"wrote {arguments.compile_only}")
        return EXIT_DONE
    if arguments.check:
        return _check(job, settings, preset=arguments.preset)
    _show_costs(job, config, settings, arguments)
    if _check(job, settings) != EXIT_DONE:
        raise UserError("nothing was submitted; see what --check says above")
    cloud = _make_cloud(settings, arguments.api_endpoint)
    from pipeline.vertex.cloud import Submission

    submission = Submission(job, make_run_id(config.name, datetime.datetime.now(datetime.timezone.utc)), settings)
    if settings.schedule.cron:
        return _schedule(cloud, submission)
    return _run(cloud, submission, wait=arguments.wait)


def _write_spec(path: Path, job: dict[str, Any]) -> None:
    if path.is_dir():
        raise UserError(f"--compile-only {path}: is a folder; give a file, such as {path / 'spec.json'}")
    try:
        write_whole(path, json.dumps(job, indent=2, sort_keys=True) + "\n")
    except OSError as error:
        raise UserError(f"--compile-only {path}: cannot be written: {error.strerror}; give another file") from None


def _data_choice(path: str | None) -> DataChoice | None:
    if path is None:
        return None
    from pipeline.display import output_to_log

    with output_to_log(Path(os.devnull), verbose=False):  # TensorFlow greets on standard error
        from pipeline.vertex.inputs import data_choice
    return data_choice(path)


def compile_quietly(
    config: PipelineConfig, settings: VertexSettings, *, offline: bool
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Compiles the pipeline without what TensorFlow and TFX print when they are imported.

    Returns:
        The PipelineJob as plain JSON values, and what the user should know about it.

    Raises:
        UserError: something does not fit together.
    """
    from pipeline.display import output_to_log

    with output_to_log(Path(os.devnull), verbose=False):
        from pipeline.vertex.compile import compile_spec
        from pipeline.vertex.inputs import find_inputs

        inputs = find_inputs(config, settings, offline=offline)
        return compile_spec(config, settings, inputs), inputs.notes


def make_run_id(name: str, now: datetime.datetime) -> str:
    """Returns the id of a run: Vertex AI wants a letter first, which a pipeline's name need not have."""
    prefix = name if name[0].isalpha() else f"run-{name}"
    return f"{prefix}-{now:%Y%m%d%H%M%S}"


def _show_costs(
    job: dict[str, Any], config: PipelineConfig, settings: VertexSettings, arguments: argparse.Namespace
) -> None:
    from pipeline.vertex.costs import check_limit, describe_usages, find_usages, load_prices
    from pipeline.vertex.endpoint_costs import describe_endpoint
    from pipeline.vertex.worker_pools import describe_devices

    prices = load_prices(arguments.prices, settings.region) if arguments.prices else None
    usages = find_usages(job, settings)
    print(f"Trainer: {describe_devices(settings.trainer, config.trainer.batch_size)}")
    print("\n".join(describe_usages(usages)))
    if settings.endpoint.name:
        print(describe_endpoint(settings, prices))
    if arguments.max_cost is not None:
        check_limit(usages, prices, arguments.max_cost)


def _check(job: dict[str, Any], settings: VertexSettings, *, preset: str | None = None) -> int:
    """Looks whether the pipeline can run, and prints what it finds.

    Args:
        job: the compiled PipelineJob.
        settings: what it was compiled with.
        preset: for `--check`, which looks at everything and prints everything; None asks no network and prints only
            what is not as it should be.

    Returns:
        The exit status.
    """
    from pipeline.vertex import check
    from pipeline.vertex.cloud_check import check_cloud, make_session

    findings = [
        *check.check_versions(),
        *check.check_names(job, settings),
        *check.check_spec(job),
        *check.check_jobs(job),
        *check.check_gpus(settings),
    ]
    if preset is not None:
        findings += check.check_memory(settings, preset)
        findings += check.check_image(settings)
        findings += check.check_server(settings)
        findings += check_cloud(settings, make_session())
    for finding in findings:
        if preset is not None or finding.level in ("error", "warning"):
            print(finding)
    return EXIT_FAILED if any(finding.level == "error" for finding in findings) else EXIT_DONE


def _make_cloud(settings: ProjectSettings, api_endpoint: str | None) -> "Cloud":
    from pipeline.vertex.cloud import Cloud

    return Cloud(project=settings.project, region=settings.region, api_endpoint=api_endpoint)


def _run(cloud: "Cloud", submission: "Submission", *, wait: bool) -> int:
    from pipeline.vertex import runs

    run = runs.submit_run(cloud, submission)
    print("\n".join([f"submitted {run.name}", run.console_url, *run.notes]), flush=True)
    if not wait:
        return EXIT_DONE
    state = runs.follow_run(cloud, run.name, lambda task, state: print(f"{task:<24} {state}", flush=True))
    print(f"{run.name}: {state}")
    return EXIT_DONE if state.endswith(SUCCEEDED) else EXIT_FAILED


def _schedule(cloud: "Cloud", submission: "Submission") -> int:
    from pipeline.vertex import schedules

    plan, schedule = submission.settings.schedule, schedules.create_schedule(cloud, submission)
    done = "scheduled" if schedule.created_now else "an equal schedule is there already:"
    print(f"{done} {schedule.name}: {plan.cron} ({plan.time_zone})\n{schedule.console_url}")
    return EXIT_DONE


def _move(arguments: argparse.Namespace) -> int:
    """Looks at an endpoint, or changes which version it serves."""
    name = load_tree(arguments).get("endpoint", {}).get("name")
    cloud = _make_cloud(load_project(arguments), arguments.api_endpoint)
    with reader_may_leave():
        print("\n".join(act(arguments, cloud, name)))
    return EXIT_DONE


def _ask(arguments: argparse.Namespace) -> int:
    """Answers `status` and `list`, and does `cancel`."""
    if arguments.command == "list" and arguments.run:
        raise UserError(f"list takes no run, but {arguments.run!r} is given; did you mean status or cancel?")
    cloud = _make_cloud(load_project(arguments), arguments.api_endpoint)
    from pipeline.vertex import runs, schedules

    if arguments.command == "list":
        for run in runs.list_runs(cloud):
            print(f"{run.run_id:<40} {run.state:<12} {run.created}")
        for schedule in schedules.list_schedules(cloud):
            print(f"{schedule.name}  {schedule.state}  {schedule.cron}  next {schedule.next_run or 'never'}")
        return EXIT_DONE
    if not arguments.run:
        raise UserError(f"{arguments.command} needs a run; give its name, such as list prints them")
    if arguments.command == "cancel" and "/schedules/" in arguments.run:
        schedules.delete_schedule(cloud, arguments.run)
        print(f"{arguments.run} is ended; runs that it has started go on")
        return EXIT_DONE
    run = (runs.cancel_run if arguments.command == "cancel" else runs.get_run)(cloud, arguments.run)
    print(f"{run.name}  {run.state}")
    for task in run.tasks:
        print(f"  {task.name:<24} {task.state}  {task.error}".rstrip())
    print("\n".join(filter(None, [*run.notes, run.error, run.console_url])))
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
