"""How a push calls Vertex AI."""

from typing import Any

from google.cloud import aiplatform_v1 as vertex

from components.google_cloud import calls
from components.google_cloud.calls import STEP_ROLE, call
from components.google_cloud.endpoint_target import EndpointTarget


def make_client(target: EndpointTarget, client_class: Any) -> Any:
    """Returns a service's client, made once for each host.

    Raises:
        UserError: there are no credentials.
    """
    return calls.make_client(client_class, target.api_endpoint or f"{target.region}-aiplatform.googleapis.com")


def get_endpoint(target: EndpointTarget, name: str) -> vertex.Endpoint:
    """Returns an endpoint as it is now."""
    client = make_client(target, vertex.EndpointServiceClient)
    request = vertex.GetEndpointRequest(name=name)
    return call(client.get_endpoint, request, doing=f"looking up endpoint {target.name}", role=STEP_ROLE)
