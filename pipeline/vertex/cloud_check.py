"""What only Google can tell before a run: the bucket, the APIs that are switched on, the quota. Needs credentials."""

from collections.abc import Iterator
from typing import Any, Protocol

from pipeline.finding import Finding
from pipeline.tpu_types import TpuType
from pipeline.vertex.dataflow import BEAM_NODES, placement_of
from pipeline.vertex.endpoint_check import check_endpoint
from pipeline.vertex.settings import VertexSettings

STORAGE = "https://storage.googleapis.com/storage/v1"
SERVICE_USAGE = "https://serviceusage.googleapis.com"
PERMISSIONS = ("storage.objects.create", "storage.objects.delete", "storage.objects.get", "storage.objects.list")
TIMEOUT_SECONDS = 30


class Session(Protocol):
    """What is needed of `google.auth.transport.requests.AuthorizedSession`."""

    def get(self, url: str, **arguments: Any) -> Any:
        """Sends a request."""


def make_session() -> Session | None:
    """Returns a session with the user's credentials (`gcloud auth application-default login`); None without any."""
    import google.auth
    from google.auth.transport.requests import AuthorizedSession

    try:
        credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    except google.auth.exceptions.DefaultCredentialsError:
        return None
    return AuthorizedSession(credentials)


def check_cloud(settings: VertexSettings, session: Session | None) -> Iterator[Finding]:
    """Asks Google what it knows; reads only.

    Args:
        settings: what will run.
        session: with credentials; None skips all.
    """
    if session is None:
        for subject in ("bucket", "APIs", "quota"):
            yield Finding(
                "skipped", subject, "no credentials here; run gcloud auth application-default login to have it checked"
            )
        return
    for check in (check_bucket, check_apis, check_endpoint, check_quota):
        try:
            yield from check(settings, session)
        except Exception as error:  # of requests and of google.auth: a check that fails stops no other
            yield Finding("warning", check.__name__.removeprefix("check_"), f"could not be asked: {error}")


def check_bucket(settings: VertexSettings, session: Session) -> Iterator[Finding]:
    """Asks for the bucket's place and for what the user may do in it."""
    bucket = settings.pipeline_root.removeprefix("gs://").partition("/")[0]
    multi_region = settings.region.partition("-")[0].replace("europe", "eu")
    answer = session.get(f"{STORAGE}/b/{bucket}", timeout=TIMEOUT_SECONDS)
    if answer.status_code == 404:
        yield Finding(
            "error",
            "bucket",
            f"gs://{bucket} does not exist; gcloud storage buckets create gs://{bucket} --location={settings.region}",
        )
        return
    if answer.status_code != 200:
        yield Finding("warning", "bucket", f"gs://{bucket} cannot be looked at: {_reason(answer)}")
    elif (place := answer.json().get("location", "").lower()) not in (settings.region, multi_region):
        yield Finding(
            "warning", "bucket", f"gs://{bucket} is in {place}, not in {settings.region}: traffic costs money"
        )
    url = f"{STORAGE}/b/{bucket}/iam/testPermissions"
    answer = session.get(url, params={"permissions": list(PERMISSIONS)}, timeout=TIMEOUT_SECONDS)
    granted = answer.json().get("permissions", []) if answer.status_code == 200 else []
    missing = [permission for permission in PERMISSIONS if permission not in granted]
    if missing:
        text = f"you may not do {', '.join(missing)} in gs://{bucket}; grant roles/storage.objectUser"
        if settings.service_account:
            text += f", above all to {settings.service_account}, which the steps run as"
        yield Finding("error", "bucket", text)
    else:
        yield Finding("ok", "bucket", f"gs://{bucket} can be read and written")


def needed_apis(settings: VertexSettings) -> list[str]:
    """Returns the APIs that a run calls."""
    apis = ["aiplatform.googleapis.com", "storage.googleapis.com", "compute.googleapis.com"]
    if ".pkg.dev/" in settings.image:
        apis.append("artifactregistry.googleapis.com")
    if any(placement_of(settings, node).runner == "dataflow" for node in BEAM_NODES):
        apis.append("dataflow.googleapis.com")
    if settings.endpoint.name and settings.endpoint.request_log:
        apis.append("bigquery.googleapis.com")
    if settings.encryption_key:
        apis.append("cloudkms.googleapis.com")
    return apis


def check_apis(settings: VertexSettings, session: Session) -> Iterator[Finding]:
    """Asks which of the APIs are switched on."""
    off = []
    for api in needed_apis(settings):
        answer = session.get(f"{SERVICE_USAGE}/v1/projects/{settings.project}/services/{api}", timeout=TIMEOUT_SECONDS)
        if answer.status_code != 200:
            yield Finding("warning", "APIs", f"whether {api} is on cannot be told: {_reason(answer)}")
            return
        if answer.json().get("state") != "ENABLED":
            off.append(api)
    if off:
        command = f"gcloud services enable {' '.join(off)} --project={settings.project}"
        yield Finding("error", "APIs", f"{', '.join(off)} is switched off; {command}")
    else:
        yield Finding("ok", "APIs", "all are on")


def quota_metric(settings: VertexSettings) -> tuple[str, int] | None:
    """Returns the quota that the Trainer's accelerator counts against, and how much of it; None without one."""
    device = settings.trainer.device
    prefix = f"aiplatform.googleapis.com/custom_model_training_{'preemptible_' if settings.trainer.spot else ''}"
    if isinstance(device, TpuType):
        # v2 and v3 are counted in cores, v5e in chips, as in their names.
        return f"{prefix}tpu_{device.generation.name}", device.accelerator_count or device.chips
    if device and device.accelerator_type:
        name = device.accelerator_type.lower().replace("nvidia_", "").replace("tesla_", "").replace("h100_80gb", "h100")
        return f"{prefix}nvidia_{name}_gpus", device.replicas * settings.trainer.replicas
    return None


def check_quota(settings: VertexSettings, session: Session) -> Iterator[Finding]:
    """Asks for the limit of the Trainer's accelerators in its region; how much of it is in use is not known."""
    wanted = quota_metric(settings)
    if wanted is None:
        yield Finding("ok", "quota", "the Trainer needs no accelerator")
        return
    metric, count = wanted
    url = (
        f"{SERVICE_USAGE}/v1beta1/projects/{settings.project}/services/aiplatform.googleapis.com/consumerQuotaMetrics/"
        f"{metric.replace('/', '%2F')}"
    )
    answer = session.get(url, timeout=TIMEOUT_SECONDS)
    if answer.status_code != 200:
        yield Finding("warning", "quota", f"{metric} cannot be looked at: {_reason(answer)}")
        return
    limit = _regional_limit(answer.json(), settings.trainer_region)
    if limit is None:
        yield Finding("warning", "quota", f"{metric} has no limit for {settings.trainer_region}; look in the console")
    elif 0 <= limit < count:
        yield Finding(
            "error",
            "quota",
            f"{metric} is {limit} in {settings.trainer_region}, but the Trainer needs {count}; ask for more in the "
            "console (IAM & Admin, Quotas), or choose another machine or trainer.region",
        )
    else:
        yield Finding("ok", "quota", f"{metric} is {limit} in {settings.trainer_region}, of which {count} are needed")


def _regional_limit(metric: dict[str, Any], region: str) -> int | None:
    """Returns the effective limit of a region (-1 is none at all), or the one of all regions, or None."""
    general = None
    for limit in metric.get("consumerQuotaLimits", []):
        for bucket in limit.get("quotaBuckets", []):
            value = int(bucket.get("effectiveLimit", 0))
            if bucket.get("dimensions", {}).get("region") == region:
                return value
            if not bucket.get("dimensions"):
                general = value
    return general


def _reason(answer: Any) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"
