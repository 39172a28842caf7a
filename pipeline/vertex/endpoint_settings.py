"""The section `endpoint` of Vertex AI's settings: where a blessed model is served, by what and on what."""

from pydantic import Field, field_validator, model_validator

from data.settings import Settings
from pipeline.vertex.forms import ServiceAccount
from pipeline.vertex.machines import check_machine_type, find_gpu

CPU_SERVING_IMAGE = "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"


class EndpointSettings(Settings):
    """The Vertex endpoint that a blessed model is deployed to; made if there is none of this name."""

    name: str | None = Field(default=None, min_length=1, max_length=128)
    """Display name of the endpoint; null pushes to a folder of the bucket instead."""
    machine_type: str = "n1-standard-4"
    """Of the replicas."""
    accelerator_type: str | None = None
    """GPU of each replica, e.g. `NVIDIA_TESLA_T4`."""
    accelerator_count: int = Field(default=0, ge=0, le=8)
    """How many of them each replica has."""
    min_replicas: int = Field(default=1, ge=1, le=1000)
    """Replicas at least."""
    max_replicas: int = Field(default=1, ge=1, le=1000)
    """Replicas at most."""
    traffic_percent: int = Field(default=100, ge=1, le=100)
    """The new model's share of the requests (a canary); the model that had the most keeps the rest. The first model
    gets all."""
    serving_image: str = Field(default=CPU_SERVING_IMAGE, min_length=1)
    """The model server, one of Vertex AI's prebuilt ones (TensorFlow 2.15 is the latest of them) or your own."""
    serving_args: tuple[str, ...] = ()
    """Arguments of your own server, e.g. `--model_base_path=$(AIP_STORAGE_URI)`."""
    serving_port: int | None = Field(default=None, ge=1, le=65535)
    """That your own server listens on; null is Vertex AI's choice, 8080."""
    predict_route: str | None = Field(default=None, pattern=r"^/")
    """HTTP path of your own server's predictions."""
    health_route: str | None = Field(default=None, pattern=r"^/")
    """HTTP path of your own server's health checks."""
    service_account: ServiceAccount | None = None
    """Of the replicas; null is Vertex AI's."""

    @field_validator("machine_type")
    @classmethod
    def _known_machine(cls, machine_type: str) -> str:
        return check_machine_type(machine_type)

    @model_validator(mode="after")
    def _fits_together(self) -> "EndpointSettings":
        if self.traffic_percent < 100 and self.name is None:
            raise ValueError(
                f"endpoint.traffic_percent is {self.traffic_percent}, but there is no endpoint; give endpoint.name"
            )
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"endpoint.min_replicas is {self.min_replicas}, more than max_replicas, {self.max_replicas}; lower it"
            )
        if (self.accelerator_type is None) != (self.accelerator_count == 0):
            raise ValueError(
                f"endpoint.accelerator_type is {self.accelerator_type} and accelerator_count {self.accelerator_count}; "
                "set both or neither"
            )
        if self.accelerator_type:
            find_gpu(f"{self.accelerator_type}:{self.accelerator_count}", self.machine_type)
            if self.serving_image == CPU_SERVING_IMAGE:
                raise ValueError(
                    f"endpoint.accelerator_type is {self.accelerator_type}, but endpoint.serving_image is "
                    f"{CPU_SERVING_IMAGE}, which uses no GPU; give a server that does"
                )
        return self
