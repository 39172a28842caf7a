"""Calls to Amazon's services: sent by boto3, which this module alone imports, or printed by a dry run."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from data.errors import Fault, UserError

TRIES = 5
"""Of each call that was throttled, timed out or met a fault of the service; boto3 waits up to 20 s in between."""
CONNECT_SECONDS, READ_SECONDS = 10, 60

_ABSENT = re.compile(r"404|NoSuch\w+|\w*NotFound(Exception)?")
_DENIED = re.compile(r"403|AccessDenied(Exception)?|UnauthorizedOperation|AllAccessDisabled")
_NOT_LOGGED_IN = re.compile(
    r"ExpiredToken(Exception)?|InvalidClientTokenId|UnrecognizedClientException|InvalidAccessKeyId|SignatureDoesNotMatch"
    r"|MissingAuthenticationToken|IncompleteSignature"
)
_QUOTA = re.compile(r"(Resource)?LimitExceeded(Exception)?|ServiceQuotaExceededException")
_LOG_IN = "log in (aws sso login, aws configure), or set AWS_PROFILE"


class Absent(UserError):
    """What was asked for is not there."""


class Calls(Protocol):
    """What sends calls, or prints them."""

    def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """Makes a call.

        Args:
            service: as boto3 names it: `sagemaker`, `s3`.
            operation: its client's method: `create_model`.
            arguments: of the method.

        Raises:
            Absent: it asks for something that is not there.
            UserError: credentials, permission, quota, or something that the service refuses.
            Fault: the service failed or could not be reached, also after `TRIES`.
        """


class Aws:
    """Sends calls, with the credentials that boto3 finds."""

    def __init__(self, region: str) -> None:
        """Looks whether there is boto3.

        Raises:
            UserError: it is not installed, or AWS_PROFILE names no profile.
        """
        try:
            import boto3
        except ModuleNotFoundError:
            raise UserError(
                "boto3 is not installed, which pipeline.aws sends its calls with; pip install 'boto3>=1.35,<2'"
            ) from None
        from botocore.exceptions import BotoCoreError

        self.region = region
        try:
            self._session = boto3.session.Session(region_name=region)
        except BotoCoreError as error:
            raise _explain(error, "AWS_PROFILE") from None
        self._clients: dict[str, Any] = {}

    def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """See `Calls`."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client(service), operation)(**arguments) or {}
        except (Boto3Error, BotoCoreError, ClientError) as error:
            # The transfer of a file hides the service's own error.
            cause = error.__context__ if isinstance(error, Boto3Error) and error.__context__ else error
            raise _explain(cause, _describe(service, operation, arguments)) from error

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            from botocore.config import Config

            config = Config(
                retries={"mode": "standard", "total_max_attempts": TRIES},
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
            )
            self._clients[service] = self._session.client(service, config=config)
        return self._clients[service]


class DryRun:
    """Prints calls and sends none; to what is asked, it answers as if only what it was told of were there.

    What a printed call makes is there from then on.
    """

    def __init__(self, known: Mapping[tuple[str, str], dict[str, Any]] | None = None) -> None:
        """Takes what is there: answers by kind (`endpoint`, `model`, `object`) and name."""
        self._known = dict(known or {})

    def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """See `Calls`; nothing fails but for what is not there."""
        print(f"{service} {operation}")
        for key, value in arguments.items():
            print(f"    {key}: {_show(value)}")
        verb, _, noun = operation.partition("_")
        if verb == "list":
            return self._known.get((operation, ""), {})
        kind = "object" if service == "s3" else noun
        name = next((str(value) for key, value in arguments.items() if key == "Key" or key.endswith("Name")), "")
        if verb in ("describe", "head"):
            if (kind, name) not in self._known:
                raise Absent(f"{name}: is not there yet")
            return self._known[kind, name]
        self._known[kind, name] = {**arguments, "EndpointStatus": "InService", "TransformJobStatus": "Completed"}
        return {}


def find(calls: Calls, service: str, operation: str, **arguments: Any) -> dict[str, Any] | None:
    """Returns the answer of a call, or None where what it asks for is not there; errors as `Calls.call`."""
    try:
        return calls.call(service, operation, **arguments)
    except Absent:
        return None


def pages(calls: Calls, service: str, operation: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    """Yields the answers of a call that lists, page by page; errors as `Calls.call`."""
    given, told = ("ContinuationToken", "NextContinuationToken") if service == "s3" else ("NextToken", "NextToken")
    token: dict[str, Any] = {}
    while True:
        page = calls.call(service, operation, **arguments, **token)
        yield page
        if not page.get(told):
            return
        token = {given: page[told]}


def ensure(there: Callable[[], object], make: Callable[[], object], begin: Callable[[], None] = lambda: None) -> None:
    """Makes something unless it is there, and looks again where making it failed: its answer may have been lost.

    Args:
        there: whether it is there.
        make: makes it.
        begin: is called before `make` is.

    Raises:
        UserError | Fault: what `make` raised, and it is not seen there.
    """
    if there():
        return
    begin()
    try:
        make()
    except (UserError, Fault):
        if not is_seen(there):
            raise


def is_seen(there: Callable[[], object]) -> bool:
    """Says whether something is there, as far as that can be asked."""
    try:
        return bool(there())
    except (UserError, Fault):
        return False


def _show(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _describe(service: str, operation: str, arguments: Mapping[str, Any]) -> str:
    names = [str(value) for key, value in arguments.items() if key in ("Bucket", "Key") or key.endswith("Name")]
    return " ".join([service, operation, "/".join(names)]).rstrip()


def _explain(error: BaseException, doing: str) -> Exception:
    """Returns the error to raise in place of boto3's: one line that names what to do."""
    response = getattr(error, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    said = " ".join(str(response.get("Error", {}).get("Message") or error).split()).rstrip(".")
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    kind = type(error).__name__
    if _NOT_LOGGED_IN.fullmatch(code) or re.search(r"Credential|Token|SSO|Profile", kind):
        return UserError(f"{doing}: no valid credentials for AWS ({said}); {_LOG_IN}")
    if _ABSENT.fullmatch(code) or said.startswith("Could not find"):
        return Absent(f"{doing}: not found: {said or code}; check the name and the region")
    if _DENIED.fullmatch(code):
        return UserError(f"{doing}: permission denied: {said or code}; docs/aws.md has the policy of who deploys")
    if _QUOTA.fullmatch(code):
        return UserError(
            f"{doing}: quota exceeded: {said}; ask for less, or request more at"
            " https://console.aws.amazon.com/servicequotas/home/services/sagemaker/quotas"
        )
    if status >= 500 or re.search(r"Throttl|TooMany|SlowDown|RequestLimit|Unavailable|Timeout", code):
        return Fault(f"{doing}: the service failed or is throttled, also after {TRIES} tries: {code}: {said}")
    if code:
        return UserError(f"{doing}: refused: {code}: {said}")
    if kind == "ParamValidationError":
        return UserError(f"{doing}: refused: {said}")
    return Fault(f"{doing}: the service could not be reached: {said}; check the network and the region")
