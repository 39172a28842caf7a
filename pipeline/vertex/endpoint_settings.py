"""The section `endpoint` of Vertex AI's settings: where a blessed model is served, by what and on what."""

from pydantic import Field, field_validator, model_validator

from components.google_cloud.endpoint_target import EndpointServer
from data.errors import UserError
from pipeline.vertex.forms import ServiceAccount
from pipeline.vertex.machines import check_machine_type, find_gpu


class EndpointSettings(EndpointServer):
    """The Vertex endpoint that a blessed model is deployed to; made if there is none of this name."""

    name: str | None = Field(default=None, min_length=1, max_length=128)
    """Display name of the endpoint; null pushes to a folder of the bucket instead."""
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
            if self.container == "pipeline" and self.serving_image is None:
                raise ValueError(
                    f"endpoint.accelerator_type is {self.accelerator_type}, but the pipeline's own server has the CPU "
                    "build of TensorFlow; leave it out, or give an endpoint.serving_image that uses GPUs"
                )
        return self


def find_serving_image(endpoint: EndpointSettings, image: str) -> str:
    """Returns the image of the model server.

    Args:
        endpoint: its settings.
        image: the pipeline's.

    Raises:
        UserError: it cannot be told from the pipeline's image.
    """
    if endpoint.serving_image:
        return endpoint.serving_image
    if "@" in image or ":" not in image.rpartition("/")[2]:
        raise UserError(
            f"image is {image}, which has no tag that would name the serving image; give endpoint.serving_image, what "
            "the serving stage of the Dockerfile was pushed as"
        )
    return f"{image}-serving"
