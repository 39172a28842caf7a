"""Experiments of Vertex AI: a page that compares runs.

An experiment is a context in the project's metadata store, and a run is listed there once its own context is a child
of it.
"""

import time

from google.api_core.exceptions import AlreadyExists, NotFound
from google.cloud import aiplatform_v1 as vertex

from components.google_cloud.calls import ROLE, call
from data.errors import UserError
from pipeline.vertex.cloud import Cloud

SCHEMA = "system.Experiment"
RUN_CONTEXT_SECONDS = 120.0
"""The service makes a run's context some seconds after the run."""


def ensure_experiment(cloud: Cloud, experiment: str) -> str:
    """Returns the resource name of an experiment, which is created if there is none.

    Raises:
        UserError: another thing has that name, or it may not be created.
    """
    client = cloud.client(vertex.MetadataServiceClient)
    store = f"{cloud.parent}/metadataStores/default"
    name = f"{store}/contexts/{experiment}"
    doing = f"looking up experiment {experiment}"
    get = vertex.GetContextRequest(name=name)
    try:
        context = call(client.get_context, get, doing=doing, role=ROLE, expected=(NotFound,))
    except NotFound:
        request = vertex.CreateContextRequest(
            parent=store,
            context_id=experiment,
            context=vertex.Context(
                display_name=experiment,
                schema_title=SCHEMA,
                schema_version="0.0.1",
                metadata={"experiment_deleted": False},
            ),
        )
        try:
            doing = f"creating experiment {experiment}"
            context = call(client.create_context, request, doing=doing, role=ROLE, expected=(AlreadyExists,))
        except AlreadyExists:  # somebody else's, or our own whose answer was lost
            context = call(client.get_context, get, doing=doing, role=ROLE)
    if context.schema_title != SCHEMA:
        raise UserError(
            f"experiment {experiment!r} is the name of a {context.schema_title} already; choose another name"
        )
    return str(context.name)


def add_run_to_experiment(cloud: Cloud, run_name: str, experiment_name: str) -> bool:
    """Lists a run in an experiment.

    Args:
        cloud: where.
        run_name: the run's full name.
        experiment_name: what `ensure_experiment` returned.

    Returns:
        False where the run had no context in time.
    """
    pipelines = cloud.client(vertex.PipelineServiceClient)
    waited, pause = 0.0, 2.0
    while True:
        doing = f"adding run {run_name} to experiment {experiment_name}"
        job = call(pipelines.get_pipeline_job, vertex.GetPipelineJobRequest(name=run_name), doing=doing, role=ROLE)
        context = job.job_detail.pipeline_run_context.name
        if context:
            request = vertex.AddContextChildrenRequest(context=experiment_name, child_contexts=[context])
            call(cloud.client(vertex.MetadataServiceClient).add_context_children, request, doing=doing, role=ROLE)
            return True
        if waited >= RUN_CONTEXT_SECONDS:
            return False
        time.sleep(pause)
        waited += pause
