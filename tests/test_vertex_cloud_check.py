"""What Google is asked before a run, against a stand-in that answers as its REST interfaces do."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import pytest

from pipeline.vertex.cloud_check import (
    PERMISSIONS,
    check_apis,
    check_bucket,
    check_cloud,
    check_quota,
    needed_apis,
    quota_metric,
)
from pipeline.vertex.endpoint_check import check_endpoint
from tests.vertex_settings import make_settings

BUCKET = "https://storage.googleapis.com/storage/v1/b/my-bucket"
PROJECT = "https://serviceusage.googleapis.com/v1/projects/my-project/services/"
QUOTA = "https://serviceusage.googleapis.com/v1beta1/projects/my-project/services/aiplatform.googleapis.com/consumerQuotaMetrics/"


class Answer:
    def __init__(self, status_code: int, body: Any) -> None:
        self.status_code = status_code
        self._body = body

    def json(self) -> Any:
        return self._body


class StandIn:
    """Answers by address; whatever it has no answer for is refused as Google refuses it.

    An answer that is a list is its pages; each is told by the token of the one before.
    """

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self._answers = answers

    def get(self, url: str, **arguments: Any) -> Answer:
        assert arguments["timeout"] > 0
        body = self._answers.get(unquote(url))
        if isinstance(body, list):
            number = int(arguments["params"].get("pageToken", 0))
            more = {"nextPageToken": str(number + 1)} if number + 1 < len(body) else {}
            body = body[number] and {**body[number], **more}
        if body is None:
            return Answer(403, {"error": {"message": "Permission denied."}})
        return Answer(404, {}) if body == "missing" else Answer(200, body)


def shown(findings: Any) -> list[str]:
    return [str(finding) for finding in findings]


def test_without_credentials_all_is_skipped_and_said() -> None:
    found = shown(check_cloud(make_settings(), None))
    assert [line.split()[:2] for line in found] == [["skipped", "bucket:"], ["skipped", "APIs:"], ["skipped", "quota:"]]
    assert "gcloud auth application-default login" in found[0]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (
            {BUCKET: {"location": "US-CENTRAL1"}, f"{BUCKET}/iam/testPermissions": {"permissions": list(PERMISSIONS)}},
            ["ok       bucket: gs://my-bucket can be read and written"],
        ),
        (
            {BUCKET: "missing"},
            [
                "error    bucket: gs://my-bucket does not exist; gcloud storage buckets create gs://my-bucket "
                "--location=us-central1"
            ],
        ),
        (
            {BUCKET: {"location": "EU"}, f"{BUCKET}/iam/testPermissions": {"permissions": list(PERMISSIONS)}},
            [
                "warning  bucket: gs://my-bucket is in eu, not in us-central1: traffic costs money",
                "ok       bucket: gs://my-bucket can be read and written",
            ],
        ),
        (
            {BUCKET: {"location": "US"}, f"{BUCKET}/iam/testPermissions": {"permissions": list(PERMISSIONS[1:])}},
            [
                "error    bucket: you may not do storage.objects.create in gs://my-bucket; grant "
                "roles/storage.objectUser"
            ],
        ),
    ],
)
def test_the_bucket(answers: dict[str, Any], expected: list[str]) -> None:
    assert shown(check_bucket(make_settings(), StandIn(answers))) == expected


@pytest.mark.parametrize(
    ("region", "location", "warned"),
    [("europe-west4", "EU", False), ("europe-west4", "US", True), ("asia-east1", "ASIA", False)],
)
def test_a_multi_region_holds_its_regions(region: str, location: str, warned: bool) -> None:
    found = shown(check_bucket(make_settings(region=region), StandIn({BUCKET: {"location": location}})))
    assert any(line.startswith("warning  bucket: gs://my-bucket is in") for line in found) == warned


def test_the_apis_are_those_that_the_run_needs() -> None:
    settings = make_settings(
        beam={"runner": "dataflow"}, encryption_key="projects/p/locations/l/keyRings/r/cryptoKeys/k"
    )
    assert set(needed_apis(settings)) - set(needed_apis(make_settings())) == {
        "dataflow.googleapis.com",
        "cloudkms.googleapis.com",
    }


def test_an_api_that_is_off_is_an_error_with_the_command_that_switches_it_on() -> None:
    settings = make_settings()
    answers = {PROJECT + api: {"state": "ENABLED"} for api in needed_apis(settings)}
    assert shown(check_apis(settings, StandIn(answers))) == ["ok       APIs: all are on"]
    answers[f"{PROJECT}aiplatform.googleapis.com"] = {"state": "DISABLED"}
    assert shown(check_apis(settings, StandIn(answers))) == [
        "error    APIs: aiplatform.googleapis.com is switched off; gcloud services enable aiplatform.googleapis.com "
        "--project=my-project"
    ]
    assert "cannot be told: Permission denied." in shown(check_apis(settings, StandIn({})))[0]


@pytest.mark.parametrize(
    ("trainer", "metric"),
    [
        ({"tpu": "v2-8"}, ("custom_model_training_tpu_v2", 8)),
        ({"tpu": "v5e-4"}, ("custom_model_training_tpu_v5e", 4)),
        ({"gpu": "NVIDIA_H100_80GB:8"}, ("custom_model_training_nvidia_h100_gpus", 8)),
        ({"gpu": "NVIDIA_A100_80GB:1"}, ("custom_model_training_nvidia_a100_80gb_gpus", 1)),
        ({"gpu": "NVIDIA_TESLA_T4:2"}, ("custom_model_training_nvidia_t4_gpus", 2)),
        ({"gpu": "NVIDIA_L4:2", "replicas": 4}, ("custom_model_training_nvidia_l4_gpus", 8)),
        ({"gpu": "NVIDIA_L4:1", "spot": True}, ("custom_model_training_preemptible_nvidia_l4_gpus", 1)),
    ],
)
def test_the_quota_of_each_accelerator(trainer: dict[str, Any], metric: tuple[str, int]) -> None:
    assert quota_metric(make_settings(trainer=trainer)) == (f"aiplatform.googleapis.com/{metric[0]}", metric[1])


@pytest.mark.parametrize(
    ("buckets", "line"),
    [
        (
            [{"effectiveLimit": "1"}, {"effectiveLimit": "16", "dimensions": {"region": "us-central1"}}],
            "ok       quota: ",
        ),
        (
            [{"effectiveLimit": "16"}, {"effectiveLimit": "0", "dimensions": {"region": "us-central1"}}],
            "error    quota: ",
        ),
        ([{"effectiveLimit": "-1"}], "ok       quota: "),
        ([{"effectiveLimit": "3"}], "error    quota: "),
        ([], "warning  quota: "),
    ],
)
def test_the_quota_is_that_of_the_trainer_s_region(buckets: list[dict[str, Any]], line: str) -> None:
    settings = make_settings(trainer={"tpu": "v5e-4"})
    metric = "aiplatform.googleapis.com/custom_model_training_tpu_v5e"
    answers = {QUOTA + metric: {"consumerQuotaLimits": [{"quotaBuckets": buckets}]}}
    (found,) = shown(check_quota(settings, StandIn(answers)))
    assert found.startswith(f"{line}{metric}")
    if line.startswith("error"):
        assert "but the Trainer needs 4; ask for more in the console" in found


def test_no_accelerator_needs_no_quota_and_a_broken_line_stops_no_other_check() -> None:
    class Broken:
        def get(self, url: str, **_: Any) -> Answer:
            raise OSError("connection reset")

    found = shown(check_cloud(make_settings(), Broken()))
    assert found == [
        "warning  bucket: could not be asked: connection reset",
        "warning  apis: could not be asked: connection reset",
        "ok       quota: the Trainer needs no accelerator",
    ]


ENDPOINTS = "https://us-central1-aiplatform.googleapis.com/v1/projects/my-project/locations/us-central1/endpoints"


@pytest.mark.parametrize(
    ("endpoints", "told"),
    [
        ({}, "ok       endpoint: shop is not there yet: the first push makes it, dedicated"),
        (
            {"endpoints": [{"dedicatedEndpointEnabled": True, "deployedModels": [{}]}]},
            "ok       endpoint: shop is there, dedicated, with 1 models deployed",
        ),
        (
            {"endpoints": [{}]},
            "warning  endpoint: shop is there, shared, and stays so: endpoint.kind is dedicated, for a new one, with 0"
            " models deployed",
        ),
        ({"endpoints": [{}, {}]}, "error    endpoint: 2 are called shop; rename or delete all but one"),
        (
            [{"endpoints": []}, {"endpoints": [{"dedicatedEndpointEnabled": True}]}],
            "ok       endpoint: shop is there, dedicated, with 0 models deployed",
        ),
        (
            [{"endpoints": [{}]}, {"endpoints": [{}]}],
            "error    endpoint: 2 are called shop; rename or delete all but one",
        ),
        ([{"endpoints": [{}]}, None], "warning  endpoint: shop cannot be looked at: Permission denied."),
        (None, "warning  endpoint: shop cannot be looked at: Permission denied."),
    ],
)
def test_the_endpoint_that_is_there_already_is_told(endpoints: Any, told: str) -> None:
    settings = make_settings(endpoint={"name": "shop"})
    assert shown(check_endpoint(settings, StandIn({ENDPOINTS: endpoints}))) == [told]
    assert shown(check_endpoint(make_settings(), StandIn({}))) == []
