"""Where and how the pipeline runs on Vertex AI: one typed, frozen tree, from a YAML file and the command line."""

import functools
from typing import Literal

from croniter import croniter
from pydantic import Field, field_validator, model_validator

from data.section import Settings
from pipeline.tpu_types import V5E, TpuType, find_tpu_type
from pipeline.vertex.endpoint_settings import EndpointSettings
from pipeline.vertex.forms import (
    BucketPath,
    Count,
    EncryptionKey,
    Experiment,
    Hours,
    Image,
    Labels,
    Network,
    Project,
    Region,
    ServiceAccount,
    Subnetwork,
    check_labels,
)
from pipeline.vertex.machines import Machine, check_machine_type, check_tpu_region, find_gpu


class Resources(Settings):
    """CPU and memory of a task's container; Vertex AI takes the smallest machine that has them."""

    cpu: float | None = Field(default=None, gt=0, le=96)
    """Cores; null leaves it to Vertex AI."""
    memory_gb: float | None = Field(default=None, gt=0, le=624)
    """Gigabytes of memory; null leaves it to Vertex AI."""


DEFAULT_RESOURCES = Resources(cpu=4, memory_gb=16)


class RetrySettings(Settings):
    """How often Vertex AI starts a failed task anew, in addition to the first time."""

    count: int = Field(default=1, ge=0, le=10)
    """Further attempts of a task."""
    backoff_seconds: int = Field(default=60, ge=0, le=3600)
    """Seconds before the first of them."""
    backoff_factor: float = Field(default=2.0, ge=1.0, le=10.0)
    """What the wait is multiplied by each time."""
    max_backoff_seconds: int = Field(default=3600, ge=0, le=3600)
    """The longest wait, in seconds."""


class TrainerPlacement(Settings):
    """The machines of the Trainer: a TPU, GPUs or a CPU machine; without any it trains in the task itself."""

    tpu: str | None = None
    """A TPU of one host: `v2-8`, `v3-8`, `v5e-1`, `v5e-4` or `v5e-8`."""
    gpu: str | None = None
    """GPUs as `TYPE:COUNT`, e.g. `NVIDIA_TESLA_T4:1` or `NVIDIA_L4:2`."""
    machine_type: str | None = None
    """The machine that carries the GPUs, or one without any, e.g. `n1-highmem-16`; null takes the least that fits."""
    replicas: Count = 1
    """So many machines, each with those GPUs, train together, and share the batch; the first one writes."""
    image: Image | None = None
    """The container; null takes the pipeline's, its tag ending in `-tpu` or `-gpu` where it trains on one."""
    region: Region | None = None
    """Where the job runs; null is the pipeline's region. TPUs are in few."""
    timeout_hours: Hours = 24.0
    """The job is stopped after so many hours."""
    restart_on_worker_restart: bool = True
    """Whether a machine that is taken away or maintained starts the job again; it goes on from its checkpoint."""
    spot: bool = False
    """Cheaper machines that may be taken away at any time; GPUs, v5e and CPUs."""
    max_wait_hours: float | None = Field(default=None, gt=0, le=168)
    """With `spot`: how long the job waits for a machine; null leaves it to Vertex AI (24 hours)."""
    disk_gb: int = Field(default=100, ge=100, le=64000)
    """Boot disk of each machine, in gigabytes; TPU machines have one of their own."""

    @model_validator(mode="after")
    def _one_kind_of_machine(self) -> "TrainerPlacement":
        if self.tpu and (self.gpu or self.machine_type):
            other = f"gpu {self.gpu}" if self.gpu else f"machine_type {self.machine_type}"
            raise ValueError(f"tpu is {self.tpu} and so is {other} asked for; a TPU brings its machine, leave one out")
        device = self.device
        if device is None:
            for name in ("image", "region", "timeout_hours", "restart_on_worker_restart", "spot", "disk_gb"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} needs a machine of the Trainer's own; give tpu, gpu or machine_type")
        if self.spot and isinstance(device, TpuType) and device.generation is not V5E:
            raise ValueError(
                f"spot is set, but Vertex AI has no spot machines with {self.tpu}; use v5e, or leave it out"
            )
        if self.max_wait_hours and not self.spot:
            raise ValueError("max_wait_hours is for spot machines; set spot, or leave it out")
        return self

    @model_validator(mode="after")
    def _several_with_gpus(self) -> "TrainerPlacement":
        if self.replicas > 1 and not self.gpu:
            machine = f"on {self.tpu or self.machine_type}" if self.device else "in the task's own container"
            raise ValueError(
                f"replicas is {self.replicas}, but {machine} the Trainer is one machine: several train together with "
                "GPUs alone; give gpu, or set replicas to 1"
            )
        if self.replicas > 1 and not self.restart_on_worker_restart:
            raise ValueError(
                f"replicas is {self.replicas} and restart_on_worker_restart false, but machines that train together "
                "can only start again together; leave it out"
            )
        return self

    @functools.cached_property
    def device(self) -> TpuType | Machine | None:
        """The machine of the Trainer's job; None where training is no job of its own."""
        if self.tpu:
            tpu = find_tpu_type(self.tpu)
            if tpu.machine_type is None:
                raise ValueError(f"TPU {self.tpu}: Vertex AI trains on none; use v2-8, v3-8, v5e-1, v5e-4 or v5e-8")
            return tpu
        if self.gpu:
            return find_gpu(self.gpu, self.machine_type)
        return Machine(check_machine_type(self.machine_type)) if self.machine_type else None


class BeamPlacement(Settings):
    """Where one Beam step runs; null in `beam.components` takes the value of `beam` itself."""

    runner: Literal["direct", "dataflow"] | None = None
    """`direct` runs in the task's own container, `dataflow` on workers."""
    machine_type: str | None = None
    """Of the workers."""
    workers: Count | None = None
    """How many workers there are at first; null leaves it to Dataflow."""
    max_workers: Count | None = None
    """How many there may be."""
    disk_gb: int | None = Field(default=None, ge=30, le=64000)
    """Disk of each worker, in gigabytes."""
    timeout_hours: Hours | None = None
    """Dataflow stops the job after so many hours."""

    @field_validator("machine_type")
    @classmethod
    def _known_machine(cls, machine_type: str | None) -> str | None:
        return machine_type and check_machine_type(machine_type)

    @model_validator(mode="after")
    def _workers_in_order(self) -> "BeamPlacement":
        if self.workers and self.max_workers and self.workers > self.max_workers:
            raise ValueError(f"workers is {self.workers}, more than max_workers, {self.max_workers}; lower it")
        return self


class BeamSettings(BeamPlacement):
    """Where the Beam steps run: ImageExampleGen, StatisticsGen, Transform and Evaluator."""

    runner: Literal["direct", "dataflow"] = "direct"
    """`direct` runs in the task's own container, `dataflow` on workers."""
    machine_type: str = "n1-standard-4"
    """Of the workers."""
    max_workers: Count = 10
    """How many there may be."""
    disk_gb: int = Field(default=50, ge=30, le=64000)
    """Disk of each worker, in gigabytes."""
    timeout_hours: Hours = 12.0
    """Dataflow stops the job after so many hours."""
    subnetwork: Subnetwork | None = None
    """Of the workers, as `regions/REGION/subnetworks/NAME`."""
    public_ips: bool = True
    """Whether workers have addresses on the Internet; without, the subnetwork needs Private Google Access."""
    service_account: ServiceAccount | None = None
    """Of the workers; null takes the pipeline's."""
    labels: Labels = {}
    """Further labels of the jobs."""
    components: dict[str, BeamPlacement] = {}
    """What is different for one step, e.g. `{Evaluator: {runner: direct}}`."""

    _labels = field_validator("labels")(check_labels)


class ScheduleSettings(Settings):
    """When the pipeline runs by itself."""

    cron: str | None = None
    """Five fields: minute, hour, day, month, weekday; null runs it once, now."""
    time_zone: str = "Etc/UTC"
    """That the fields are in, e.g. `Europe/Berlin`."""
    max_concurrent_runs: int = Field(default=1, ge=1, le=100)
    """A run that is due waits while so many are under way."""

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, cron: str | None) -> str | None:
        if cron is None:
            return None
        if len(cron.split()) != 5 or not croniter.is_valid(cron):
            raise ValueError(f"cron is {cron!r}, which is no schedule; use five fields, such as '0 3 * * 1'")
        return " ".join(cron.split())

    @field_validator("time_zone")
    @classmethod
    def _known_time_zone(cls, name: str) -> str:
        import zoneinfo

        if name not in zoneinfo.available_timezones():
            raise ValueError(f"time_zone is {name!r}, which is none; use a name such as Europe/Berlin or Etc/UTC")
        return name

    @model_validator(mode="after")
    def _only_with_cron(self) -> "ScheduleSettings":
        idle = [name for name in ("time_zone", "max_concurrent_runs") if name in self.model_fields_set]
        if idle and self.cron is None:
            raise ValueError(f"schedule.{idle[0]} is given, but no schedule.cron (--schedule); give both or neither")
        return self


class ProjectSettings(Settings):
    """Which project and region."""

    project: Project
    """Id of the Google Cloud project."""
    region: Region
    """Where the pipeline runs, e.g. `us-central1`."""


class VertexSettings(ProjectSettings):
    """Everything about Vertex AI; holds no secret: credentials are Google's own, from the environment."""

    pipeline_root: BucketPath
    """Tree of all artifacts, in a bucket of the region: `gs://BUCKET/PATH`."""
    image: Image
    """The pipeline's container image, as `make image` builds it: of all steps and of Dataflow's workers."""
    service_account: ServiceAccount | None = None
    """That the steps run as; null is Compute Engine's default one, which may do too much."""
    network: Network | None = None
    """Peered network, as `projects/NUMBER/global/networks/NAME`."""
    encryption_key: EncryptionKey | None = None
    """Cloud KMS key of everything that is stored."""
    experiment: Experiment | None = None
    """Vertex experiment that the runs belong to."""
    labels: Labels = {}
    """Further labels of the run and of its jobs, beside those of TFX."""
    cache: bool = True
    """Whether unchanged steps are served from cache."""
    fail_fast: bool = False
    """Whether the run stops at the first failed task, instead of running what does not depend on it."""
    data_manifest: str | None = None
    """A file that lists the images in the bucket, e.g. of `gcloud storage ls -l -r`: its hash tells whether they have
    changed. Without one, images in a bucket are read anew in each run."""
    task_timeout_hours: Hours = 24.0
    """A task is stopped after so many hours."""
    resources: dict[str, Resources] = {"default": DEFAULT_RESOURCES}
    """CPU and memory by component; `default` is for those that are not named, and for what they leave out."""
    retries: RetrySettings = RetrySettings()
    trainer: TrainerPlacement = TrainerPlacement()
    beam: BeamSettings = BeamSettings()
    endpoint: EndpointSettings = EndpointSettings()
    schedule: ScheduleSettings = ScheduleSettings()

    _labels = field_validator("labels")(check_labels)

    @field_validator("resources")
    @classmethod
    def _with_defaults(cls, resources: dict[str, Resources]) -> dict[str, Resources]:
        changes = resources["default"].model_dump(exclude_unset=True) if "default" in resources else {}
        return {**resources, "default": DEFAULT_RESOURCES.model_copy(update=changes)}

    @model_validator(mode="after")
    def _tpu_in_its_region(self) -> "VertexSettings":
        if isinstance(self.trainer.device, TpuType):
            check_tpu_region(self.trainer.device, self.trainer_region)
        return self

    @model_validator(mode="after")
    def _endpoint_in_its_network(self) -> "VertexSettings":
        if self.network and self.endpoint.name and self.endpoint.kind == "dedicated":
            raise ValueError(
                f"network is {self.network}, a private one, but endpoint.kind is dedicated, which is reached from the "
                "internet and knows no VPC Service Controls; set endpoint.kind to shared, which knows them"
            )
        return self

    @field_validator("pipeline_root")
    @classmethod
    def _no_slash_at_the_end(cls, pipeline_root: str) -> str:
        return pipeline_root.rstrip("/")

    @property
    def trainer_region(self) -> str:
        """Where the Trainer's job runs."""
        return self.trainer.region or self.region

    def resources_of(self, node: str) -> Resources:
        """CPU and memory of a node's container: its own values, then those of `default`."""
        own, default = self.resources.get(node, Resources()), self.resources.get("default", Resources())
        return Resources(
            cpu=own.cpu if own.cpu is not None else default.cpu,
            memory_gb=own.memory_gb if own.memory_gb is not None else default.memory_gb,
        )
