"""The section `endpoint` of Vertex AI's settings: where a blessed model is served, by what and on what."""

from pydantic import Field, field_validator, model_validator

from components.google_cloud.endpoint_target import EndpointServer
from pipeline.vertex.forms import ServiceAccount
from pipeline.vertex.machines import check_machine_type, find_gpu

CPU_SERVING_IMAGE = "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"


class EndpointSettings(EndpointServer):
    """The Vertex endpoint that a blessed model is deployed to; made if there is none of this name."""

    name: str | None = Field(default=None, min_length=1, max_length=128)
    """Display name of the endpoint; null pushes to a folder of the bucket instead."""
    serving_image: str = Field(default=CPU_SERVING_IMAGE, min_length=1)
    """The model server, one of Vertex AI's prebuilt ones (TensorFlow 2.15 is the latest of them, to be had until
    January 2027, and `:latest` the only tag that Google supports) or your own."""
    service_account: ServiceAccount | None = None
    """Of the replicas; null is Vertex AI's."""

    @field_validator("machine_type")
    @classmethod
    def _known_machine(cls, machine_type: str) -> str:
        return check_machine_type(machine_type)

    @model_validator(mode="after")
    def _fits_vertex(self) -> "EndpointSettings":
        if self.traffic_percent < 100 and self.name is None:
            raise ValueError(
                f"endpoint.traffic_percent is {self.traffic_percent}, but there is no endpoint; give endpoint.name"
            )
        if self.accelerator_type:
            find_gpu(f"{self.accelerator_type}:{self.accelerator_count}", self.machine_type)
            if self.serving_image == CPU_SERVING_IMAGE:
                raise ValueError(
                    f"endpoint.accelerator_type is {self.accelerator_type}, but endpoint.serving_image is "
                    f"{CPU_SERVING_IMAGE}, which uses no GPU; give a server that does"
                )
        return self
