"""What a dry run takes to be there, where what is printed depends on it."""

from pipeline.sagemaker.calls import DryRun
from pipeline.sagemaker.deployment import make_spec
from pipeline.sagemaker.endpoint_state import STABLE
from pipeline.sagemaker.resources import split_url
from pipeline.sagemaker.settings import AwsSettings


def assume_endpoint(settings: AwsSettings) -> DryRun:
    """Returns a dry run of a deployment: nothing is there, but for a canary an endpoint that serves another model."""
    if settings.traffic_percent == 100:
        return DryRun()
    config = f"{settings.endpoint}-{'0' * 10}"
    stable = make_spec(settings, STABLE, "MODEL-THAT-SERVES")
    live = {"VariantName": STABLE, "DesiredWeight": 100.0, "DesiredInstanceCount": settings.instance_count}
    return DryRun(
        {
            ("endpoint", settings.endpoint): {
                "EndpointStatus": "InService",
                "EndpointConfigName": config,
                "ProductionVariants": [live],
            },
            ("endpoint_config", config): {"ProductionVariants": [stable]},
        }
    )


def assume_images(settings: AwsSettings) -> DryRun:
    """Returns a dry run of a transform job: a made-up image is there."""
    prefix = split_url((settings.transform.input or "").rstrip("/") + "/")[1]
    image = {"Key": f"{prefix}IMAGE.jpg", "Size": 1, "ETag": "TAG"}
    return DryRun({("list_objects_v2", ""): {"Contents": [image]}})
