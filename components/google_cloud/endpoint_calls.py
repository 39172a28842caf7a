"""How a push calls Vertex AI."""

from collections.abc import Callable
from typing import Any

from google.api_core.exceptions import AlreadyExists
from google.cloud import aiplatform_v1 as vertex

from components.google_cloud import calls
from components.google_cloud.calls import STEP_ROLE, call, ensure, finish
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


def ensure_made(
    find: Callable[[], Any], method: Callable[..., Any], request: Any, *, doing: str, seconds: float
) -> Any:
    """Returns what `find` finds, made by a long operation if need be; after a lost answer it looks first.

    Args:
        find: returns the thing, or None.
        method: a client's, which starts the operation.
        request: its request message.
        doing: what the user would call it.
        seconds: how long to go on.

    Raises:
        UserError | CloudFault: as `call`.
    """

    def create() -> None:
        try:
            started = call(method, request, doing=doing, role=STEP_ROLE, expected=(AlreadyExists,), again=False)
        except AlreadyExists:  # The first try's operation, or another pipeline's, is still under way.
            return
        finish(started, doing, seconds, STEP_ROLE)

    return ensure(find, create, doing, seconds, STEP_ROLE)
