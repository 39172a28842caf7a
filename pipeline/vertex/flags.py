"""The command line's flags about Vertex AI, and how they and a YAML file become settings: defaults < file < flags."""

import argparse
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import UserError

if TYPE_CHECKING:  # Of the flags alone, a command that may go to the cloud needs neither these nor what they import.
    from pipeline.vertex.settings import ProjectSettings, VertexSettings


@dataclass(frozen=True)
class Flag:
    """A flag and the setting that it sets.

    Attributes:
        name: as in `--tpu`.
        key: the setting, sections with dots.
        metavar: of its value; None for a switch.
        text: its help.
        value: what a switch sets.
    """

    name: str
    key: str
    metavar: str | None
    text: str
    value: Any = None


FLAGS = (
    Flag("--project", "project", "ID", "Google Cloud project"),
    Flag("--region", "region", "REGION", "where it runs, e.g. us-central1"),
    Flag("--pipeline-root", "pipeline_root", "gs://...", "tree of all artifacts"),
    Flag("--image", "image", "IMAGE", "container image of the pipeline"),
    Flag("--tpu", "trainer.tpu", "TYPE", "train on a TPU: v2-8, v3-8, v5e-1, v5e-4 or v5e-8"),
    Flag("--gpu", "trainer.gpu", "TYPE:COUNT", "train on GPUs, e.g. NVIDIA_L4:1"),
    Flag("--trainer-machine", "trainer.machine_type", "TYPE", "machine of the GPUs, or one to train on without"),
    Flag("--trainer-replicas", "trainer.replicas", "N", "train on so many machines, each with the GPUs of --gpu"),
    Flag("--trainer-image", "trainer.image", "IMAGE", "its container (IMAGE with -tpu or -gpu after its tag)"),
    Flag("--spot", "trainer.spot", None, "train on machines that may be taken away", True),
    Flag("--beam-runner", "beam.runner", "direct|dataflow", "where Beam runs"),
    Flag("--endpoint", "endpoint.name", "NAME", "deploy to this Vertex endpoint instead of a folder in the bucket"),
    Flag("--endpoint-kind", "endpoint.kind", "dedicated|shared", "of a new endpoint: 10 or 1.5 MB a request"),
    Flag("--traffic-percent", "endpoint.traffic_percent", "N", "share of the requests for the new model: a canary"),
    Flag("--service-account", "service_account", "EMAIL", "that the steps run as"),
    Flag("--network", "network", "NAME", "peered network: projects/NUMBER/global/networks/NAME"),
    Flag("--encryption-key", "encryption_key", "KEY", "Cloud KMS key: projects/.../cryptoKeys/NAME"),
    Flag("--experiment", "experiment", "NAME", "Vertex experiment of the runs"),
    Flag(
        "--data-manifest", "data_manifest", "FILE", "list of the images in the bucket; without one they are not cached"
    ),
    Flag("--retries", "retries.count", "N", "further attempts of a failed task"),
    Flag("--no-cache", "cache", None, "run every step anew", False),
    Flag("--fail-fast", "fail_fast", None, "stop the run at the first failed task", True),
    Flag("--schedule", "schedule.cron", "CRON", "run by itself, e.g. '0 3 * * 1'"),
    Flag("--time-zone", "schedule.time_zone", "ZONE", "of the schedule, e.g. Europe/Berlin"),
    Flag("--max-concurrent-runs", "schedule.max_concurrent_runs", "N", "of the schedule"),
)


def add_flags(parser: argparse.ArgumentParser, keys: Collection[str] | None = None, title: str = "Vertex AI") -> None:
    """Adds the flags to a parser, or those of some settings alone, in a group of its help."""
    group = parser.add_argument_group(title)
    for flag in (flag for flag in FLAGS if keys is None or flag.key in keys):
        # No percent sign of a help text may reach argparse.
        if flag.metavar is None:
            group.add_argument(flag.name, dest=flag.key, action="store_const", const=flag.value, help=flag.text)
        else:
            group.add_argument(flag.name, dest=flag.key, metavar=flag.metavar, help=flag.text)
    group.add_argument(
        "--labels", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="labels beside those of TFX"
    )
    group.add_argument("--vertex-config", metavar="FILE", help="a YAML file with any of the settings; flags win")
    group.add_argument(
        "--vertex-set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="one setting, e.g. resources.Transform.cpu=8; wins over all",
    )


def load_tree(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the settings of file and flags as a tree of plain values.

    Raises:
        UserError: the file cannot be read, or a flag is not of its form.
    """
    from pipeline.config import merge, nest, parse_override, read_yaml
    from pipeline.vertex.settings import VertexSettings

    file = arguments.vertex_config
    tree: dict[str, Any] = read_yaml(Path(file), VertexSettings) if file else {}
    given = vars(arguments)
    for flag in FLAGS:
        if given.get(flag.key) is not None:
            merge(tree, nest(flag.key, given[flag.key]))
    for label in arguments.labels:
        key, equals, value = label.partition("=")
        if not equals:
            raise UserError(f"--labels {label}: expected KEY=VALUE, e.g. --labels team=vision")
        merge(tree, {"labels": {key: value}})
    for override in arguments.vertex_set:
        merge(tree, parse_override(override, "--vertex-set"))
    return tree


def load_settings(arguments: argparse.Namespace) -> "VertexSettings":
    """Returns the settings: defaults < `--vertex-config` < flags < `--vertex-set`.

    Raises:
        UserError: names the setting.
    """
    from pipeline.config import parse_settings
    from pipeline.vertex.settings import VertexSettings

    tree = load_tree(arguments)
    _require(tree, ("project", "region", "pipeline_root", "image"))
    return parse_settings(VertexSettings, tree)


def load_project(arguments: argparse.Namespace) -> "ProjectSettings":
    """Returns project and region, all that runs which exist need.

    Raises:
        UserError: names the setting.
    """
    from pipeline.config import parse_settings
    from pipeline.vertex.settings import ProjectSettings

    tree = load_tree(arguments)
    _require(tree, ("project", "region"))
    return parse_settings(ProjectSettings, {key: tree[key] for key in ("project", "region")})


def _require(tree: dict[str, Any], keys: Sequence[str]) -> None:
    missing = [key for key in keys if tree.get(key) is None]
    if missing:
        flags = ", ".join(f"--{key.replace('_', '-')}" for key in missing)
        raise UserError(f"{', '.join(missing)} must be known; give {flags}, or put them into the --vertex-config file")
