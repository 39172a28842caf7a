"""The Trainer as a CustomJob of Vertex AI, of which a node has one, however often it asks and is started.

TFX's own executor starts a second job where the first one's creation got no answer, or where Vertex AI starts the
waiting task anew while the job goes on; it leaves the job running when the run is cancelled; and the job's container
takes any sources.
"""

import hashlib
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from google.cloud import aiplatform_v1 as vertex
from tfx.components.trainer.executor import GenericExecutor
from tfx.dsl.components.base import base_executor
from tfx.extensions.google_cloud_ai_platform.constants import VERTEX_REGION_KEY
from tfx.extensions.google_cloud_ai_platform.trainer.executor import TRAINING_ARGS_KEY
from tfx.extensions.google_cloud_ai_platform.training_clients import VertexJobClient
from tfx.types import Artifact, artifact_utils, standard_component_specs
from tfx.utils import json_utils, name_utils

from components.cloud_calls import GIVE_UP_SECONDS, STEP_ROLE, CloudFault, call, ensure, make_client
from components.progress import report_progress

RUN_LABEL = "trainer-run"
"""Label of a job: which execution of the node it is of."""

POLL_SECONDS = 30.0

_FAILED = (vertex.JobState.JOB_STATE_FAILED, vertex.JobState.JOB_STATE_CANCELLED, vertex.JobState.JOB_STATE_EXPIRED)
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
        job_args, region = config[TRAINING_ARGS_KEY], config[VERTEX_REGION_KEY]
        parent = f"projects/{job_args.pop('project')}/locations/{region}"
        prefixes = [pool["container_spec"].pop("command", []) for pool in job_args["job_spec"]["worker_pool_specs"]]
        job = VertexJobClient(region).create_training_job(
            input_dict, output_dict, exec_properties, name_utils.get_full_name(GenericExecutor), job_args, None, None
        )
        for pool, prefix in zip(job["job_spec"]["worker_pool_specs"], prefixes, strict=True):
            if prefix:
                flags = pool["container_spec"]["command"][_ENTRY_POINT_WORDS:]
                pool["container_spec"]["command"] = [*prefix, *flags]
        model_uri = artifact_utils.get_single_uri(output_dict[standard_component_specs.MODEL_KEY])
        job["labels"][RUN_LABEL] = hashlib.sha256(model_uri.encode()).hexdigest()[:32]
        client = make_client(vertex.JobServiceClient, f"{region}-aiplatform.googleapis.com")
        name = _ensure_job(client, parent, vertex.CustomJob(job))
        report_progress(f"training as {name}", lasting=True)
        with _cancelled_with_the_task(client, name):
            _wait(client, name)


def _ensure_job(client: vertex.JobServiceClient, parent: str, job: vertex.CustomJob) -> str:
    """Returns the name of the execution's job, created unless there is one that has not failed."""
    doing = f"starting training job {job.display_name}"
    listing = vertex.ListCustomJobsRequest(parent=parent, filter=f'labels.{RUN_LABEL}="{job.labels[RUN_LABEL]}"')
    creation = vertex.CreateCustomJobRequest(parent=parent, custom_job=job)

    def find() -> vertex.CustomJob | None:
        page = next(call(client.list_custom_jobs, listing, doing=doing, role=STEP_ROLE).pages)
        return next((found for found in page.custom_jobs if found.state not in _FAILED), None)

    def create() -> vertex.CustomJob:
        return call(client.create_custom_job, creation, doing=doing, role=STEP_ROLE, again=False)

    return str(ensure(find, create, doing, GIVE_UP_SECONDS, STEP_ROLE).name)


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


@contextmanager
def _cancelled_with_the_task(client: vertex.JobServiceClient, name: str) -> Iterator[None]:
    """Cancels the job where the task is ended, as Vertex AI does when its run is cancelled: a TPU is paid for."""

    def cancel(number: int, _: Any) -> NoReturn:
        request = vertex.CancelCustomJobRequest(name=name)
        call(client.cancel_custom_job, request, doing=f"cancelling training job {name}", role=STEP_ROLE)
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
