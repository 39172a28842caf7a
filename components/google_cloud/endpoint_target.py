"""Settings of a push to a Vertex endpoint."""

from typing import Literal

from pydantic import Field, model_validator

from data.section import Settings

Kind = Literal["dedicated", "shared"]
Container = Literal["pipeline", "tensorflow_serving"]

REQUEST_BYTES: dict[Kind, int] = {"dedicated": 10_000_000, "shared": 1_500_000}
"""Of a request, at most, body and all; "Choose an endpoint type", Vertex AI's documentation."""

REQUEST_SECONDS: dict[Kind, int] = {"dedicated": 600, "shared": 60}
"""How long an endpoint waits for an answer; a dedicated one may be given more than its default."""

ONLY_VERSION = "1"
"""Folder of the model below what TensorFlow Serving gets, which serves none that has no number."""

PREBUILT = "-docker.pkg.dev/vertex-ai/prediction/"
"""In the name of each of Vertex AI's prebuilt model servers."""

BASE_PATH_FLAG = "--model_base_path"
"""TensorFlow Serving's, for a folder of numbered versions."""


class EndpointServer(Settings):
    """What serves a model on an endpoint, on which machines, and with which share of the requests."""

    name: str | None = Field(default=None, min_length=1, max_length=128)
    """Display name of the endpoint; it is created if there is none."""

    kind: Kind = "dedicated"
    """`dedicated` has an address of its own and takes requests of 10 MB, but no VPC Service Controls; `shared` takes
    them, and 1.5 MB and 60 s a request. An endpoint that is there already stays what it is."""

    container: Container = "pipeline"
    """`pipeline` is this project's own server, the Dockerfile's stage `serving`, which takes files as they are;
    `tensorflow_serving` is TensorFlow Serving, which knows JPEG, PNG, GIF and BMP alone and does not turn them."""

    request_log: str | None = Field(default=None, pattern=r"^bq://[^.\s]+(\.[^.\s]+){0,2}$")
    """`bq://PROJECT.DATASET.TABLE`: where a new endpoint keeps each request with its picture, and the answer; null
    keeps none."""

    machine_type: str = "n1-standard-4"
    """Of the replicas."""

    accelerator_type: str | None = None
    """GPU of each replica, e.g. `NVIDIA_TESLA_T4`."""

    accelerator_count: int = Field(default=0, ge=0, le=8)
    """How many of them each replica has."""

    min_replicas: int = Field(default=1, ge=1, le=1000)
    """Replicas that always run, and are paid for."""

    max_replicas: int = Field(default=1, ge=1, le=1000)
    """Replicas at most, under load."""

    traffic_percent: int = Field(default=100, ge=1, le=100)
    """The new model's share of the requests. 100 replaces what is there; less is a canary, and the model that had the
    most keeps the rest. An endpoint's first model gets all."""

    serving_image: str | None = Field(default=None, min_length=1)
    """The server's image; null takes the pipeline's, its tag ending in `-serving`. TensorFlow Serving's is a copy of
    tensorflow/serving in Artifact Registry, with its exact tag, or one of Vertex AI's prebuilt ones."""

    serving_args: tuple[str, ...] = ()
    """Arguments of the server, of the pipeline's own `[serve, --batch=8]`; empty are its image's own. TensorFlow
    Serving is told port and folder without them."""

    serving_port: int | None = Field(default=None, ge=1, le=65535)
    """That a server of your own listens on; null is 8080, TensorFlow Serving's is 8501."""

    predict_route: str | None = Field(default=None, pattern=r"^/")
    """HTTP path of the predictions of a server of your own."""

    health_route: str | None = Field(default=None, pattern=r"^/")
    """HTTP path of the health checks of a server of your own."""

    service_account: str | None = None
    """Email of the account that the replicas run as; null is Vertex AI's own."""

    @property
    def takes_versions(self) -> bool:
        """Whether the server wants a folder of numbered versions: TensorFlow Serving, unless Vertex AI started it."""
        return self.container == "tensorflow_serving" and PREBUILT not in (self.serving_image or "")

    @model_validator(mode="after")
    def _fits_together(self) -> "EndpointServer":
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"endpoint.min_replicas is {self.min_replicas}, more than max_replicas, {self.max_replicas}; lower it"
            )
        if (self.accelerator_type is None) != (self.accelerator_count == 0):
            raise ValueError(
                f"endpoint.accelerator_type is {self.accelerator_type} and accelerator_count {self.accelerator_count}; "
                "set both or neither"
            )
        image = self.serving_image or ""
        if self.container == "tensorflow_serving":
            if not image:
                raise ValueError(
                    "endpoint.container is tensorflow_serving, but there is no endpoint.serving_image; give a copy of "
                    "tensorflow/serving in Artifact Registry, with its exact tag"
                )
            tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
            if self.takes_versions and "@" not in image and tag in ("", "latest"):
                raise ValueError(
                    f"endpoint.serving_image is {image}, which names no version; give its exact tag, such as :2.19.1"
                )
        elif PREBUILT in image or any(argument.startswith(BASE_PATH_FLAG) for argument in self.serving_args):
            raise ValueError(
                f"endpoint.serving_image is {image}, which looks like TensorFlow Serving; set endpoint.container to "
                "tensorflow_serving, or leave out the image for the pipeline's own server"
            )
        return self


class EndpointTarget(EndpointServer):
    """The endpoint that a blessed model is deployed to, and on what; JSON in the node's `custom_config`."""

    name: str = Field(min_length=1, max_length=128)
    """Display name of the endpoint; it is created if there is none."""

    serving_image: str = Field(min_length=1)
    """The server's image."""

    project: str = Field(min_length=1)
    """Google Cloud project of the endpoint and the model."""

    region: str = Field(pattern=r"^[a-z]+-[a-z]+[0-9]+$")
    """Region of both, e.g. `us-central1`."""

    model_id: str = Field(pattern=r"^[a-z_][a-z0-9_-]{0,62}$")
    """Id of the model in the registry, of which each push makes a version."""

    encryption_key: str | None = None
    """Resource name of a Cloud KMS key for the endpoint and the model; null is Google's own."""

    labels: dict[str, str] = {}
    """Labels of the endpoint and the model's version."""

    deploy_seconds: float = Field(default=3600.0, gt=0)
    """How long to wait for the replicas, in seconds; large GPUs take long to come."""

    @property
    def parent(self) -> str:
        """The resource that both belong to."""
        return f"projects/{self.project}/locations/{self.region}"
