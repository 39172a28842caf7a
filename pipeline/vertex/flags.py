"""The command line's flags about Vertex AI, and how they and a YAML file become settings: defaults < file < flags."""

import argparse
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from pipeline.setting_flags import Flag, add_file_flags, add_setting_flags, read_tree, require

if TYPE_CHECKING:
    from pipeline.vertex.settings import ProjectSettings, VertexSettings

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
    add_setting_flags(group, (flag for flag in FLAGS if keys is None or flag.key in keys))
    group.add_argument(
        "--labels", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="labels beside those of TFX"
    )
    add_file_flags(group, "vertex", "resources.Transform.cpu=8")


def add_place_flags(parser: argparse.ArgumentParser, title: str) -> None:
    """Adds those of project and region alone, in a group of its help: what `load_project` needs."""
    group = parser.add_argument_group(title)
    add_setting_flags(group, (flag for flag in FLAGS if flag.key in ("project", "region")))
    add_file_flags(group, "vertex", "region=europe-west4")


def load_tree(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the settings of file and flags as a tree of plain values.

    Raises:
        UserError: the file cannot be read, or a flag is not of its form.
    """
    from pipeline.vertex.settings import VertexSettings

    return read_tree(arguments, FLAGS, VertexSettings, "vertex", "labels")


def load_settings(arguments: argparse.Namespace) -> "VertexSettings":
    """Returns the settings: defaults < `--vertex-config` < flags < `--vertex-set`.

    Raises:
        UserError: names the setting.
    """
    from pipeline.config import parse_settings
    from pipeline.vertex.settings import VertexSettings

    tree = load_tree(arguments)
    require(tree, ("project", "region", "pipeline_root", "image"), "vertex")
    return parse_settings(VertexSettings, tree)


def load_project(arguments: argparse.Namespace) -> "ProjectSettings":
    """Returns project and region, all that runs which exist need.

    Raises:
        UserError: names the setting.
    """
    from pipeline.config import parse_settings
    from pipeline.vertex.settings import ProjectSettings

    tree = load_tree(arguments)
    require(tree, ("project", "region"), "vertex")
    return parse_settings(ProjectSettings, {key: tree[key] for key in ("project", "region")})
