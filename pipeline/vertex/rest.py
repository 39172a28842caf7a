"""Requests to what Google offers over HTTP alone: tried again where that helps, a failure told in one line."""

import time
from typing import Any, Protocol

from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError, TransportError

from components.google_cloud.calls import LOG_IN, ROLE, CloudFault, Role, explain
from data.errors import UserError

TRIES = 4
"""Of a request that a busy service refused or a connection lost, with pauses of 1, 2 and 4 seconds."""

_BUSY = (429, 500, 502, 503, 504)


class Session(Protocol):
    """What is needed of `google.auth.transport.requests.AuthorizedSession`."""

    def request(self, method: str, url: str, **arguments: Any) -> Any:
        """Sends a request."""


def open_session() -> Session:
    """Returns a session with the user's credentials.

    Raises:
        UserError: there are none.
    """
    from pipeline.vertex.cloud_check import make_session

    session = make_session()
    if session is None:
        raise UserError(f"no credentials for Google Cloud were found on this machine; {LOG_IN}")
    return session  # type: ignore[return-value]


def send(
    session: Session,
    method: str,
    url: str,
    *,
    doing: str,
    role: Role = ROLE,
    taken: tuple[int, ...] = (200,),
    **arguments: Any,
) -> tuple[int, Any]:
    """Sends a request that may be sent again.

    Args:
        session: with credentials.
        method: of HTTP.
        url: where.
        doing: what the user would call it.
        role: what it needs.
        taken: the statuses that the caller deals with.
        arguments: of `requests`.

    Returns:
        The status and the answer, parsed where it is JSON; else `{"error": TEXT}`.

    Raises:
        UserError: something that the user can put right: permission, quota, a name, credentials.
        CloudFault: the service failed or could not be reached.
    """
    import requests

    error: Exception | None = None
    for number in range(TRIES):
        if number:
            time.sleep(2 ** (number - 1))
        try:
            answer = session.request(method, url, **arguments)
        except (requests.RequestException, TransportError) as caught:
            error = CloudFault(f"{doing}: could not be reached: {' '.join(str(caught).split())[:300]}")
            continue
        except GoogleAuthError as caught:
            raise explain(caught, doing, role) from caught
        try:
            content = answer.json()
        except ValueError:
            content = {"error": answer.text[:300]}
        if answer.status_code in taken:
            return answer.status_code, content
        error = explain(exceptions.from_http_status(answer.status_code, reason_of(content)), doing, role)
        if answer.status_code not in _BUSY:
            break
    assert error is not None
    raise error


def reason_of(content: Any) -> str:
    """Returns why a request was refused: in a model server's words (`error`), or in Google's (`error.message`)."""
    error = content.get("error") if isinstance(content, dict) else content
    return " ".join(str(error.get("message", error) if isinstance(error, dict) else error).split())
