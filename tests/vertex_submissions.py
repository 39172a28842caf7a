"""A run to submit to the stand-in of Vertex AI."""

from dataclasses import replace
from typing import Any

from pipeline.vertex.cloud import Cloud, Submission
from pipeline.vertex.settings import ScheduleSettings
from tests.vertex_settings import make_settings
from tests.vertex_stand_in import PARENT, PROJECT, REGION

CLOUD = Cloud(PROJECT, REGION)
RUN_NAME = f"{PARENT}/pipelineJobs/digits-1"
TFX_LABELS = {"tfx_version": "1-16-0", "tfx_runner": "kubeflow_v2"}
SPEC: dict[str, Any] = {
    "displayName": "digits",
    "labels": TFX_LABELS,
    "pipelineSpec": {
        "pipelineInfo": {"name": "digits"},
        "schemaVersion": "2.0.0",
        "sdkVersion": "tfx-1.16.0",
        "root": {
            "dag": {
                "tasks": {
                    "Trainer": {
                        "taskInfo": {"name": "Trainer"},
                        "componentRef": {"name": "Trainer"},
                        "cachingOptions": {"enableCache": True},
                    }
                }
            }
        },
        "components": {
            "Trainer": {"executorLabel": "Trainer_executor"},
            "Inner": {"dag": {"tasks": {"Resolver": {"cachingOptions": {"enableCache": True}}}}},
        },
        "deploymentSpec": {"executors": {"Trainer_executor": {"container": {"image": "image", "args": ["--x", "1"]}}}},
    },
    "runtimeConfig": {
        "gcsOutputDirectory": "gs://bucket/root",
        "parameters": {"epochs": {"intValue": "3"}, "name": {"stringValue": "x"}},
    },
}
SETTINGS = make_settings(project=PROJECT, pipeline_root="gs://bucket/root")
SUBMISSION = Submission(SPEC, "digits-1", SETTINGS)
IN_EXPERIMENT = Submission(SPEC, "digits-1", SETTINGS.model_copy(update={"experiment": "first-try"}))
EVERYTHING = Submission(
    SPEC,
    "digits-1",
    make_settings(
        project=PROJECT,
        pipeline_root="gs://bucket/root",
        service_account="runner@a-project.iam.gserviceaccount.com",
        network="projects/12/global/networks/net",
        encryption_key="projects/a-project/locations/us-central1/keyRings/r/cryptoKeys/k",
        fail_fast=True,
    ),
)


def scheduled(submission: Submission, **schedule: Any) -> Submission:
    """Returns a submission that is to run by itself."""
    plan = ScheduleSettings(**{"cron": "0 3 * * 1", **schedule})
    return replace(submission, settings=submission.settings.model_copy(update={"schedule": plan}))
