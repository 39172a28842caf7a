"""What Amazon SageMaker allows, in one table: settings are held against it before anything is sent.

Looked up on 26 November 2026. `API` are shapes of the service's own model, in botocore 1.44.8, which a test compares;
`page` are pages of the developer guide, below https://docs.aws.amazon.com/sagemaker/latest/dg/.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import Field

from pipeline.serving.limits import MEGABYTE


@dataclass(frozen=True)
class Limit:
    """A range that the service takes.

    Attributes:
        least: the smallest value.
        most: the largest.
        unit: of both.
        source: `API SHAPE`, or `page NAME`.
    """

    least: int
    most: int
    unit: str
    source: str

    def field(self) -> Any:
        """Returns what keeps a number within it, for `Annotated`."""
        return Field(ge=self.least, le=self.most)

    def length(self) -> Any:
        """Returns what keeps a text from being longer, for `Annotated`."""
        return Field(max_length=self.most)


NAME = Limit(1, 63, "characters", "API EndpointName")
"""Of endpoints, their configurations, models, variants and transform jobs."""
IMAGE = Limit(1, 255, "characters", "API ContainerImage")
ROLE = Limit(20, 2048, "characters", "API RoleArn")
URL = Limit(1, 1024, "characters", "API Url")
TAGS = Limit(0, 50, "tags", "API TagList")
TAG_KEY = Limit(1, 128, "characters", "API TagKey")
TAG_VALUE = Limit(0, 256, "characters", "API TagValue")
ENVIRONMENT_VALUE = Limit(0, 1024, "characters", "API EnvironmentValue")
INSTANCES = Limit(1, 100, "instances", "page regions-quotas")
"""Of a variant, and of a transform job; the account's quota is smaller at first."""
STARTUP_SECONDS = Limit(60, 3600, "s", "API ProductionVariantContainerStartupHealthCheckTimeoutInSeconds")
"""From the container's start to its first answer to `/ping`."""
ANSWER_SECONDS = Limit(0, 60, "s", "page your-algorithms-inference-code")
"""From a request to its answer."""
REQUEST_BYTES = Limit(1, 6_291_456, "bytes", "API BodyBlob")
"""Of a request to an endpoint on instances."""
SERVERLESS_REQUEST_BYTES = Limit(1, 4 * MEGABYTE, "bytes", "page serverless-endpoints-invoke")
SERVERLESS_MEMORY_MB = Limit(1024, 6144, "MB, in steps of 1024", "API ServerlessMemorySizeInMB")
SERVERLESS_MEMORY_STEP_MB = 1024
SERVERLESS_CONCURRENCY = Limit(1, 200, "requests", "API ServerlessMaxConcurrency")
SERVERLESS_STARTUP_SECONDS = Limit(0, 180, "s", "page serverless-endpoints-invoke")
SERVERLESS_IMAGE_BYTES = Limit(1, 10_000 * MEGABYTE, "bytes", "page serverless-endpoints")
SERVERLESS_DISK_BYTES = Limit(1, 5_000 * MEGABYTE, "bytes", "page serverless-endpoints")
TRANSFORM_PAYLOAD_MB = Limit(1, 100, "MB", "API CreateTransformJob, MaxPayloadInMB")
"""Of an image, and of all those that one instance is asked about at a time, together."""
TRANSFORM_RETRIES = Limit(0, 3, "retries", "API InvocationsMaxRetries")
