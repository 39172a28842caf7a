"""The command line of `pipeline.aws`, and how its flags and a YAML file become settings: defaults < file < flags."""

import argparse
from typing import TYPE_CHECKING

from data.errors import UserError
from pipeline.command_line import CommandLineParser
from pipeline.setting_flags import Flag, add_file_flags, add_setting_flags, read_tree, require

if TYPE_CHECKING:
    from pipeline.sagemaker.settings import AwsSettings, EndpointSettings

_WHERE = (
    Flag("--region", "region", "REGION", "where it is, e.g. eu-central-1"),
    Flag("--endpoint", "endpoint", "NAME", "of the endpoint; models and configurations are named after it"),
)
_MODEL = (
    Flag("--role", "role", "ARN", "that the containers run as"),
    Flag("--image", "image", "IMAGE", "the Dockerfile's stage serving, in ECR of the region"),
    Flag("--artifacts", "artifacts", "s3://...", "tree of the models in S3"),
    Flag("--server-options", "server_options", "OPTIONS", "of pipeline.serve in the container, e.g. '--batch 4'"),
)
_SERVING = (
    Flag("--instance-type", "instance_type", "TYPE", "of the machines that serve, e.g. ml.m5.large"),
    Flag("--instance-count", "instance_count", "N", "how many there are of a variant"),
    Flag("--traffic-percent", "traffic_percent", "N", "share of the requests for the new version: a canary"),
    Flag("--serverless-memory-mb", "serverless.memory_mb", "MB", "serve without instances, with so much memory"),
    Flag("--serverless-concurrency", "serverless.max_concurrency", "N", "requests that are answered at a time"),
)
_TRANSFORM = (
    Flag("--input", "transform.input", "s3://...", "folder of the images, at any depth"),
    Flag("--output", "transform.output", "s3://...", "folder that the job makes a folder of its results in"),
    Flag("--instance-type", "transform.instance_type", "TYPE", "of the machines, e.g. ml.m5.large"),
    Flag("--instance-count", "transform.instance_count", "N", "how many there are"),
    Flag("--max-concurrent", "transform.max_concurrent", "N", "images that each is asked about at a time"),
)
_FLAGS = {
    "deploy": (*_WHERE, *_MODEL, *_SERVING),
    "status": _WHERE,
    "rollback": _WHERE,
    "transform": (*_WHERE, *_MODEL, *_TRANSFORM),
    "delete": _WHERE,
}


def make_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = CommandLineParser(
        prog="python -m pipeline.aws",
        description="Serves a pushed model on Amazon SageMaker, in the container of the Dockerfile's stage serving.",
        epilog="exit status: 0 done, 1 the cloud failed, --check found an error or images have no result, 2 a mistake "
        "in the input, 130 interrupted",
    )
    acts = parser.add_subparsers(dest="act", required=True, metavar="deploy|status|rollback|transform|delete")
    for act, text in (
        ("deploy", "put a version on an endpoint, which is made if need be"),
        ("status", "which versions serve, with which share of the requests, and which there were"),
        ("rollback", "go back to an earlier version; without --yes only say so"),
        ("transform", "ask a version about all images of a folder in S3"),
        ("delete", "remove endpoint, configurations and models; without --yes only say so"),
    ):
        one = acts.add_parser(act, help=text)
        group = one.add_argument_group("settings")
        add_setting_flags(group, _FLAGS[act])
        if act in ("deploy", "transform"):
            group.add_argument(
                "--tags", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="of what is made"
            )
        add_file_flags(group, "aws", "serverless.memory_mb=4096")
        if act in ("deploy", "transform"):
            one.add_argument(
                "--model",
                metavar="DIR",
                help="a version, or a folder of versions, here or s3://... (the latest pushed)",
            )
            how = one.add_mutually_exclusive_group()
            how.add_argument("--check", action="store_true", help="say whether it can be done, and stop")
            how.add_argument("--dry-run", action="store_true", help="print each call with its arguments, and send none")
            if act == "transform":
                how.add_argument("--no-wait", action="store_true", help="start the job, and do not follow it")
        if act in ("rollback", "delete"):
            one.add_argument("--yes", action="store_true", help="do it, not only say so")
        if act == "rollback":
            one.add_argument("--to", type=int, metavar="VERSION", help="what is to serve (the earlier model)")
            one.add_argument("--reason", default="", metavar="TEXT", help="why; status, list and report show it")
            one.add_argument("--who", metavar="NAME", help="who decided (default: you)")
            one.add_argument(
                "--model", metavar="FOLDER", help="roll back here, too: an output folder or one of versions"
            )
            one.add_argument("--output-dir", metavar="DIR", help="whose runs pushed to FOLDER, if it lies elsewhere")
    return parser


def load_settings(arguments: argparse.Namespace) -> "AwsSettings":
    """Returns the settings: defaults < `--aws-config` < flags < `--aws-set`.

    Raises:
        UserError: names the setting.
    """
    from pipeline.config import parse_settings
    from pipeline.sagemaker.settings import REQUIRED, AwsSettings

    tree = read_tree(arguments, _FLAGS[arguments.act], AwsSettings, "aws", "tags")
    require(tree, REQUIRED, "aws")
    settings = parse_settings(AwsSettings, tree)
    if arguments.act == "transform" and not (settings.transform.input and settings.transform.output):
        raise UserError("transform.input and transform.output must be known; give --input s3://... --output s3://...")
    return settings


def load_endpoint(arguments: argparse.Namespace) -> "EndpointSettings":
    """Returns what is needed of an endpoint that is there.

    Raises:
        UserError: names the setting.
    """
    from pipeline.config import parse_settings
    from pipeline.sagemaker.settings import AwsSettings, EndpointSettings

    tree = read_tree(arguments, _FLAGS[arguments.act], AwsSettings, "aws", "tags")
    require(tree, ("region", "endpoint"), "aws")
    return parse_settings(EndpointSettings, {key: tree[key] for key in EndpointSettings.model_fields if key in tree})
