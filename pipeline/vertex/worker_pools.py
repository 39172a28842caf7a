"""The Trainer's job on Vertex AI: a CustomJob on a TPU, a larger CPU machine, or one or more machines with GPUs."""

from collections.abc import Mapping
from typing import Any

from components.trainer.devices import DEVICE_VARIABLE, check_batch
from components.trainer.settings import TrainerSettings
from data.errors import UserError
from pipeline.vertex.settings import TrainerPlacement, VertexSettings
from pipeline.vertex.sources import make_sources_hash
from pipeline.vertex.task import make_command

# Keys of the Trainer's custom_config that the job's executor reads, as TFX's own does.
_JOB_KEY, _REGION_KEY = "ai_platform_training_args", "ai_platform_vertex_region"
SECONDS_PER_HOUR = 3600

# Of the service's MachineSpec, as our devices have them.
_MACHINE_FIELDS = ("machine_type", "accelerator_type", "accelerator_count", "tpu_topology")

TPU_ENVIRONMENT = {
    # TensorFlow reaches v5e through PJRT only. Both are still read: the path by TensorFlow 2.20's __init__, which loads
    # what it names as a pluggable device, the other by libtpu 0.0.17 itself, where its name stands.
    "NEXT_PLUGGABLE_DEVICE_USE_C_API": "true",
    "TF_PLUGGABLE_DEVICE_LIBRARY_PATH": "/lib/libtpu.so",
}


def make_trainer_config(settings: VertexSettings, name: str, trainer: TrainerSettings) -> dict[str, Any] | None:
    """Returns what the Trainer's `custom_config` needs for a job of its own, or None where it needs no job.

    Args:
        settings: where the job runs.
        name: of the pipeline.
        trainer: what is trained; its batch is checked against the devices.

    Raises:
        UserError: the batch or the strategy does not fit the machine.
    """
    check_training(settings.trainer, trainer)
    if settings.trainer.device is None:
        return None
    job = make_custom_job(settings, name)
    parse_custom_job(job)
    return {
        # The executor takes the project from here and sends the rest.
        _JOB_KEY: {"project": settings.project, **job},
        _REGION_KEY: settings.trainer_region,
    }


def make_custom_job(settings: VertexSettings, name: str) -> dict[str, Any]:
    """Returns the CustomJob as plain values; TFX adds flags to the container's command, and its own labels."""
    placement = settings.trainer
    scheduling: dict[str, Any] = {
        "timeout": _duration(placement.timeout_hours),
        "restart_job_on_worker_restart": placement.restart_on_worker_restart,
    }
    if placement.spot:
        scheduling["strategy"] = "SPOT"
        if placement.max_wait_hours:
            scheduling["max_wait_duration"] = _duration(placement.max_wait_hours)
    # The first pool is the chief's, of one machine, as Vertex AI wants it.
    pools = [make_worker_pool(settings, count) for count in (1, placement.replicas - 1) if count]
    job_spec: dict[str, Any] = {"worker_pool_specs": pools, "scheduling": scheduling}
    if settings.service_account:
        job_spec["service_account"] = settings.service_account
    if settings.network:
        job_spec["network"] = settings.network
    job: dict[str, Any] = {"display_name": f"{name}-trainer", "job_spec": job_spec, "labels": dict(settings.labels)}
    if settings.encryption_key:
        job["encryption_spec"] = {"kms_key_name": settings.encryption_key}
    return job


def make_worker_pool(settings: VertexSettings, machines: int = 1) -> dict[str, Any]:
    """Returns a worker pool. All machines run the same command; which is which the service's TF_CONFIG tells them."""
    placement = settings.trainer
    machine = {name: value for name in _MACHINE_FIELDS if (value := getattr(placement.device, name, None))}
    environment = {"TF_USE_LEGACY_KERAS": "1"} | (TPU_ENVIRONMENT if "tpu_topology" in machine else {})
    if placement.tpu or placement.gpu:
        environment[DEVICE_VARIABLE] = "tpu" if placement.tpu else "gpu"
    pool: dict[str, Any] = {
        "machine_spec": machine,
        "replica_count": machines,
        "container_spec": {
            "image_uri": trainer_image(settings),
            "command": list(
                make_command(make_sources_hash(), round(placement.timeout_hours * SECONDS_PER_HOUR), job=True)
            ),
            "env": [{"name": key, "value": value} for key, value in environment.items()],
        },
    }
    if not placement.tpu:
        pool["disk_spec"] = {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": placement.disk_gb}
    return pool


def trainer_image(settings: VertexSettings) -> str:
    """Returns the image that trains.

    Raises:
        UserError: it cannot be told from the pipeline's image.
    """
    placement = settings.trainer
    if placement.image:
        return placement.image
    if not (placement.tpu or placement.gpu):
        return settings.image
    suffix = "tpu" if placement.tpu else "gpu"
    if "@" in settings.image:
        raise UserError(
            f"image is {settings.image}, whose digest names no {suffix.upper()} image; give trainer.image, "
            f"what the {suffix} stage of the Dockerfile was pushed as"
        )
    repository, colon, tag = settings.image.rpartition(":")
    if not colon or "/" in tag:
        return f"{settings.image}:latest-{suffix}"
    return f"{repository}:{tag}-{suffix}"


def check_training(placement: TrainerPlacement, trainer: TrainerSettings) -> None:
    """Refuses a batch or a strategy that the devices cannot take, before a machine is paid for.

    Raises:
        UserError: names the setting.
    """
    if trainer.strategy == "multi_worker" and placement.replicas == 1:
        raise UserError(
            "trainer.strategy is multi_worker, but on Vertex AI one machine would train; give their number as "
            "trainer.replicas (--trainer-replicas), or set the strategy to auto"
        )
    if placement.device is None:
        return
    device = placement.tpu or placement.gpu or placement.machine_type
    allowed = {"auto", "tpu"} if placement.tpu else {"auto", "mirrored", "one_device"}
    if placement.replicas > 1:
        device, allowed = f"{device} on {placement.replicas} machines", {"auto", "multi_worker"}
    if trainer.strategy not in allowed or (trainer.strategy == "mirrored" and not placement.gpu):
        raise UserError(f"trainer.strategy is {trainer.strategy}, which {device} does not serve; set it to auto")
    if placement.tpu and trainer.tpu != "local":
        raise UserError(f"trainer.tpu is {trainer.tpu}, but a job of Vertex AI has its TPU itself; set it to local")
    check_batch(trainer.batch_size, _replicas(placement), f"replicas of {device}")


def describe_devices(placement: TrainerPlacement, batch_size: int) -> str:
    """Returns the Trainer's devices and each one's share of the batch in words."""
    shown = str(placement.device or "the task's own container")
    if placement.replicas > 1:
        shown = f"{placement.replicas} machines of {shown}"
    return f"{shown}; {batch_size // _replicas(placement)} images a replica and step"


def _replicas(placement: TrainerPlacement) -> int:
    """Returns how many share a batch: TPU cores, or the GPUs of all machines."""
    return placement.replicas * (placement.device.replicas if placement.device else 1)


def parse_custom_job(job: Mapping[str, Any]) -> Any:
    """Parses a CustomJob with the service's own types, as the client will, and checks that nothing got lost.

    Returns:
        The `google.cloud.aiplatform_v1.types.CustomJob`.

    Raises:
        ValueError: it has a field that the service does not know, or a value of the wrong type.
    """
    from google.cloud.aiplatform_v1.types import CustomJob
    from google.protobuf import json_format

    # In both ways: TFX hands the dictionary to the client's own types, and only JSON's parser names what is unknown.
    try:
        parsed = json_format.ParseDict(dict(job), CustomJob.pb(CustomJob()))
    except json_format.ParseError as error:
        raise ValueError(" ".join(str(error).split())) from error
    if CustomJob.pb(CustomJob(dict(job))) != parsed:
        raise ValueError("the job's dictionary is read in two ways; use the field names of the service")
    return CustomJob.wrap(parsed)


def _duration(hours: float) -> str:
    return f"{round(hours * SECONDS_PER_HOUR)}s"
