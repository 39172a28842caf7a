"""How a push calls Vertex AI: clients, long operations, and things that are looked for before they are made."""

import functools
import time
from collections.abc import Callable
from typing import Any

from google.auth.exceptions import DefaultCredentialsError
from google.cloud import aiplatform_v1 as vertex

from components.cloud_calls import LOG_IN, call, explain, is_passing
from components.pusher.endpoint_target import EndpointTarget
from data.errors import UserError

ROLE = "roles/aiplatform.user"
"""What the account that the node runs as needs on the project."""


def make_client(target: EndpointTarget, client_class: Any) -> Any:
    """Returns a service's client, made once for each host.

    Raises:
        UserError: there are no credentials.
    """
    return _make_client(client_class, target.api_endpoint or f"{target.region}-aiplatform.googleapis.com")


@functools.cache
def _make_client(client_class: Any, api_endpoint: str) -> Any:
    try:
        return client_class(client_options={"api_endpoint": api_endpoint})
    except DefaultCredentialsError as error:
        raise UserError(f"no credentials for Google Cloud were found; {LOG_IN}") from error


def get_endpoint(target: EndpointTarget, name: str) -> vertex.Endpoint:
    """Returns an endpoint as it is now."""
    client = make_client(target, vertex.EndpointServiceClient)
    request = vertex.GetEndpointRequest(name=name)
    return call(client.get_endpoint, request, doing=f"looking up endpoint {target.name}", role=ROLE)


def finish(operation: Any, doing: str, seconds: float) -> Any:
    """Waits for a long operation; the client itself asks again while the connection comes and goes.

    Raises:
        UserError | CloudFault: as `call`.
    """
    try:
        return operation.result(timeout=seconds)
    except Exception as error:
        raise explain(error, doing, ROLE) from error


def ensure(find: Callable[[], Any], create: Callable[[], None], doing: str, seconds: float) -> Any:
    """Returns what `find` finds, creating it if need be; after a lost answer it looks before it creates again.

    Args:
        find: returns the thing, or None.
        create: makes it, without trying again by itself.
        doing: what the user would call it.
        seconds: how long to go on.

    Raises:
        UserError | CloudFault: as `call`.
    """
    pause, waited = 1.0, 0.0
    while True:
        if (found := find()) is not None:
            return found
        error: Exception | None = None
        try:
            create()
            if (found := find()) is not None:
                return found
        except Exception as caught:
            if not is_passing(caught):
                raise
            error = caught
        if waited >= seconds:
            late = error or TimeoutError(f"nothing was seen within {seconds:.0f} s")
            raise explain(late, doing, ROLE) from error
        time.sleep(pause)
        waited, pause = waited + pause, min(pause * 2, 30.0)
