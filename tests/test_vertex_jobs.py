"""The Trainer's job and our endpoint Pusher as nodes, over the wire, with the service's real messages."""

import copy
import json
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google.auth
import pytest
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import aiplatform_v1 as vertex
from google.protobuf import json_format
from tfx.types import Channel, standard_artifacts
from tfx.types.artifact import Artifact
from tfx.utils import json_utils

from components.google_cloud import trainer_job
from components.google_cloud.calls import CloudFault
from components.google_cloud.endpoint_target import EndpointTarget
from components.google_cloud.model_version import PUSH_LABEL
from components.pusher.endpoint import EndpointPusher
from components.pusher.endpoint_executor import EndpointExecutor
from data.errors import UserError
from pipeline.vertex.endpoint_versions import ROLLBACK_LABEL
from pipeline.vertex.forms import OWN_LABELS
from pipeline.vertex.job_request import HASH_LABEL
from tests.vertex_service import VertexService
from tests.vertex_serving import VertexServing
from tests.vertex_stand_in import HOST, PARENT, PROJECT, REGION, Network, standing_in

COMMAND = ["python", "-m", "pipeline.vertex.task", "--sources-hash", "0f", "--"]
IMAGE = "us-docker.pkg.dev/a-project/repo/pipeline:1-tpu"
JOB_SPEC: dict[str, Any] = {
    "worker_pool_specs": [
        {
            "machine_spec": {"machine_type": "ct5lp-hightpu-4t", "tpu_topology": "2x2"},
            "replica_count": 1,
            "container_spec": {
                "image_uri": IMAGE,
                "command": COMMAND,
                "env": [
                    {"name": "NEXT_PLUGGABLE_DEVICE_USE_C_API", "value": "true"},
                    {"name": "TF_PLUGGABLE_DEVICE_LIBRARY_PATH", "value": "/lib/libtpu.so"},
                ],
            },
        }
    ],
    "scheduling": {"timeout": "7200s", "restart_job_on_worker_restart": True, "strategy": "SPOT"},
    "service_account": "trainer@a-project.iam.gserviceaccount.com",
    "network": "projects/12/global/networks/net",
}
STEP = r"the account that this step runs as \(service_account\)"
ENDPOINT = {
    "project": PROJECT,
    "region": REGION,
    "name": "digits-endpoint",
    "model_id": "digits",
    "serving_image": "server:1",
}


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def service(network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[VertexService]:
    service = VertexService()
    with standing_in(network, service, monkeypatch, tmp_path):
        yield service


def artifact(kind: type[Artifact], uri: str) -> Artifact:
    made = kind()
    made.uri = uri
    return made


def train(job_spec: dict[str, Any] = JOB_SPEC, model: str = "gs://bucket/model") -> None:
    job = {
        "project": PROJECT,
        "display_name": "digits-trainer",
        "job_spec": job_spec,
        "labels": {"team": "vision"},
        "encryption_spec": {"kms_key_name": "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"},
    }
    custom_config = {
        "ai_platform_training_args": job,
        "ai_platform_vertex_region": REGION,
        "trainer": {"epochs": 3},
    }
    trainer_job.Executor().Do(
        {"examples": [artifact(standard_artifacts.Examples, "gs://bucket/examples")]},
        {"model": [artifact(standard_artifacts.Model, model)]},
        {
            "custom_config": json_utils.dumps(custom_config),
            "run_fn": "components.trainer.run_fn.run_fn",
            "train_args": "{}",
        },
    )


def test_the_trainers_job_arrives_field_by_field(network: Network, service: VertexService) -> None:
    train()
    (request,) = network.requests("CreateCustomJob")
    assert network.hosts == [f"{HOST}:443"]
    assert request.parent == PARENT
    job = json_format.MessageToDict(vertex.CustomJob.pb(request.custom_job))
    labels = job.pop("labels")
    assert labels.pop("team") == "vision"
    assert labels.pop("trainer-run")
    assert labels["tfx_executor"].endswith("trainer-executor-genericexecutor")
    (pool,) = job["jobSpec"].pop("workerPoolSpecs")
    assert job == {
        "displayName": "digits-trainer",
        "jobSpec": {
            "scheduling": {"timeout": "7200s", "restartJobOnWorkerRestart": True, "strategy": "SPOT"},
            "serviceAccount": JOB_SPEC["service_account"],
            "network": JOB_SPEC["network"],
        },
        "encryptionSpec": {"kmsKeyName": "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"},
    }
    command = pool["containerSpec"].pop("command")
    assert pool == {
        "machineSpec": {"machineType": "ct5lp-hightpu-4t", "tpuTopology": "2x2"},
        "replicaCount": "1",
        "containerSpec": {
            "imageUri": IMAGE,
            "env": [
                {"name": "NEXT_PLUGGABLE_DEVICE_USE_C_API", "value": "true"},
                {"name": "TF_PLUGGABLE_DEVICE_LIBRARY_PATH", "value": "/lib/libtpu.so"},
            ],
        },
    }
    assert command[: len(COMMAND)] == COMMAND
    flags = dict(zip(command[len(COMMAND) :: 2], command[len(COMMAND) + 1 :: 2], strict=True))
    assert flags["--executor_class_path"] == "tfx.components.trainer.executor.GenericExecutor"
    assert "gs://bucket/examples" in flags["--inputs"]
    assert "gs://bucket/model" in flags["--outputs"]
    sent = json.loads(flags["--exec-properties"])
    assert sent["run_fn"] == "components.trainer.run_fn.run_fn"
    assert json_utils.loads(sent["custom_config"])["trainer"] == {"epochs": 3}


def test_every_machine_of_the_job_runs_the_same_command(network: Network, service: VertexService) -> None:
    pools = [copy.deepcopy(JOB_SPEC["worker_pool_specs"][0]) for _ in range(2)]
    pools[1]["replica_count"] = 3
    train({"worker_pool_specs": pools})
    (request,) = network.requests("CreateCustomJob")
    chief, workers = request.custom_job.job_spec.worker_pool_specs
    assert (chief.replica_count, workers.replica_count) == (1, 3)
    assert chief.container_spec == workers.container_spec
    assert list(chief.container_spec.command[: len(COMMAND)]) == COMMAND
    assert "--exec-properties" in chief.container_spec.command


def test_the_node_waits_for_its_job_through_a_flapping_connection(network: Network, service: VertexService) -> None:
    service.job_states = ["JOB_STATE_QUEUED", "JOB_STATE_RUNNING", "JOB_STATE_RUNNING", "JOB_STATE_SUCCEEDED"]
    network.fail("GetCustomJob", "UNAVAILABLE", times=2)
    train()
    assert len(network.requests("CreateCustomJob")) == 1
    assert len(network.requests("GetCustomJob")) == 6


@pytest.mark.parametrize("state", ["JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"])
def test_a_job_that_fails_fails_the_node_and_a_retry_starts_another(
    state: str, network: Network, service: VertexService
) -> None:
    service.job_states = ["JOB_STATE_RUNNING", state]
    with pytest.raises(CloudFault, match=f"training job {PARENT}/customJobs/1 did not succeed: {state}"):
        train()
    service.job_states = ["JOB_STATE_SUCCEEDED"]
    train()
    assert len(network.requests("CreateCustomJob")) == 2


def test_a_job_whose_creation_got_no_answer_is_not_started_twice(network: Network, service: VertexService) -> None:
    network.fail("CreateCustomJob", "UNAVAILABLE", after=True)
    train()
    assert len(service.custom_jobs) == 1
    network.fail("CreateCustomJob", "UNAVAILABLE")
    train(model="gs://bucket/another/model")
    assert len(service.custom_jobs) == 2
    assert len(network.requests("CreateCustomJob")) == 3


def test_a_task_that_is_started_anew_goes_on_with_its_job(network: Network, service: VertexService) -> None:
    train()
    train()
    assert len(service.custom_jobs) == 1


@pytest.mark.parametrize(
    ("code", "said", "tries"),
    [
        ("PERMISSION_DENIED", f"permission denied: no actAs; grant roles/iam.serviceAccountUser on .* to {STEP}$", 1),
        ("RESOURCE_EXHAUSTED", "quota exceeded, also after 4 tries: no", 4),
    ],
)
def test_a_job_that_may_not_be_started_is_told_in_one_line(
    code: str, said: str, tries: int, network: Network, service: VertexService
) -> None:
    network.fail("CreateCustomJob", code, "no actAs", times=9)
    with pytest.raises(UserError, match=f"^starting training job digits-trainer: {said}"):
        train()
    assert not service.custom_jobs
    assert len(network.requests("CreateCustomJob")) == tries


def test_a_refusal_for_want_of_quota_passes(network: Network, service: VertexService) -> None:
    network.fail("CreateCustomJob", "RESOURCE_EXHAUSTED", times=3)
    train()
    assert len(network.requests("CreateCustomJob")) == 4
    network.fail("CreateCustomJob", "RESOURCE_EXHAUSTED", after=True)
    train(model="gs://bucket/another/model")
    assert len(service.custom_jobs) == 2


@pytest.mark.parametrize(
    "state", ["JOB_STATE_FAILED", "JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"]
)
def test_a_task_that_is_started_anew_passes_over_a_job_that_is_lost(
    state: str, network: Network, service: VertexService
) -> None:
    train()
    service.custom_jobs[f"{PARENT}/customJobs/1"].state = vertex.JobState[state]
    train()
    assert network.requests("GetCustomJob")[-1].name == f"{PARENT}/customJobs/2"


def end_this_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def ended_outside() -> Iterator[None]:
    """Has a signal that the node does not handle fail the test in place of ending all of them."""

    def fail(*_: Any) -> None:
        raise AssertionError("the signal came when the node did not handle it")

    before = signal.signal(signal.SIGTERM, fail)
    yield
    assert signal.getsignal(signal.SIGTERM) is fail
    signal.signal(signal.SIGTERM, before)


def train_until_ended() -> None:
    with pytest.raises(SystemExit) as ended:
        train()
    assert ended.value.code == 143


@pytest.mark.usefixtures("ended_outside")
def test_a_task_that_is_ended_cancels_its_job_and_the_next_one_starts_another(
    network: Network, service: VertexService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.job_states = ["JOB_STATE_RUNNING"]
    monkeypatch.setattr(trainer_job.time, "sleep", lambda _: end_this_process())
    train_until_ended()
    (request,) = network.requests("CancelCustomJob")
    assert request.name == f"{PARENT}/customJobs/1"
    service.job_states = ["JOB_STATE_SUCCEEDED"]
    train()
    assert len(service.custom_jobs) == 2


@pytest.mark.usefixtures("ended_outside")
def test_a_task_that_is_ended_while_it_creates_its_job_cancels_it(
    network: Network, service: VertexService, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = service.CreateCustomJob

    def create_and_end(request: vertex.CreateCustomJobRequest) -> vertex.CustomJob:
        end_this_process()
        return create(request)

    monkeypatch.setattr(service, "CreateCustomJob", create_and_end, raising=False)
    train_until_ended()
    (job,) = service.custom_jobs.values()
    assert job.state.name == "JOB_STATE_CANCELLING"
    assert "GetCustomJob" not in network.methods()


@pytest.mark.usefixtures("ended_outside")
def test_a_task_that_is_ended_after_an_answer_was_lost_cancels_its_job(
    network: Network, service: VertexService, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.fail("CreateCustomJob", "UNAVAILABLE", after=True)
    monkeypatch.setattr(trainer_job.time, "sleep", lambda _: end_this_process())
    train_until_ended()
    (job,) = service.custom_jobs.values()
    assert job.state.name == "JOB_STATE_CANCELLING"


@pytest.mark.usefixtures("ended_outside")
def test_a_task_that_is_ended_before_it_creates_its_job_creates_none(
    network: Network, service: VertexService, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.fail("CreateCustomJob", "UNAVAILABLE")
    monkeypatch.setattr(trainer_job.time, "sleep", lambda _: end_this_process())
    train_until_ended()
    assert not service.custom_jobs
    assert "CancelCustomJob" not in network.methods()


@pytest.mark.usefixtures("ended_outside")
@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "FAILED_PRECONDITION"])
def test_a_task_that_is_ended_ends_whatever_the_cancellation_says(
    code: str,
    network: Network,
    service: VertexService,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service.job_states = ["JOB_STATE_RUNNING"]
    network.fail("CancelCustomJob", code, "not now")
    with monkeypatch.context() as patch:
        patch.setattr(trainer_job.time, "sleep", lambda _: end_this_process())
        train_until_ended()
    assert len(network.requests("CancelCustomJob")) == 1
    (said,) = [record.getMessage() for record in caplog.records if "not now" in record.getMessage()]
    assert said.startswith(f"a training job {PARENT}/customJobs/1 may go on and be paid for")


def test_missing_credentials_are_told_in_one_line(
    network: Network, service: VertexService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_none(*_: Any, **__: Any) -> None:
        raise DefaultCredentialsError("none")

    monkeypatch.setattr(google.auth, "default", find_none)
    with pytest.raises(UserError, match=r"^no credentials for Google Cloud were found on this machine; run `gcloud"):
        train()


def test_every_label_of_our_own_is_refused_of_a_user() -> None:
    assert {trainer_job.RUN_LABEL, HASH_LABEL, PUSH_LABEL, ROLLBACK_LABEL} == OWN_LABELS


def push(folder: Path, blessed: int, **changes: Any) -> Artifact:
    (folder / "model" / "Format-Serving" / "variables").mkdir(parents=True, exist_ok=True)
    (folder / "model" / "Format-Serving" / "saved_model.pb").write_text("graph")
    node = EndpointPusher(
        model=Channel(type=standard_artifacts.Model),
        endpoint=EndpointTarget.model_validate({**ENDPOINT, **changes}),
        model_blessing=Channel(type=standard_artifacts.ModelBlessing),
    )
    assert node.id == "Pusher"
    assert node.executor_spec.executor_class is EndpointExecutor
    assert "code_hash" in node.exec_properties["custom_config"]
    blessing = standard_artifacts.ModelBlessing()
    blessing.set_int_custom_property("blessed", blessed)
    pushed = artifact(standard_artifacts.PushedModel, str(folder / "pushed_model"))
    EndpointExecutor().Do(
        {"model": [artifact(standard_artifacts.Model, str(folder / "model"))], "model_blessing": [blessing]},
        {"pushed_model": [pushed]},
        node.exec_properties,
    )
    return pushed


def test_a_blessed_model_is_deployed_from_its_copy(
    network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with standing_in(network, VertexServing(), monkeypatch, tmp_path), caplog.at_level(logging.INFO):
        pushed = push(tmp_path, blessed=1)
    assert (tmp_path / "pushed_model" / "saved_model.pb").read_text() == "graph"
    assert network.requests("UploadModel")[0].model.artifact_uri == pushed.uri
    assert pushed.get_int_custom_property("pushed") == 1
    assert pushed.get_string_custom_property("pushed_destination").startswith(f"{PARENT}/endpoints/e-")
    assert pushed.get_string_custom_property("pushed_version") == "1"
    assert "version 1 is deployed to" in caplog.text


def test_tensorflow_serving_gets_a_folder_of_versions(
    network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = {"container": "tensorflow_serving", "serving_image": "us-docker.pkg.dev/p/r/serving:2.19.1"}
    with standing_in(network, VertexServing(), monkeypatch, tmp_path):
        pushed = push(tmp_path, blessed=1, **server)
    assert network.requests("UploadModel")[0].model.artifact_uri == pushed.uri
    assert [path.name for path in (tmp_path / "pushed_model").iterdir()] == ["1"]
    assert (tmp_path / "pushed_model" / "1" / "saved_model.pb").read_text() == "graph"


def test_a_model_that_is_not_blessed_reaches_nobody(
    network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with standing_in(network, VertexServing(), monkeypatch, tmp_path):
        pushed = push(tmp_path, blessed=0)
    assert not network.calls
    assert pushed.get_int_custom_property("pushed") == 0
    assert not (tmp_path / "pushed_model").exists()
