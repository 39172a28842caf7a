"""Serves a pushed model on Amazon SageMaker: `python -m pipeline.aws deploy|status|rollback|transform|delete`."""

import argparse
import datetime
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from data.errors import UserError
from pipeline.command_line import (
    EXIT_DONE,
    EXIT_FAILED,
    command,
    reader_may_leave,
    silence_libraries,
    user_name,
)
from pipeline.sagemaker.flags import load_endpoint, load_settings, make_parser

if TYPE_CHECKING:
    from pipeline.sagemaker.archive import PushedModel
    from pipeline.sagemaker.calls import Calls
    from pipeline.sagemaker.endpoint import Endpoint
    from pipeline.sagemaker.settings import AwsSettings, EndpointSettings


@command("interrupted; what SageMaker has begun goes on: run the command again to go on from there")
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 0 done, 1 the cloud failed, a check found an error or images have no result, 2 the user's
        mistake.
    """
    silence_libraries()
    arguments = make_parser().parse_args(argv)
    acts = {"deploy": _with_model, "transform": _with_model}
    acts |= {"status": _status, "rollback": _roll_back, "delete": _delete}
    return acts[arguments.act](arguments)


def _open(settings: "EndpointSettings", calls: "Calls | None" = None) -> "Endpoint":
    from pipeline.sagemaker.calls import Aws
    from pipeline.sagemaker.endpoint import Endpoint

    return Endpoint(calls or Aws(settings.region), settings.endpoint, settings.wait_minutes, _tell)


def _with_model(arguments: argparse.Namespace) -> int:
    """Does what takes a version, wherever that lies."""
    from data.gfile import local_copy
    from pipeline.model_versions import find_model
    from pipeline.sagemaker.archive import read_model
    from pipeline.sagemaker.calls import Aws

    settings, act = load_settings(arguments), arguments.act
    with local_copy(find_model(arguments.model)) as folder:
        model = read_model(folder)
        if arguments.check:
            return _check(Aws(settings.region), settings, model, is_transform=act == "transform")
        return (_transform if act == "transform" else _deploy)(arguments, settings, model)


def _deploy(arguments: argparse.Namespace, settings: "AwsSettings", model: "PushedModel") -> int:
    from pipeline.sagemaker.calls import Aws
    from pipeline.sagemaker.deployment import deploy
    from pipeline.sagemaker.dry_run import assume_endpoint

    if arguments.dry_run:
        deploy(assume_endpoint(settings), settings, model, _tell)
        _tell("nothing was sent")
        return EXIT_DONE
    calls = Aws(settings.region)
    deploy(calls, settings, model, _tell)
    _tell(f"version {model.version} serves at endpoint {settings.endpoint}, {settings.region}")
    return _print_status(_open(settings, calls))


def _check(calls: "Calls", settings: "AwsSettings", model: "PushedModel", *, is_transform: bool) -> int:
    from pipeline.sagemaker.check import run_checks

    failed = False
    for finding in run_checks(calls, settings, model, is_transform=is_transform):
        _tell(str(finding))
        failed = failed or finding.level == "error"
    return EXIT_FAILED if failed else EXIT_DONE


def _status(arguments: argparse.Namespace) -> int:
    return _print_status(_open(load_endpoint(arguments)))


def _print_status(endpoint: "Endpoint") -> int:
    from pipeline.sagemaker.status import describe_status

    with reader_may_leave():
        for line in describe_status(endpoint):
            print(line)
    return EXIT_DONE


def _roll_back(arguments: argparse.Namespace) -> int:
    from components.evaluator.rollback import Rollback
    from pipeline.sagemaker.endpoint import describe_model
    from pipeline.sagemaker.rollback import plan_rollback, run_rollback

    if arguments.output_dir and not arguments.model:
        raise UserError(f"--output-dir {arguments.output_dir}: says nothing without --model FOLDER; give it, too")
    endpoint = _open(load_endpoint(arguments))
    plan = plan_rollback(endpoint.calls, endpoint, arguments.to)
    if plan.is_done:
        told = f"  version {plan.to.version} serves; there is nothing to roll back"
    else:
        aside = ", ".join(describe_model(endpoint.name, model.name) for model in plan.leaving) or "nothing more"
        told = f"  aside     {aside}\n  served    version {plan.to.version}"
    _tell(f"endpoint {endpoint.name}\n{told}")
    # Looked at before anything is changed: a folder that does not fit is told first.
    here = _roll_back_here(arguments, plan.to.version, yes=False) if arguments.model else []
    if not arguments.yes:
        _tell("\n".join([*here, f"nothing was changed; {_hint(arguments, plan.to.version)} does it"]))
        return EXIT_DONE
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    why = Rollback(" ".join(arguments.reason.split()), arguments.who or user_name(), now)
    if not plan.is_done:
        run_rollback(endpoint.calls, endpoint, plan, why)
    if arguments.model:
        _tell("\n".join(_roll_back_here(arguments, plan.to.version, yes=True)))
    else:
        _tell("  blessing  not taken back: give --model with the folder of the versions to have that done, too")
    return _print_status(endpoint)


def _roll_back_here(arguments: argparse.Namespace, to: int, *, yes: bool) -> list[str]:
    """Rolls the folder of versions back on this machine, as `pipeline.models rollback` does, or only looks."""
    from pipeline import models

    words = ["rollback", arguments.model, "--to", str(to), f"--reason={arguments.reason}"]
    words += ["--who", arguments.who] if arguments.who else []
    words += ["--output-dir", arguments.output_dir] if arguments.output_dir else []
    lines = models.change(models.make_parser().parse_args([*words, *(["--yes"] if yes else [])]))
    return [line for line in lines if not line.startswith("nothing was changed")]


def _hint(arguments: argparse.Namespace, to: int) -> str:
    words = ["python", "-m", "pipeline.aws", "rollback", "--to", str(to)]
    for name in ("region", "endpoint", "aws_config", "reason", "who", "model", "output_dir"):
        if value := vars(arguments).get(name):
            words += [f"--{name.replace('_', '-')}", value]
    for override in arguments.aws_set:
        words += ["--aws-set", override]
    return " ".join(map(shlex.quote, [*words, "--yes"]))


def _transform(arguments: argparse.Namespace, settings: "AwsSettings", model: "PushedModel") -> int:
    from pipeline.sagemaker.calls import Aws
    from pipeline.sagemaker.dry_run import assume_images
    from pipeline.sagemaker.transform import describe_outcome, follow_transform, start_transform

    if arguments.dry_run:
        start_transform(assume_images(settings), settings, model, _tell)
        _tell("nothing was sent; the image is made up")
        return EXIT_DONE
    calls = Aws(settings.region)
    job = start_transform(calls, settings, model, _tell)
    begun = "started" if job.is_new else "was started before, of the same images, model and settings"
    _tell(f"job {job.name}: {begun}; {len(job.images):,} images of {settings.transform.input}")
    if arguments.no_wait:
        return EXIT_DONE
    outcome = follow_transform(calls, settings, job, _tell)
    _tell(describe_outcome(job, outcome))
    return EXIT_DONE if outcome.status == "Completed" and not outcome.missing else EXIT_FAILED


def _delete(arguments: argparse.Namespace) -> int:
    from pipeline.sagemaker.deletion import plan_deletion, run_deletion

    endpoint = _open(load_endpoint(arguments))
    plan = plan_deletion(endpoint.calls, endpoint)
    if not (plan.endpoint or plan.configs or plan.models):
        raise UserError(f"endpoint {endpoint.name}: there is nothing of it in this region and account")
    with reader_may_leave():
        print("\n".join([f"endpoint {endpoint.name}", *plan.describe(endpoint.name)]))
    if not arguments.yes:
        _tell("nothing was removed; --yes does it")
        return EXIT_DONE
    run_deletion(endpoint.calls, endpoint, plan)
    _tell("removed")
    return EXIT_DONE


def _tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
