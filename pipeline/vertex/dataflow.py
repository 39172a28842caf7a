"""Beam's flags of each step on Vertex AI, in its own container or on Dataflow."""

from data.errors import UserError
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS
from pipeline.vertex.settings import BeamPlacement, VertexSettings

BEAM_NODES = ("ImageExampleGen", "StatisticsGen", "Transform", "Evaluator")
"""The nodes that Beam runs."""

SECONDS_PER_HOUR = 3600


def placement_of(settings: VertexSettings, node: str) -> BeamPlacement:
    """Returns where a node's Beam pipeline runs: its own settings, then those of all.

    Raises:
        UserError: `beam.components` names a node that Beam does not run, or the two together make no sense.
    """
    beam = settings.beam
    unknown = sorted(set(beam.components) - set(BEAM_NODES))
    if unknown:
        raise UserError(f"beam.components names {unknown[0]}, which Beam does not run; it runs {', '.join(BEAM_NODES)}")
    own = beam.components.get(node, BeamPlacement())
    merged = {
        name: value if (value := getattr(own, name)) is not None else getattr(beam, name)
        for name in BeamPlacement.model_fields
    }
    if merged["workers"] and merged["workers"] > merged["max_workers"]:
        raise UserError(
            f"beam: {node} starts with {merged['workers']} workers, more than its {merged['max_workers']} at most; "
            "lower workers or raise max_workers"
        )
    return BeamPlacement(**merged)


def make_beam_args(settings: VertexSettings, name: str, node: str) -> tuple[str, ...]:
    """Returns the Beam flags of a node; those of Beam's in-process runner where it runs in its own container.

    Args:
        settings: where it runs.
        name: of the pipeline; becomes a label.
        node: the node's id.
    """
    placement = placement_of(settings, node)
    if placement.runner == "direct":
        return IN_PROCESS_BEAM_ARGS
    beam = settings.beam
    labels = {"pipeline": name, "node": node.lower(), **settings.labels, **beam.labels}
    seconds = round((placement.timeout_hours or 0) * SECONDS_PER_HOUR)
    flags = [
        "--runner=DataflowRunner",
        f"--project={settings.project}",
        f"--region={settings.region}",
        f"--temp_location={settings.pipeline_root}/.dataflow/temp",
        f"--staging_location={settings.pipeline_root}/.dataflow/staging",
        # Everything that a worker needs is in the image: nothing is staged or installed when it starts.
        f"--sdk_container_image={settings.image}",
        "--sdk_location=container",
        "--experiments=use_runner_v2",
        f"--machine_type={placement.machine_type}",
        f"--max_num_workers={placement.max_workers}",
        f"--disk_size_gb={placement.disk_gb}",
        f"--dataflow_service_options=max_workflow_runtime_walltime_seconds={seconds}",
    ]
    if placement.workers:
        flags.append(f"--num_workers={placement.workers}")
    if beam.subnetwork:
        flags.append(f"--subnetwork={beam.subnetwork}")
    if not beam.public_ips:
        flags.append("--no_use_public_ips")
    if account := beam.service_account or settings.service_account:
        flags.append(f"--service_account_email={account}")
    if settings.encryption_key:
        flags.append(f"--dataflow_kms_key={settings.encryption_key}")
    flags.extend(f"--labels={key}={value}" for key, value in labels.items())
    return tuple(flags)
