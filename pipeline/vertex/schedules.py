"""Schedules on Vertex AI: the service starts a run at each time that a cron expression names."""

from google.api_core.exceptions import NotFound
from google.cloud import aiplatform_v1 as vertex

from components.google_cloud.calls import GIVE_UP_SECONDS, ROLE, call, ensure, finish, list_pages
from pipeline.vertex.cloud import Cloud, Schedule, Submission, make_schedule, resource_name
from pipeline.vertex.job_request import HASH_LABEL, make_pipeline_job


def create_schedule(cloud: Cloud, submission: Submission) -> Schedule:
    """Creates a schedule of runs, or finds the equal one that is active already.

    The service names schedules itself, so that a creation whose answer was lost cannot simply be tried again:
    each try looks first for an active schedule of the same pipeline, settings and times.

    Args:
        cloud: where.
        submission: what each run is, and when; its `run_id` is not used, since the service names the runs.

    Raises:
        UserError: the service refuses.
    """
    plan, job = submission.settings.schedule, make_pipeline_job(submission)
    wanted = vertex.Schedule(
        display_name=job.display_name,
        cron=f"TZ={plan.time_zone} {plan.cron}",
        max_concurrent_run_count=plan.max_concurrent_runs,
        allow_queueing=True,
        create_pipeline_job_request=vertex.CreatePipelineJobRequest(parent=cloud.parent, pipeline_job=job),
    )
    request = vertex.CreateScheduleRequest(parent=cloud.parent, schedule=wanted)
    doing = f"scheduling {wanted.display_name} at {wanted.cron!r}"
    tried = False

    def find() -> vertex.Schedule | None:
        active = _list(cloud, f'display_name="{wanted.display_name}" AND state="ACTIVE"')
        return next((schedule for schedule in active if _identity(schedule) == _identity(wanted)), None)

    def create() -> vertex.Schedule:
        nonlocal tried
        tried = True
        return call(_client(cloud).create_schedule, request, doing=doing, role=ROLE, again=False)

    schedule = ensure(find, create, doing, GIVE_UP_SECONDS, ROLE)
    return make_schedule(schedule, created_now=tried)


def list_schedules(cloud: Cloud) -> list[Schedule]:
    """Returns every schedule of the project in the region."""
    return [make_schedule(schedule) for schedule in _list(cloud, "")]


def delete_schedule(cloud: Cloud, name: str) -> None:
    """Ends a schedule, and returns once it has ended; runs that it has started go on.

    Raises:
        UserError: there is none, or it may not be ended.
        CloudFault: the service could not be reached, or did not end it in time.
    """
    full_name = resource_name(cloud, "schedules", name)
    doing = f"deleting schedule {full_name}"
    # So that only a name that is none is not found here.
    call(_client(cloud).get_schedule, vertex.GetScheduleRequest(name=full_name), doing=doing, role=ROLE)
    request = vertex.DeleteScheduleRequest(name=full_name)
    try:
        deletion = call(_client(cloud).delete_schedule, request, doing=doing, role=ROLE, expected=(NotFound,))
    except NotFound:  # A first try, whose answer was lost, went through.
        return
    finish(deletion, doing, GIVE_UP_SECONDS, ROLE)


def _identity(schedule: vertex.Schedule) -> tuple[str, str, int]:
    job = schedule.create_pipeline_job_request.pipeline_job
    return job.labels.get(HASH_LABEL, ""), schedule.cron, schedule.max_concurrent_run_count


def _list(cloud: Cloud, wanted: str) -> list[vertex.Schedule]:
    request = vertex.ListSchedulesRequest(parent=cloud.parent, filter=wanted, page_size=100)
    doing = f"listing the schedules of {cloud.parent}"
    pages = list_pages(_client(cloud).list_schedules, request, doing=doing, role=ROLE)
    return [schedule for page in pages for schedule in page.schedules]


def _client(cloud: Cloud) -> vertex.ScheduleServiceClient:
    return cloud.client(vertex.ScheduleServiceClient)
