"""One call to a cloud service: tried again where that helps, and its failure told in one line.

It knows gRPC's errors and who needs which role, not any service: the commands of `pipeline.vertex`, the endpoint's
Pusher and the Trainer's job share it.
"""

import functools
import re
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, replace
from typing import Any

from google.api_core import exceptions, retry
from google.auth.exceptions import DefaultCredentialsError, RefreshError

from data.errors import Fault, UserError

CALL_SECONDS = 60.0
"""How long one try may take; without a limit a connection that hangs would hang for ever."""

GIVE_UP_SECONDS = 600.0
"""How long a call is tried again while the connection comes and goes."""

QUOTA_TRIES = 4
"""Too many calls in a minute pass within these tries (1 + 2 + 4 s); a quota of machines does not, however long."""

LOG_IN = (
    "run `gcloud auth application-default login`, or let GOOGLE_APPLICATION_CREDENTIALS name a service account's key"
)


@dataclass(frozen=True)
class Role:
    """What a call needs, for the message of one that is refused.

    Attributes:
        name: e.g. `roles/aiplatform.user`.
        holder: who needs it.
        otherwise: what there is to do in place of granting it, or nothing.
    """

    name: str
    holder: str
    otherwise: str = ""


ROLE = Role("roles/aiplatform.user", "whoever runs this command", ", or log in as someone who has it")
"""Of a person at a command line."""

STEP_ROLE = replace(ROLE, holder="the account that this step runs as (service_account)", otherwise="")
"""Of a node in its container, where nobody logs in."""

_PASSING = (
    exceptions.ServiceUnavailable,
    exceptions.DeadlineExceeded,
    exceptions.InternalServerError,
    exceptions.Aborted,
)
_NO_TOKEN = "Getting metadata from plugin failed"
_WRONG = (exceptions.InvalidArgument, exceptions.FailedPrecondition, exceptions.OutOfRange, exceptions.AlreadyExists)


class CloudFault(Fault):
    """The service failed or cannot be reached."""


class _Retryable:
    """Whether an error may pass by itself; counts one call's quota errors."""

    def __init__(self) -> None:
        self.quota_errors = 0

    def __call__(self, error: BaseException) -> bool:
        if isinstance(error, exceptions.ResourceExhausted):
            self.quota_errors += 1
            return self.quota_errors < QUOTA_TRIES
        return isinstance(error, _PASSING) and _NO_TOKEN not in str(error)


@functools.cache
def make_client(client_class: Any, region: str, api_endpoint: str | None = None) -> Any:
    """Returns a service's client, made once for each place; gRPC opens its connection with the first call.

    Args:
        client_class: of `google.cloud.aiplatform_v1`.
        region: e.g. `us-central1`.
        api_endpoint: host, with a port if need be, in place of the region's public one.

    Raises:
        UserError: there are no credentials on this machine.
    """
    try:
        host = api_endpoint or f"{region}-aiplatform.googleapis.com"
        return client_class(client_options={"api_endpoint": host})
    except DefaultCredentialsError as error:
        raise UserError(f"no credentials for Google Cloud were found on this machine; {LOG_IN}") from error


def call(
    method: Callable[..., Any],
    request: Any,
    *,
    doing: str,
    role: Role,
    expected: tuple[type[Exception], ...] = (),
    again: bool = True,
) -> Any:
    """Calls a method of a service's client, with back-off from 1 to 30 s while the fault is a passing one.

    A call that creates something is safe to try again only where the caller names what it creates: the second try
    of one whose answer was lost is then refused as ALREADY_EXISTS. `ensure` is for the others.

    Args:
        method: a client's bound method that takes `request`, `retry` and `timeout`.
        request: its request message.
        doing: what the user would call it, e.g. `submitting run digits-1`.
        role: what it needs, of whom: `ROLE` in a command, `STEP_ROLE` in a node.
        expected: errors that the caller deals with; they come through as they are.
        again: False for a call that must not be repeated blindly; faults that are worth another try, quota among them,
            then come through as they are.

    Raises:
        UserError: something that the user can put right: permission, quota, a name, credentials.
        CloudFault: the service failed, or did not answer for `GIVE_UP_SECONDS`.
    """
    policy, retryable = None, _Retryable()
    if again:
        policy = retry.Retry(predicate=retryable, initial=1.0, maximum=30.0, multiplier=2.0, timeout=GIVE_UP_SECONDS)
    try:
        return method(request=request, retry=policy, timeout=CALL_SECONDS)
    except expected:
        raise
    except Exception as error:
        if not again and retryable(error):
            raise
        raise explain(error, doing, role, retryable.quota_errors) from error


def list_pages(method: Callable[..., Any], request: Any, *, doing: str, role: Role, **how: Any) -> Iterator[Any]:
    """Yields the pages of a list, of which any may be empty; arguments and errors are those of `call`.

    The client's own pager has no part in how a call is tried again and explained.
    """
    request = type(request)(request)
    while True:
        page = next(call(method, request, doing=doing, role=role, **how).pages)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def ensure(find: Callable[[], Any], create: Callable[[], Any], doing: str, seconds: float, role: Role) -> Any:
    """Returns what `find` finds, creating it if need be; after a lost answer it looks before it creates again.

    So it does after a refusal for want of quota: gRPC tells one that a proxy makes of a stream that it cuts off
    (ENHANCE_YOUR_CALM), when the request may have gone through, by the same code.

    Args:
        find: returns the thing, or None.
        create: makes it, without trying again by itself, and returns it, or None where `find` is to be asked.
        doing: what the user would call it.
        seconds: how long to go on.
        role: as of `call`.

    Raises:
        UserError | CloudFault: as `call`.
    """
    pause, waited = 1.0, 0.0
    retryable = _Retryable()
    while True:
        if (found := find()) is not None:
            return found
        error: Exception | None = None
        try:
            made = create()
            if made is None:
                made = find()
            if made is not None:
                return made
        except Exception as caught:
            if not retryable(caught):
                if isinstance(caught, exceptions.ResourceExhausted):
                    raise explain(caught, doing, role, retryable.quota_errors) from caught
                raise
            error = caught
        if waited >= seconds:
            late = error or TimeoutError(f"nothing was seen within {seconds:.0f} s")
            raise explain(late, doing, role) from error
        time.sleep(pause)
        waited, pause = waited + pause, min(pause * 2, 30.0)


def finish(operation: Any, doing: str, seconds: float, role: Role) -> Any:
    """Waits for a long operation; the client itself asks again while the connection comes and goes.

    Raises:
        UserError | CloudFault: as `call`.
    """
    try:
        return operation.result(timeout=seconds)
    except Exception as error:
        raise explain(error, doing, role) from error


def ensure_made(
    find: Callable[[], Any], method: Callable[..., Any], request: Any, *, doing: str, seconds: float, role: Role
) -> Any:
    """Returns what `find` finds, made by a long operation if need be; after a lost answer it looks first.

    Args:
        find: returns the thing, or None.
        method: a client's, which starts the operation.
        request: its request message.
        doing: what the user would call it.
        seconds: how long to go on.
        role: as of `call`.

    Raises:
        UserError | CloudFault: as `call`.
    """

    def create() -> None:
        try:
            started = call(method, request, doing=doing, role=role, expected=(exceptions.AlreadyExists,), again=False)
        except exceptions.AlreadyExists:  # The first try's operation, or another pipeline's, is still under way.
            return
        finish(started, doing, seconds, role)

    return ensure(find, create, doing, seconds, role)


def explain(error: Exception, doing: str, role: Role, tries: int = 1) -> Exception:
    """Returns the error to raise in place of a service's: one line that names what to do."""
    cause = error.cause if isinstance(error, exceptions.RetryError) and error.cause else error
    said = " ".join(str(getattr(cause, "message", None) or cause).split()).rstrip(".")
    if isinstance(cause, DefaultCredentialsError | RefreshError | exceptions.Unauthorized) or _NO_TOKEN in said:
        return UserError(f"{doing}: no valid credentials ({said}); {LOG_IN}")
    if isinstance(cause, exceptions.Forbidden):
        return UserError(f"{doing}: permission denied: {said}; {_remedy(said, role)}")
    if isinstance(cause, exceptions.TooManyRequests):
        return UserError(
            f"{doing}: quota exceeded{f', also after {tries} tries' if tries > 1 else ''}: {said}; wait, ask for less, "
            "choose another region, or request more at https://console.cloud.google.com/iam-admin/quotas"
        )
    if isinstance(cause, exceptions.NotFound):
        return UserError(f"{doing}: not found: {said}; check the project, the region and the name")
    if isinstance(cause, _WRONG):
        return UserError(f"{doing}: refused: {said}")
    if isinstance(cause, _PASSING):
        return CloudFault(f"{doing}: the service could not be reached or did not answer for some time: {said}")
    if isinstance(cause, TimeoutError | futures.TimeoutError):
        return CloudFault(f"{doing}: begun, but it did not end in time: {said or 'no end is in sight'}")
    if isinstance(cause, exceptions.GoogleAPICallError):
        return CloudFault(f"{doing}: the service failed: {type(cause).__name__}: {said}")
    return error


def _remedy(said: str, role: Role) -> str:
    """Returns what makes a refused call permitted."""
    disabled = re.search(r"([a-z]+\.googleapis\.com)[^;]*(has not been used|is disabled)", said)
    if disabled or "has not been used in project" in said or "SERVICE_DISABLED" in said:
        return f"enable it: gcloud services enable {disabled[1] if disabled else 'aiplatform.googleapis.com'}"
    if "vpcServiceControls" in said or "VPC Service Controls" in said:
        return (
            "a perimeter of VPC Service Controls forbids it; of endpoints, it takes those of endpoint.kind shared alone"
        )
    if "actAs" in said:
        return f"grant roles/iam.serviceAccountUser on that service account to {role.holder}"
    return f"grant {role.name} to {role.holder}{role.otherwise}"
