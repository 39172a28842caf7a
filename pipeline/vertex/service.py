"""Vertex AI Pipelines as the commands use it; the one module of the service that they import.

It speaks to the service's generated clients rather than to `aiplatform.PipelineJob`, which looks the bucket up over the
Storage API first, replaces TFX's labels, cannot say whether a creation without an answer went through, and takes 7 s to
import in place of 2.
"""

import dataclasses

from google.api_core.exceptions import AlreadyExists
from google.cloud import aiplatform_v1 as vertex

from components.google_cloud.calls import ROLE, CloudFault, call
from data.errors import UserError
from pipeline.vertex.cloud import FINAL_STATES, Cloud, Run, Schedule, Submission, Task, make_run
from pipeline.vertex.experiments import add_run_to_experiment, ensure_experiment
from pipeline.vertex.job_request import HASH_LABEL, make_pipeline_job
from pipeline.vertex.runs import LeftRunning, cancel_run, follow_run, get_run, list_runs
from pipeline.vertex.schedules import create_schedule, delete_schedule, list_schedules

__all__ = [
    "FINAL_STATES",
    "Cloud",
    "CloudFault",
    "LeftRunning",
    "Run",
    "Schedule",
    "Submission",
    "Task",
    "cancel_run",
    "create_schedule",
    "delete_schedule",
    "follow_run",
    "get_run",
    "list_runs",
    "list_schedules",
    "submit_run",
]


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
    client = cloud.client(vertex.PipelineServiceClient)
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
