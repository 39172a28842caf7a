"""A submission reaches Vertex AI whole, once, or with a clear word; over the wire, with the service's real messages."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.cloud import aiplatform_v1 as vertex
from google.protobuf import json_format

from components.google_cloud import calls
from components.google_cloud.calls import CloudFault
from data.errors import UserError
from pipeline.vertex.cloud import Cloud
from pipeline.vertex.runs import submit_run
from tests.vertex_service import VertexService
from tests.vertex_stand_in import HOST, PARENT, REGION, Network, standing_in
from tests.vertex_submissions import CLOUD, EVERYTHING, RUN_NAME, SPEC, SUBMISSION, TFX_LABELS


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def service(network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[VertexService]:
    service = VertexService()
    with standing_in(network, service, monkeypatch, tmp_path):
        yield service


def test_the_request_holds_everything_field_by_field(network: Network, service: VertexService) -> None:
    run = submit_run(CLOUD, EVERYTHING)
    (request,) = network.requests("CreatePipelineJob")
    assert network.methods() == ["CreatePipelineJob"]
    assert set(network.hosts) == {f"{HOST}:443"}
    assert network.tokens[0].startswith("Bearer ey")
    assert request.parent == PARENT
    assert request.pipeline_job_id == "digits-1"
    sent = json_format.MessageToDict(vertex.PipelineJob.pb(request.pipeline_job))
    digest = sent["labels"].pop("submission-hash")
    assert len(digest) == 32
    expected_spec = json_format.MessageToDict(
        json_format.ParseDict(SPEC["pipelineSpec"], vertex.PipelineJob.pb(vertex.PipelineJob()).pipeline_spec)
    )
    assert sent == {
        "displayName": "digits",
        "pipelineSpec": expected_spec,
        "labels": TFX_LABELS,
        "runtimeConfig": {
            "gcsOutputDirectory": "gs://bucket/root",
            "parameters": SPEC["runtimeConfig"]["parameters"],
            "failurePolicy": "PIPELINE_FAILURE_POLICY_FAIL_FAST",
        },
        "serviceAccount": EVERYTHING.settings.service_account,
        "network": EVERYTHING.settings.network,
        "encryptionSpec": {"kmsKeyName": EVERYTHING.settings.encryption_key},
    }
    assert "submission-hash" not in SPEC["labels"]
    assert run.name == RUN_NAME
    assert run.state == "PENDING"
    assert run.console_url == (
        "https://console.cloud.google.com/vertex-ai/locations/us-central1/pipelines/runs/digits-1?project=a-project"
    )


def test_what_is_not_asked_for_is_not_sent_and_the_spec_stays_as_it_was(
    network: Network, service: VertexService
) -> None:
    submit_run(CLOUD, SUBMISSION)
    job = network.requests("CreatePipelineJob")[0].pipeline_job
    assert not job.service_account
    assert not job.network
    assert not job.encryption_spec.kms_key_name
    assert job.runtime_config.failure_policy.name == "PIPELINE_FAILURE_POLICY_FAIL_SLOW"
    assert json_format.MessageToDict(vertex.PipelineJob.pb(job))["pipelineSpec"] == SPEC["pipelineSpec"]


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED"])
def test_a_passing_fault_is_tried_again_with_growing_pauses(
    code: str, network: Network, service: VertexService
) -> None:
    network.fail("CreatePipelineJob", code, times=3)
    assert submit_run(CLOUD, SUBMISSION).name == RUN_NAME
    assert len(network.requests("CreatePipelineJob")) == 4
    assert len(network.naps) == 3
    assert all(0 < nap <= limit for nap, limit in zip(network.naps, (1, 2, 4), strict=True))


def test_a_creation_whose_answer_was_lost_is_found_again_and_not_repeated(
    network: Network, service: VertexService
) -> None:
    network.fail("CreatePipelineJob", "UNAVAILABLE", times=2, after=True)
    assert submit_run(CLOUD, SUBMISSION).name == RUN_NAME
    assert network.methods() == ["CreatePipelineJob", "CreatePipelineJob", "GetPipelineJob"]
    assert list(service.jobs) == [RUN_NAME]
    # Nor does the same command, given again.
    assert submit_run(CLOUD, SUBMISSION).name == RUN_NAME
    assert list(service.jobs) == [RUN_NAME]


def test_another_runs_id_is_refused(network: Network, service: VertexService) -> None:
    submit_run(CLOUD, SUBMISSION)
    with pytest.raises(UserError, match="run id digits-1 is taken by another run"):
        submit_run(CLOUD, EVERYTHING)


def test_a_service_that_stays_away_leaves_a_way_to_look(
    network: Network, service: VertexService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "GIVE_UP_SECONDS", 0.2)
    network.fail("CreatePipelineJob", "UNAVAILABLE", "connection reset", times=10**6)
    with pytest.raises(CloudFault, match="connection reset; whether the run was created is not known") as caught:
        submit_run(CLOUD, SUBMISSION)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        (
            "PERMISSION_DENIED",
            "Permission 'aiplatform.pipelineJobs.create' denied",
            "grant roles/aiplatform.user to whoever runs",
        ),
        (
            "PERMISSION_DENIED",
            "You do not have permission to act as service account: x (iam.serviceAccounts.actAs)",
            "grant roles/iam.serviceAccountUser",
        ),
        (
            "PERMISSION_DENIED",
            "Vertex AI API aiplatform.googleapis.com has not been used in project 12",
            "gcloud services enable aiplatform.googleapis.com",
        ),
        ("NOT_FOUND", "Project a-project\nis not found.", "not found: Project a-project is not found; check"),
        ("INVALID_ARGUMENT", "root is missing", "refused: root is missing"),
        ("UNAUTHENTICATED", "bad token", "gcloud auth application-default login"),
    ],
)
def test_a_refusal_is_one_line_with_a_remedy_and_is_not_tried_again(
    code: str, message: str, said: str, network: Network, service: VertexService
) -> None:
    network.fail("CreatePipelineJob", code, message, times=9)
    with pytest.raises(UserError, match="submitting run digits-1") as caught:
        submit_run(CLOUD, SUBMISSION)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert network.methods() == ["CreatePipelineJob"]
    assert not network.naps


def test_a_quota_is_tried_four_times_and_then_explained(network: Network, service: VertexService) -> None:
    network.fail("CreatePipelineJob", "RESOURCE_EXHAUSTED", "Quota 'CustomModelTrainingTPUV5e' exceeded", times=99)
    with pytest.raises(UserError, match=r"quota exceeded.*TPUV5e.*iam-admin/quotas"):
        submit_run(CLOUD, SUBMISSION)
    assert len(network.requests("CreatePipelineJob")) == 4


def test_no_credentials_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(UserError, match="no credentials for Google Cloud"):
        submit_run(Cloud("elsewhere", REGION), SUBMISSION)


def test_a_spec_that_is_none_is_refused_before_anything_is_sent(network: Network, service: VertexService) -> None:
    spec = {**SPEC, "runtimeConfig": {"parametres": {}}}
    with pytest.raises(UserError, match=r"does not fit .*parametres"):
        submit_run(CLOUD, dataclasses.replace(SUBMISSION, spec=spec))
    assert not network.calls
