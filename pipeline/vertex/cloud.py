"""Where Vertex AI is reached and what is exchanged with it, in plain types."""

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.cloud import aiplatform_v1 as vertex

from components.google_cloud.calls import make_client
from data.errors import UserError
from pipeline.vertex.settings import VertexSettings

FINAL_STATES = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
"""A run in one of these does nothing any more."""

_CONSOLE = "https://console.cloud.google.com/vertex-ai"
_RESOURCE = re.compile(r"projects/([^/]+)/locations/([^/]+)/([A-Za-z]+)/([^/]+)")


@dataclass(frozen=True)
class Cloud:
    """One project in one region.

    Attributes:
        project: its id or number.
        region: e.g. `us-central1`.
        api_endpoint: host, with a port if need be, in place of the region's public one, e.g. of a private connection.
    """

    project: str
    region: str
    api_endpoint: str | None = None

    @property
    def parent(self) -> str:
        """The resource that everything here belongs to."""
        return f"projects/{self.project}/locations/{self.region}"

    def client(self, client_class: Any) -> Any:
        """Returns the client of one service, made once; gRPC opens its connection with the first call.

        Raises:
            UserError: there are no credentials on this machine.
        """
        return make_client(client_class, self.region, self.api_endpoint)


@dataclass(frozen=True)
class Submission:
    """One run to be: a compiled spec and what it does not say.

    Attributes:
        spec: what `compile_spec` returns: `pipelineSpec`, `runtimeConfig`, `labels`, `displayName`.
        run_id: the run's own id, `[a-z][a-z0-9-]{0,127}`; the service never takes the same one twice.
        settings: that the spec was compiled with, for what it does not say.
    """

    spec: Mapping[str, Any]
    run_id: str
    settings: VertexSettings


@dataclass(frozen=True)
class Task:
    """One task of a run; `state` is the service's word, e.g. `RUNNING`, `SKIPPED` (served from cache)."""

    name: str
    state: str
    error: str = ""


@dataclass(frozen=True)
class Run:
    """What the service says of one run.

    Attributes:
        name: full resource name.
        console_url: its page for people.
        state: `PENDING`, `RUNNING`, `SUCCEEDED`, `FAILED`, `CANCELLING`, `CANCELLED`, ...
        created: RFC 3339 time, or empty.
        error: why it failed, one line, or empty.
        tasks: in the order of their ids; a list of runs leaves them out.
        notes: what went otherwise than asked without harm to the run.
    """

    name: str
    console_url: str
    state: str
    created: str = ""
    error: str = ""
    tasks: tuple[Task, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def run_id(self) -> str:
        """The last part of the name."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True)
class Schedule:
    """What the service says of one schedule; `created_now` is False where an equal one was there already."""

    name: str
    console_url: str
    state: str
    cron: str
    next_run: str = ""
    created_now: bool = True


def resource_name(cloud: Cloud, kind: str, name: str) -> str:
    """Returns the full name of a resource that is given by its full name or its id.

    Args:
        cloud: the project and region of a bare id.
        kind: `pipelineJobs` or `schedules`.
        name: what the user gave.

    Raises:
        UserError: it is neither.
    """
    match = _RESOURCE.fullmatch(name)
    if match and match[3] == kind:
        return name
    if "/" in name or not name:
        raise UserError(f"{name!r} is no name of {kind}; give its id, or projects/P/locations/R/{kind}/ID")
    return f"{cloud.parent}/{kind}/{name}"


def console_url(name: str) -> str:
    """Returns the page of a run or a schedule for people."""
    match = _RESOURCE.fullmatch(name)
    assert match is not None, name
    project, region, kind, resource_id = match.groups()
    page = {"pipelineJobs": "pipelines/runs", "schedules": "pipelines/schedules"}[kind]
    return f"{_CONSOLE}/locations/{region}/{page}/{resource_id}?project={project}"


def make_run(job: vertex.PipelineJob) -> Run:
    """Returns a job of the service in plain types."""
    run_id = job.name.rpartition("/")[2]
    details = sorted(job.job_detail.task_details, key=lambda detail: detail.task_id)
    return Run(
        name=job.name,
        console_url=console_url(job.name),
        state=job.state.name.removeprefix("PIPELINE_STATE_"),
        created=_shown(job.create_time),
        error=" ".join(job.error.message.split()),
        # The whole graph is listed as one more task, under the run's own id.
        tasks=tuple(
            Task(detail.task_name, detail.state.name, " ".join(detail.error.message.split()))
            for detail in details
            if detail.task_name != run_id
        ),
    )


def make_schedule(schedule: vertex.Schedule, *, created_now: bool = False) -> Schedule:
    """Returns a schedule of the service in plain types."""
    return Schedule(
        name=schedule.name,
        console_url=console_url(schedule.name),
        state=schedule.state.name,
        cron=schedule.cron,
        next_run=_shown(schedule.next_run_time),
        created_now=created_now,
    )


def _shown(moment: datetime.datetime | None) -> str:
    """Returns a time in UTC as RFC 3339 in whole seconds, or nothing."""
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""
