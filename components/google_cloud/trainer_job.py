"""The Trainer as a CustomJob of Vertex AI, of which a node has one, however often it asks and is started.

TFX's own executor starts a second job where the first one's creation got no answer, or where Vertex AI starts the
waiting task anew while the job goes on; it leaves the job running when the run is cancelled; and the job's container
takes any sources.
"""

import hashlib
import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from google.cloud import aiplatform_v1 as vertex
from tfx.components.trainer.executor import GenericExecutor
from tfx.dsl.components.base import base_executor
from tfx.extensions.google_cloud_ai_platform.constants import VERTEX_REGION_KEY
from tfx.extensions.google_cloud_ai_platform.trainer.executor import TRAINING_ARGS_KEY
from tfx.extensions.google_cloud_ai_platform.training_clients import VertexJobClient
from tfx.types import Artifact, artifact_utils, standard_component_specs
from tfx.utils import json_utils, name_utils

from components.google_cloud.calls import GIVE_UP_SECONDS, STEP_ROLE, CloudFault, call, ensure, list_pages, make_client
from components.progress import report_progress

RUN_LABEL = "trainer-run"
"""Label of a job: which execution of the node it is of."""

POLL_SECONDS = 30.0

_FAILED = (vertex.JobState.JOB_STATE_FAILED, vertex.JobState.JOB_STATE_CANCELLED, vertex.JobState.JOB_STATE_EXPIRED)
# A job that is being cancelled: the task before was ended, and a task that is started anew must not wait for it.
_LOST = (*_FAILED, vertex.JobState.JOB_STATE_CANCELLING)
_ENTRY_POINT_WORDS = 3  # `python -m tfx.scripts.run_executor`, before its flags


class Executor(base_executor.BaseExecutor):
    """Starts the job, or finds it, and waits for its end."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Trains.

        Args:
            input_dict: of TFX's Trainer; the job gets the same.
            output_dict: of TFX's Trainer; the model's place tells one execution from another.
            exec_properties: of TFX's Trainer. `custom_config` holds the CustomJob, with the `project` beside its
                fields, and its region; a `command` in its container begins the command line, and TFX's flags follow.

        Raises:
            UserError: permission, quota, or a setting that the service refuses.
            CloudFault: the job failed, or the service did or cannot be reached.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        config = json_utils.loads(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
        region = config[VERTEX_REGION_KEY]
        parent = f"projects/{config[TRAINING_ARGS_KEY]['project']}/locations/{region}"
        client = make_client(vertex.JobServiceClient, region)
        training = _Training(client, parent, make_job(input_dict, output_dict, exec_properties))
        with training.cancelled_with_the_task():
            name = training.ensure()
            report_progress(f"training as {name}", lasting=True)
            _wait(client, name)


def make_job(
    input_dict: dict[str, list[Artifact]], output_dict: dict[str, list[Artifact]], exec_properties: dict[str, Any]
) -> vertex.CustomJob:
    """Returns the job as it is sent; arguments as in `Executor.Do`. All machines of all pools run one command."""
    job_args = json_utils.loads(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])[TRAINING_ARGS_KEY]
    del job_args["project"]
    prefixes = [pool["container_spec"].pop("command", []) for pool in job_args["job_spec"]["worker_pool_specs"]]
    # Not by its constructor, which makes a client of its own, with no use for it here.
    job = VertexJobClient.__new__(VertexJobClient).create_training_job(
        input_dict, output_dict, exec_properties, name_utils.get_full_name(GenericExecutor), job_args, None, None
    )
    for pool, prefix in zip(job["job_spec"]["worker_pool_specs"], prefixes, strict=True):
        if prefix:
            flags = pool["container_spec"]["command"][_ENTRY_POINT_WORDS:]
            pool["container_spec"]["command"] = [*prefix, *flags]
    model_uri = artifact_utils.get_single_uri(output_dict[standard_component_specs.MODEL_KEY])
    job["labels"][RUN_LABEL] = hashlib.sha256(model_uri.encode()).hexdigest()[:32]
    return vertex.CustomJob(job)


class _Training:
    """The job of one execution of the node: started once, and ended with the task that waits for it."""

    def __init__(self, client: vertex.JobServiceClient, parent: str, job: vertex.CustomJob) -> None:
        self._client = client
        self._doing = f"starting training job {job.display_name}"
        listing = f'labels.{RUN_LABEL}="{job.labels[RUN_LABEL]}"'
        self._listing = vertex.ListCustomJobsRequest(parent=parent, filter=listing)
        self._creation = vertex.CreateCustomJobRequest(parent=parent, custom_job=job)
        self._name = ""
        self._creating = False
        self._ended_by = 0

    def ensure(self) -> str:
        """Returns the name of the execution's job, created unless there is one that goes on or has succeeded."""
        self._name = ensure(self._find, self._create, self._doing, GIVE_UP_SECONDS, STEP_ROLE).name
        return self._name

    @contextmanager
    def cancelled_with_the_task(self) -> Iterator[None]:
        """Cancels the job where the task is ended, as Vertex AI does when its run is cancelled: a TPU is paid for."""

        def end(number: int, _: Any) -> None:
            self._ended_by = number
            # A creation that is under way is waited for, since nothing but its answer names what it creates.
            if not self._creating:
                self._end()

        before = signal.signal(signal.SIGTERM, end)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _find(self, *, again: bool = True) -> vertex.CustomJob | None:
        listing = self._client.list_custom_jobs
        pages = list_pages(listing, self._listing, doing=self._doing, role=STEP_ROLE, again=again)
        return next((job for page in pages for job in page.custom_jobs if job.state not in _LOST), None)

    def _create(self) -> vertex.CustomJob:
        self._creating = True
        try:
            job = call(self._client.create_custom_job, self._creation, doing=self._doing, role=STEP_ROLE, again=False)
            self._name = job.name
        finally:
            self._creating = False
            if self._ended_by:
                self._end()
        return job

    def _end(self) -> None:
        """Cancels what there is, and exits whatever comes of it: the task is killed if it takes its time."""
        try:
            # Without a name: the answer to a creation may be lost, or the task that was here before has left its job.
            if not self._name and (found := self._find(again=False)):
                self._name = found.name
            if self._name:
                request = vertex.CancelCustomJobRequest(name=self._name)
                doing = f"cancelling training job {self._name}"
                call(self._client.cancel_custom_job, request, doing=doing, role=STEP_ROLE, again=False)
        except Exception as error:
            job = self._name or f"with the label {self._listing.filter}"
            logging.error("a training job %s may go on and be paid for, cancel it by hand: %s", job, error)
        raise SystemExit(128 + self._ended_by)


def _wait(client: vertex.JobServiceClient, name: str) -> None:
    """Returns once the job has succeeded."""
    request = vertex.GetCustomJobRequest(name=name)
    while True:
        job = call(client.get_custom_job, request, doing=f"looking up training job {name}", role=STEP_ROLE)
        if job.state in _FAILED:
            reason = " ".join(job.error.message.split()) or "the service gives no reason"
            raise CloudFault(f"training job {name} did not succeed: {job.state.name}: {reason}")
        if job.state == vertex.JobState.JOB_STATE_SUCCEEDED:
            return
        time.sleep(POLL_SECONDS)
