"""The client of S3, one for all threads of a process, and what its errors say in one line.

Credentials, region and address are what boto3 finds by itself: in the environment, `~/.aws`, the machine's role.
"""

import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from data.errors import UserError

ATTEMPTS = 4
"""Of a call, and of reading its answer: what throttles passes within seconds, and whatever lasts longer is told."""

_CONNECT_SECONDS, _READ_SECONDS = 3, 8
_CONNECTIONS = 64

_DENIED = (
    "access is denied ({code}); reading takes s3:ListBucket and s3:GetObject, writing s3:PutObject, and a rollback"
    " s3:DeleteObject"
)
_REFUSED = "the credentials are refused ({code}); renew them, aws sts get-caller-identity says whose they are"
_BUSY = f"S3 is too busy, or ill ({{code}}, {ATTEMPTS} attempts); run again later"
_ELSEWHERE = "the bucket is in another region ({code}); set AWS_REGION to that"
_CHANGED = "it changed while it was read ({code}); run again when nothing writes there"
_ANSWERS: Mapping[str, str] = {
    "NoSuchBucket": "there is no such bucket ({code}); check its name, and AWS_ENDPOINT_URL where that is set",
    "InvalidObjectState": "it is archived ({code}); restore it, or move it to a storage class that is read at once",
    "RequestTimeTooSkewed": "this machine's clock is wrong ({code}); set it",
    **dict.fromkeys(("AccessDenied", "AllAccessDisabled", "AccountProblem", "403"), _DENIED),
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch"), _REFUSED),
    **dict.fromkeys(("ExpiredToken", "InvalidToken", "TokenRefreshRequired"), _REFUSED),
    **dict.fromkeys(("SlowDown", "Throttling", "RequestLimitExceeded", "RequestTimeout", "429"), _BUSY),
    **dict.fromkeys(("PermanentRedirect", "AuthorizationHeaderMalformed", "301"), _ELSEWHERE),
    **dict.fromkeys(("PreconditionFailed", "412"), _CHANGED),
}
"""Amazon's code, or the answer's status -> what is told."""

_MISSING = ("NoSuchKey", "NotFound", "404")


def get_client() -> Any:
    """Returns boto3's client of S3, which all threads share and forked processes do not; called in `explained`."""
    return _make_client(os.getpid())


@functools.cache
def _make_client(process: int) -> Any:
    import boto3  # Here: who reads nothing from S3 needs neither it nor the half second that it takes.
    from botocore.config import Config

    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=_CONNECTIONS,
    )
    return boto3.session.Session().client("s3", config=config)


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Makes one line about a path of what goes wrong inside.

    Raises:
        tf.errors.NotFoundError: there is no such object: what TensorFlow says of other places.
        UserError: anything else.
    """
    try:
        from botocore import exceptions
    except ImportError:
        raise UserError(
            f"{path}: s3:// is read with boto3, which is not installed; install the extra aws of this project"
        ) from None
    try:
        yield
    except exceptions.ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _MISSING:
            import tensorflow as tf

            raise tf.errors.NotFoundError(None, None, f"{path}: there is no such object") from error
        raise UserError(f"{path}: {_explain_answer(error.response, code)}") from error
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.SSOError) as error:
        raise UserError(f"{path}: {_told(error)}; aws configure, aws sso login or AWS_PROFILE gives some") from error
    except (exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.IncompleteReadError) as error:
        raise UserError(
            f"{path}: S3 does not answer ({_told(error)}); check the network, and AWS_ENDPOINT_URL where that is set"
        ) from error
    except (exceptions.BotoCoreError, ValueError) as error:  # a file of settings, a profile, a region, a bucket's name
        raise UserError(f"{path}: {_told(error)}; check the path, the AWS_* variables and ~/.aws/config") from error


def _explain_answer(response: Mapping[str, Any], code: str) -> str:
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    told = _ANSWERS.get(code) or _ANSWERS.get(str(status)) or (_BUSY if status >= 500 else None)
    return told.format(code=code) if told else f"S3 answers {code}: {_told(response['Error'].get('Message', ''))}"


def _told(error: Any) -> str:
    return " ".join(str(error).split()).rstrip(".")
