"""Runs on Vertex AI: submitted, looked up, listed, followed and cancelled.

They go to the service's generated clients rather than to `aiplatform.PipelineJob`, which looks the bucket up over the
Storage API first, replaces TFX's labels, cannot say whether a creation without an answer went through, and takes 7 s to
import in place of 2.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable

from google.api_core.exceptions import AlreadyExists
from google.cloud import aiplatform_v1 as vertex
from google.protobuf import field_mask_pb2, json_format

from components.google_cloud.calls import ROLE, CloudFault, call, list_pages
from data.errors import UserError
from pipeline.vertex.cloud import FINAL_STATES, Cloud, Run, Submission, make_run, resource_name
from pipeline.vertex.dataflow_jobs import cancel_jobs, find_places
from pipeline.vertex.experiments import add_run_to_experiment, ensure_experiment
from pipeline.vertex.job_request import HASH_LABEL, make_pipeline_job
from pipeline.vertex.rest import open_session

FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 5.0, 60.0
"""A run is asked for this often: at first, and once nothing has changed for a while."""

CANCEL_SECONDS = 600.0
"""How long the end of a cancelled run is waited for."""

_LIST_FIELDS = ("name", "display_name", "state", "create_time", "error")


class LeftRunning(KeyboardInterrupt):
    """Ctrl-C while a run is followed: it goes on in the cloud, and the message says so."""


def submit_run(cloud: Cloud, submission: Submission) -> Run:
    """Starts a run, exactly once.

    The run's id is part of the request, and the service takes each id once. A creation whose answer was lost is tried
    again; ALREADY_EXISTS then means that it went through, which the run's hash proves. So the same submission may be
    sent again at any later time, too: it returns the run that is there.

    Returns:
        The run; its `notes` say if it could not be listed in the experiment.

    Raises:
        UserError: a setting is wrong, the id is another run's, or the service refuses for a reason to put right.
        CloudFault: the service failed or could not be reached.
    """
    job = make_pipeline_job(submission)
    # First of all: a mistake here must not be found when the run is under way.
    experiment = submission.settings.experiment and ensure_experiment(cloud, submission.settings.experiment)
    client = _client(cloud)
    doing = f"submitting run {submission.run_id}"
    request = vertex.CreatePipelineJobRequest(parent=cloud.parent, pipeline_job=job, pipeline_job_id=submission.run_id)
    try:
        created = call(client.create_pipeline_job, request, doing=doing, role=ROLE, expected=(AlreadyExists,))
    except AlreadyExists as error:
        lookup = vertex.GetPipelineJobRequest(name=f"{cloud.parent}/pipelineJobs/{submission.run_id}")
        created = call(client.get_pipeline_job, lookup, doing=doing, role=ROLE)
        if created.labels.get(HASH_LABEL) != job.labels[HASH_LABEL]:
            raise UserError(
                f"run id {submission.run_id} is taken by another run, which is not touched; choose another id"
            ) from error
    except CloudFault as fault:
        raise CloudFault(
            f"{fault}; whether the run was created is not known: look with `status {submission.run_id}`, "
            "or submit again with the same run id, which cannot start a second run"
        ) from fault
    run = make_run(created)
    if experiment:
        run = dataclasses.replace(run, notes=_list_in_experiment(cloud, run, experiment))
    return run


def _list_in_experiment(cloud: Cloud, run: Run, experiment: str) -> tuple[str, ...]:
    """Returns what to tell the user: the run is under way, so that nothing here may look like a failed submission."""
    try:
        if add_run_to_experiment(cloud, run.name, experiment):
            return ()
        return (f"the run is under way but not yet listed in {experiment}: the service has made no context for it",)
    except (UserError, CloudFault) as error:
        return (f"the run is under way but not listed in its experiment: {error}",)


def get_run(cloud: Cloud, name: str) -> Run:
    """Returns one run with its tasks, by its id or full name.

    Raises:
        UserError: there is none, or it may not be seen.
        CloudFault: the service could not be reached.
    """
    full_name = resource_name(cloud, "pipelineJobs", name)
    request = vertex.GetPipelineJobRequest(name=full_name)
    return make_run(call(_client(cloud).get_pipeline_job, request, doing=f"looking up run {full_name}", role=ROLE))


def list_runs(cloud: Cloud, limit: int = 20) -> list[Run]:
    """Returns the newest runs, at most so many, without their tasks."""
    request = vertex.ListPipelineJobsRequest(
        parent=cloud.parent,
        order_by="create_time desc",
        page_size=limit,
        read_mask=field_mask_pb2.FieldMask(paths=_LIST_FIELDS),
    )
    doing = f"listing the runs of {cloud.parent}"
    pages = list_pages(_client(cloud).list_pipeline_jobs, request, doing=doing, role=ROLE)
    return [make_run(job) for job in itertools.islice((job for page in pages for job in page.pipeline_jobs), limit)]


def cancel_run(cloud: Cloud, name: str, report: Callable[[str], None] = print) -> Run:
    """Asks the service to cancel a run; it stops within minutes, the Trainer's job with it.

    Jobs on Dataflow go on without their tasks: they are ended here. Where the run has such, its end is waited for, as
    a task may have started one at the last moment; of a run that has ended, those that were left are ended.

    Args:
        cloud: where.
        name: id or full name.
        report: gets a line for each such job.

    Raises:
        UserError: there is none, or it has ended already; or permission.
        CloudFault: the service failed or could not be reached.
    """
    full_name = resource_name(cloud, "pipelineJobs", name)
    lookup = vertex.GetPipelineJobRequest(name=full_name)
    job = call(_client(cloud).get_pipeline_job, lookup, doing=f"looking up run {full_name}", role=ROLE)
    run, places = make_run(job), find_places(json_format.MessageToDict(vertex.PipelineJob.pb(job).pipeline_spec))
    if run.state not in FINAL_STATES:
        request = vertex.CancelPipelineJobRequest(name=run.name)
        call(_client(cloud).cancel_pipeline_job, request, doing=f"cancelling run {run.run_id}", role=ROLE)
        return _end_dataflow(cloud, run, places, report) if places else get_run(cloud, run.name)
    session = open_session() if places else None
    left = (
        [job for place in sorted(places) for job in cancel_jobs(session, place, run.run_id, report)] if session else []
    )
    if not left:
        raise UserError(f"run {run.run_id} cannot be cancelled: it is {run.state} already")
    return run


def _end_dataflow(cloud: Cloud, run: Run, places: set[tuple[str, str]], report: Callable[[str], None]) -> Run:
    """Ends jobs on Dataflow until their run has ended, and returns it."""
    session = open_session()
    waited = 0.0
    while True:
        now = get_run(cloud, run.name)
        for place in sorted(places):
            cancel_jobs(session, place, run.run_id, report)
        if now.state in FINAL_STATES:  # It had ended before this look: nothing can have come since.
            return now
        if waited >= CANCEL_SECONDS:
            note = f"run {run.run_id} is {now.state} still, and may start a job on Dataflow yet: cancel it again"
            return dataclasses.replace(now, notes=(note,))
        time.sleep(FIRST_POLL_SECONDS)
        waited += FIRST_POLL_SECONDS


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
