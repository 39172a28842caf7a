"""Where and how a model is served on Amazon SageMaker: one typed, frozen tree, from a YAML file and the flags."""

import re
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from data.section import Settings
from pipeline.sagemaker import limits
from pipeline.setting_forms import formed

NAME_SUFFIX_CHARACTERS = 23
"""What names of models add to the endpoint's: a version of up to 11 digits, ten of a hash, and two hyphens."""

_S3 = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s*?\[\]#%]*)?"
_TAG_CHARACTERS = re.compile(r"[\w .:/=+@-]*")

Region = Annotated[str, formed(r"[a-z]{2,3}(-[a-z]+)+-[0-9]", "a region, such as eu-central-1")]
Endpoint = Annotated[
    str,
    Field(max_length=limits.NAME.most - NAME_SUFFIX_CHARACTERS),
    formed(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*", "letters, digits, and hyphens within"),
]
Role = Annotated[
    str,
    limits.ROLE.length(),
    formed(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+", "arn:aws:iam::ACCOUNT:role/NAME"),
]
Image = Annotated[
    str,
    limits.IMAGE.length(),
    formed(
        r"[0-9]{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[a-z0-9._/-]+(:[\w.-]+|@sha256:[0-9a-f]{64})",
        "ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG",
    ),
]
S3Path = Annotated[str, limits.URL.length(), formed(_S3, "s3://BUCKET/FOLDER")]
InstanceType = Annotated[str, formed(r"ml\.[a-z0-9-]+\.[a-z0-9-]+", "an instance type, such as ml.m5.large")]


class ServerlessSettings(Settings):
    """An endpoint without instances of its own: paid by the request, and slow to answer the first one."""

    memory_mb: Annotated[int, limits.SERVERLESS_MEMORY_MB.field()] | None = None
    """Memory of a worker, in MB: 1024 to 6144 in steps of 1024; null serves on instances."""
    max_concurrency: Annotated[int, limits.SERVERLESS_CONCURRENCY.field()] = 5
    """Requests that are answered at a time; what comes beyond is refused."""

    @field_validator("memory_mb")
    @classmethod
    def _in_steps(cls, memory_mb: int | None) -> int | None:
        if memory_mb is not None and memory_mb % limits.SERVERLESS_MEMORY_STEP_MB:
            raise ValueError(f"memory_mb is {memory_mb}; use 1024, 2048, 3072, 4096, 5120 or 6144")
        return memory_mb


class TransformSettings(Settings):
    """A batch transform: images of a folder in S3 through the model, results back to S3."""

    input: S3Path | None = None
    """Folder of the images, at any depth: `s3://BUCKET/FOLDER`."""
    output: S3Path | None = None
    """Folder that each job makes a folder of its results in."""
    instance_type: InstanceType = "ml.m5.large"
    """Of the machines that answer."""
    instance_count: Annotated[int, limits.INSTANCES.field()] = 1
    """How many there are."""
    max_concurrent: Annotated[int, Field(ge=1, le=limits.TRANSFORM_PAYLOAD_MB.most)] = 4
    """Images that each is asked about at a time."""


class EndpointSettings(Settings):
    """Which endpoint."""

    region: Region
    """Where it is, e.g. `eu-central-1`."""
    endpoint: Endpoint
    """Name of the endpoint; models and configurations are named after it."""
    wait_minutes: float = Field(default=60.0, gt=0, le=1440)
    """How long a change of an endpoint is followed; then it goes on unseen."""


class AwsSettings(EndpointSettings):
    """Everything about Amazon SageMaker; holds no secret: credentials are boto3's own, from the environment."""

    role: Role
    """That the containers run as: reads the model in S3 and the image in ECR, and writes logs."""
    image: Image
    """The container image, the Dockerfile's stage `serving`, in ECR of the region."""
    artifacts: S3Path
    """Tree of the models in S3, in a bucket of the region: `s3://BUCKET/FOLDER`."""
    instance_type: InstanceType = "ml.m5.large"
    """Of the machines that serve."""
    instance_count: Annotated[int, limits.INSTANCES.field()] = 1
    """How many there are of a variant."""
    traffic_percent: int = Field(default=100, ge=1, le=100)
    """Share of the requests that a new version gets, the rest staying with the one that serves: a canary."""
    startup_seconds: Annotated[int, limits.STARTUP_SECONDS.field()] = 600
    """How long a container on an instance may take until it answers."""
    server_options: Annotated[str, Field(max_length=limits.ENVIRONMENT_VALUE.most)] = ""
    """Options of pipeline.serve in the container, e.g. `--batch 4`, which need not be measured at each start then."""
    tags: Annotated[dict[str, str], Field(max_length=limits.TAGS.most - 1)] = {}
    """Tags of what is made."""
    transform_minutes: float = Field(default=1440.0, gt=0, le=7200)
    """How long a transform job is followed; then it goes on unseen."""
    serverless: ServerlessSettings = ServerlessSettings()
    transform: TransformSettings = TransformSettings()

    @field_validator("artifacts")
    @classmethod
    def _no_slash_at_the_end(cls, artifacts: str) -> str:
        return artifacts.rstrip("/")

    @field_validator("server_options")
    @classmethod
    def _plain_words(cls, options: str) -> str:
        if options and not re.fullmatch(r"--[\w ./=-]*", options):
            raise ValueError(f"server_options is {options!r}; give options of pipeline.serve, such as '--batch 4'")
        return options

    @field_validator("tags")
    @classmethod
    def _fitting_tags(cls, tags: dict[str, str]) -> dict[str, str]:
        for key, value in tags.items():
            fits = _TAG_CHARACTERS.fullmatch(key + value)
            if not fits or not key or len(key) > limits.TAG_KEY.most or len(value) > limits.TAG_VALUE.most:
                raise ValueError(
                    f"tags has {key!r}: {value!r}; use letters, digits, spaces and _.:/=+-@, up to"
                    f" {limits.TAG_KEY.most} in a key and {limits.TAG_VALUE.most} in a value"
                )
            if key.lower().startswith("aws:") or key == ROLLED_BACK_TAG:
                raise ValueError(f"tags has {key!r}, which is not yours to set; choose another key")
        return tags

    @model_validator(mode="after")
    def _fits_sagemaker(self) -> "AwsSettings":
        if self.serverless.memory_mb is not None and self.traffic_percent < 100:
            raise ValueError(
                f"traffic_percent is {self.traffic_percent}, but a serverless endpoint (serverless.memory_mb) has one"
                " variant and so no canary; leave one of the two out"
            )
        registry_region = self.image.split(".")[3]
        if registry_region != self.region:
            raise ValueError(
                f"image lies in {registry_region}, but region is {self.region}, and SageMaker takes images of its own"
                " region; push it there"
            )
        return self


ROLLED_BACK_TAG = "rolled-back"
"""Of a model: why, by whom and when."""

REQUIRED = ("region", "endpoint", "role", "image", "artifacts")
