"""The Pusher's configuration for a Vertex endpoint."""

from typing import Any

from pipeline.vertex.settings import VertexSettings


def make_endpoint_config(settings: VertexSettings) -> dict[str, Any] | None:
    """Returns the Pusher's `custom_config`, in the keys of TFX's Vertex executor, or None for a push to a folder."""
    endpoint = settings.endpoint
    if endpoint.name is None:
        return None
    serving: dict[str, Any] = {
        "project": settings.project,
        "endpoint_name": endpoint.name,
        "machine_type": endpoint.machine_type,
        "min_replica_count": endpoint.min_replicas,
        "max_replica_count": endpoint.max_replicas,
        "traffic_percentage": endpoint.traffic_percent,
        "labels": dict(settings.labels),
    }
    if endpoint.service_account:
        serving["service_account"] = endpoint.service_account
    config: dict[str, Any] = {
        "ai_platform_enable_vertex": True,
        "ai_platform_vertex_region": settings.region,
        "ai_platform_vertex_container_image_uri": endpoint.serving_image,
        "ai_platform_serving_args": serving,
        "undeploy_idle": endpoint.undeploy_idle,
    }
    if settings.encryption_key:
        config["encryption_key"] = settings.encryption_key
    return config
