"""The endpoint that the Pusher deploys to."""

from typing import Any

from components.google_cloud.endpoint_target import EndpointTarget
from pipeline.vertex.settings import VertexSettings


def make_endpoint_target(settings: VertexSettings, name: str) -> dict[str, Any] | None:
    """Returns the fields of the Pusher's `EndpointTarget`, or None for a push to a folder.

    Args:
        settings: where the pipeline runs.
        name: of the pipeline; names the model in the registry, too.
    """
    endpoint = settings.endpoint
    if endpoint.name is None:
        return None
    target = EndpointTarget(
        project=settings.project,
        region=settings.region,
        # The registry wants a letter first, which a pipeline's name need not have.
        model_id=name if name[0].isalpha() else f"model-{name[:57]}",
        encryption_key=settings.encryption_key,
        labels=settings.labels,
        **endpoint.model_dump(),
    )
    return target.model_dump(mode="json")
