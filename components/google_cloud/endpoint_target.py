"""Settings of a push to a Vertex endpoint."""

from pydantic import Field, model_validator

from data.section import Settings


class EndpointServer(Settings):
    """What serves a model on an endpoint, on which machines, and with which share of the requests."""

    name: str | None = Field(default=None, min_length=1, max_length=128)
    """Display name of the endpoint; it is created if there is none."""

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

    serving_image: str = Field(min_length=1)
    """The model server, one of Vertex AI's prebuilt ones (TensorFlow 2.15 is the latest of them) or your own."""

    serving_args: tuple[str, ...] = ()
    """Arguments of your own server, e.g. `--model_base_path=$(AIP_STORAGE_URI)`."""

    serving_port: int | None = Field(default=None, ge=1, le=65535)
    """That your own server listens on; null is Vertex AI's choice, 8080."""

    predict_route: str | None = Field(default=None, pattern=r"^/")
    """HTTP path of your own server's predictions."""

    health_route: str | None = Field(default=None, pattern=r"^/")
    """HTTP path of your own server's health checks."""

    service_account: str | None = None
    """Email of the account that the replicas run as; null is Vertex AI's own."""

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
        return self


class EndpointTarget(EndpointServer):
    """The endpoint that a blessed model is deployed to, and on what; JSON in the node's `custom_config`."""

    name: str = Field(min_length=1, max_length=128)
    """Display name of the endpoint; it is created if there is none."""

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
