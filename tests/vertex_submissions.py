"""A run to submit to the stand-in of Vertex AI."""

from typing import Any

from pipeline.vertex.service import Cloud, Submission
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
        "gcsOutputDirectory": "gs://compiled/root",
        "parameters": {"epochs": {"intValue": "3"}, "name": {"stringValue": "x"}},
    },
}
SUBMISSION = Submission(spec=SPEC, run_id="digits-1", pipeline_root="gs://bucket/root")
EVERYTHING = Submission(
    spec=SPEC,
    run_id="digits-1",
    pipeline_root="gs://bucket/root",
    service_account="runner@a-project.iam.gserviceaccount.com",
    network="projects/12/global/networks/net",
    encryption_key="projects/a-project/locations/us-central1/keyRings/r/cryptoKeys/k",
    labels={"team": "vision"},
    enable_caching=False,
    fail_fast=True,
)
