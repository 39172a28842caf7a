"""Runs on Vertex AI: looked up, listed, followed and cancelled."""

import time
from collections.abc import Callable

from google.cloud import aiplatform_v1 as vertex
from google.protobuf import field_mask_pb2

from components.google_cloud.calls import ROLE, CloudFault, call
from data.errors import UserError
from pipeline.vertex.cloud import FINAL_STATES, Cloud, Run, make_run, resource_name

FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 5.0, 60.0
"""A run is asked for this often: at first, and once nothing has changed for a while."""

_LIST_FIELDS = ("name", "display_name", "state", "create_time", "error")


class LeftRunning(KeyboardInterrupt):
    """Ctrl-C while a run is followed: it goes on in the cloud, and the message says so."""


def get_run(cloud: Cloud, name: str) -> Run:
    """Returns one run with its tasks, by its id or full name.

    Raises:
        UserError: there is none, or it may not be seen.
        CloudFault: the service could not be reached.
    """
    full_name = resource_name(cloud, "pipelineJobs", name)
    request = vertex.GetPipelineJobRequest(name=full_name)
    return make_run(call(_client(cloud).get_pipeline_job, request, doing=f"looking up run {full_name}", role=ROLE))


def list_runs(cloud: Cloud, pipeline_name: str | None = None, limit: int = 20) -> list[Run]:
    """Returns the newest runs, without their tasks.

    Args:
        cloud: where.
        pipeline_name: only runs of this pipeline.
        limit: at most this many.
    """
    request = vertex.ListPipelineJobsRequest(
        parent=cloud.parent,
        filter=f'pipeline_name="{pipeline_name}"' if pipeline_name else "",
        order_by="create_time desc",
        page_size=min(limit, 100),
        read_mask=field_mask_pb2.FieldMask(paths=_LIST_FIELDS),
    )
    runs: list[Run] = []
    while True:
        # Page by page: the client's own pager has no part in how a call is tried again and explained.
        pager = call(_client(cloud).list_pipeline_jobs, request, doing=f"listing the runs of {cloud.parent}", role=ROLE)
        page = next(pager.pages)
        runs += [make_run(job) for job in page.pipeline_jobs]
        if len(runs) >= limit or not page.next_page_token:
            return runs[:limit]
        request.page_token = page.next_page_token


def cancel_run(cloud: Cloud, name: str) -> Run:
    """Asks the service to cancel a run; it stops within minutes, the Trainer's job with it, jobs on Dataflow do not.

    Raises:
        UserError: there is none, or it has ended already.
    """
    run = get_run(cloud, name)
    if run.state in FINAL_STATES:
        raise UserError(f"run {run.run_id} cannot be cancelled: it is {run.state} already")
    request = vertex.CancelPipelineJobRequest(name=run.name)
    call(_client(cloud).cancel_pipeline_job, request, doing=f"cancelling run {run.run_id}", role=ROLE)
    return get_run(cloud, run.name)


def follow_run(cloud: Cloud, run_name: str, report: Callable[[str, str], None]) -> str:
    """Waits until a run has ended, and reports each change of each task once.

    Args:
        cloud: where.
        run_name: id or full name.
        report: gets a task's name and its new state; a failed one's state is followed by `: ` and the reason.

    Returns:
        The run's final state.

    Raises:
        LeftRunning: Ctrl-C.
        CloudFault: the connection stayed away too long, or the credentials have expired; the run goes on.
    """
    run_id = run_name.rpartition("/")[2]
    seen: dict[str, str] = {}
    pause = FIRST_POLL_SECONDS
    try:
        while True:
            run = get_run(cloud, run_name)
            changed = False
            for task in run.tasks:
                if seen.get(task.name) != task.state:
                    seen[task.name] = task.state
                    changed = True
                    report(task.name, f"{task.state}: {task.error}" if task.error else task.state)
            if run.state in FINAL_STATES:
                return run.state
            pause = FIRST_POLL_SECONDS if changed else min(pause * 1.5, LONGEST_POLL_SECONDS)
            time.sleep(pause)
    except (CloudFault, UserError) as fault:
        raise CloudFault(f"{fault}; run {run_id} goes on in the cloud, `status {run_id}` tells how") from fault
    except KeyboardInterrupt:
        raise LeftRunning(
            f"no longer following run {run_id}, which goes on in the cloud; `cancel {run_id}` ends it"
        ) from None


def _client(cloud: Cloud) -> vertex.PipelineServiceClient:
    return cloud.client(vertex.PipelineServiceClient)
