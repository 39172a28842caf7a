"""A model's way to an endpoint, over the wire, with the service's real messages."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud import aiplatform_v1 as vertex
from google.protobuf import json_format
from pydantic import ValidationError

from components.google_cloud.calls import CloudFault
from components.google_cloud.endpoint_deployment import Deployment, deploy, split_traffic
from components.google_cloud.endpoint_target import EndpointTarget
from data.errors import UserError
from tests.vertex_serving import VertexServing
from tests.vertex_stand_in import HOST, PARENT, PROJECT, REGION, Network, standing_in

MODEL = f"{PARENT}/models/digits"
ENDPOINT_ID = "e-" + hashlib.sha256(b"digits-endpoint").hexdigest()[:16]
ENDPOINT = f"{PARENT}/endpoints/{ENDPOINT_ID}"
KEY = "projects/a-project/locations/us-central1/keyRings/r/cryptoKeys/k"
TARGET = EndpointTarget(
    project=PROJECT, region=REGION, name="digits-endpoint", model_id="digits", serving_image="server:1"
)


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def serving(network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[VertexServing]:
    serving = VertexServing()
    with standing_in(network, serving, monkeypatch, tmp_path):
        yield serving


def push(number: int, **changes: Any) -> Deployment:
    return deploy(TARGET.model_copy(update=changes), f"gs://bucket/root/Pusher/{number}/pushed_model")


def sent(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(type(message).pb(message))  # type: ignore[no-any-return]


def test_the_first_push_makes_everything_field_by_field(network: Network, serving: VertexServing) -> None:
    deployment = push(
        1,
        traffic_percent=10,
        machine_type="n1-standard-8",
        accelerator_type="NVIDIA_TESLA_T4",
        accelerator_count=1,
        min_replicas=2,
        max_replicas=5,
        service_account="server@a-project.iam.gserviceaccount.com",
        encryption_key=KEY,
        labels={"team": "vision"},
        serving_args=("serve", "--batch=8"),
        serving_port=9000,
        predict_route="/predict",
        health_route="/ping",
    )
    upload = sent(network.requests("UploadModel")[0])
    label = upload["model"]["labels"].pop("push")
    assert re.fullmatch("[0-9a-f]{32}", label)
    assert upload == {
        "parent": PARENT,
        "modelId": "digits",
        "model": {
            "displayName": "digits",
            "artifactUri": "gs://bucket/root/Pusher/1/pushed_model",
            "containerSpec": {
                "imageUri": "server:1",
                "args": ["serve", "--batch=8"],
                "ports": [{"containerPort": 9000}],
                "predictRoute": "/predict",
                "healthRoute": "/ping",
            },
            "labels": {"team": "vision"},
            "encryptionSpec": {"kmsKeyName": KEY},
        },
    }
    assert sent(network.requests("CreateEndpoint")[0]) == {
        "parent": PARENT,
        "endpointId": ENDPOINT_ID,
        "endpoint": {
            "displayName": "digits-endpoint",
            "labels": {"team": "vision"},
            "encryptionSpec": {"kmsKeyName": KEY},
            "dedicatedEndpointEnabled": True,
        },
    }
    assert re.fullmatch("[1-9][0-9]{9}", deployment.deployed_id)
    assert sent(network.requests("DeployModel")[0]) == {
        "endpoint": ENDPOINT,
        "deployedModel": {
            "id": deployment.deployed_id,
            "model": f"{MODEL}@1",
            "displayName": "digits-1",
            "serviceAccount": "server@a-project.iam.gserviceaccount.com",
            "dedicatedResources": {
                "machineSpec": {
                    "machineType": "n1-standard-8",
                    "acceleratorType": "NVIDIA_TESLA_T4",
                    "acceleratorCount": 1,
                },
                "minReplicaCount": 2,
                "maxReplicaCount": 5,
            },
        },
        "trafficSplit": {"0": 100},
    }
    assert deployment == Deployment(ENDPOINT, "1", {deployment.deployed_id: 100}, deployment.deployed_id, ())
    assert set(network.hosts) == {f"{HOST}:443"}


def test_tensorflow_serving_is_told_where_its_model_lies(network: Network, serving: VertexServing) -> None:
    push(1, container="tensorflow_serving", serving_image="us-docker.pkg.dev/p/r/serving:2.19.1")
    model = sent(network.requests("UploadModel")[0])["model"]
    assert model["containerSpec"] == {
        "imageUri": "us-docker.pkg.dev/p/r/serving:2.19.1",
        "args": ["--model_name=digits", "--model_base_path=$(AIP_STORAGE_URI)", "--rest_api_port=8501"],
        "ports": [{"containerPort": 8501}],
        "predictRoute": "/v1/models/digits:predict",
        "healthRoute": "/v1/models/digits",
    }


def test_one_of_vertex_ai_s_prebuilt_servers_is_told_nothing(network: Network, serving: VertexServing) -> None:
    image = "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"
    push(1, container="tensorflow_serving", serving_image=image)
    assert sent(network.requests("UploadModel")[0])["model"]["containerSpec"] == {"imageUri": image}


def test_requests_are_kept_only_where_that_is_asked_for(network: Network, serving: VertexServing) -> None:
    push(1, kind="shared", request_log="bq://a-project.logs.requests")
    endpoint = sent(network.requests("CreateEndpoint")[0])["endpoint"]
    assert endpoint["predictRequestResponseLoggingConfig"] == {
        "enabled": True,
        "samplingRate": 1.0,
        "bigqueryDestination": {"outputUri": "bq://a-project.logs.requests"},
    }
    assert "dedicatedEndpointEnabled" not in endpoint


def test_an_endpoint_that_is_there_stays_what_it_is_and_that_is_said(network: Network, serving: VertexServing) -> None:
    assert push(1, kind="shared", request_log="bq://a-project.logs.requests").notes == ()
    again = push(2)
    assert again.notes == (
        "endpoint digits-endpoint is there, and stays shared: 1.5 MB and 60 s a request",
        "endpoint digits-endpoint is there, and logs requests to bq://a-project.logs.requests",
    )
    assert len(serving.endpoints) == 1
    assert not serving.endpoints[ENDPOINT].dedicated_endpoint_enabled


def test_a_perimeter_that_forbids_it_is_told_with_the_way_out(network: Network, serving: VertexServing) -> None:
    network.fail(
        "CreateEndpoint",
        "PERMISSION_DENIED",
        "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: 1",
    )
    with pytest.raises(UserError, match=r"permission denied: .*; a perimeter of VPC Service Controls .*endpoint\.kind"):
        push(1)


def test_a_full_push_replaces_and_undeploys_the_old_version_afterwards(
    network: Network, serving: VertexServing
) -> None:
    old = push(1)
    new = push(2)
    assert network.requests("UploadModel")[1].parent_model == MODEL
    assert not network.requests("UploadModel")[1].model_id
    assert (new.version, new.endpoint) == ("2", ENDPOINT)
    assert new.traffic == {new.deployed_id: 100}
    assert new.undeployed == (old.deployed_id,)
    assert [model.model for model in serving.endpoints[ENDPOINT].deployed_models] == [f"{MODEL}@2"]
    assert network.methods().index("UndeployModel") > len(network.methods()) - 1 - network.methods()[::-1].index(
        "DeployModel"
    )
    assert len(network.requests("CreateEndpoint")) == 1
    assert new.described() == f"version 2 is deployed to {ENDPOINT} with 100 % of the traffic, 1 replaced"


def test_a_canary_leaves_the_rest_to_the_old_model_and_replaces_an_earlier_canary(
    network: Network, serving: VertexServing
) -> None:
    stable = push(1)
    first = push(2, traffic_percent=10)
    assert first.traffic == {first.deployed_id: 10, stable.deployed_id: 90}
    assert first.undeployed == ()
    second = push(3, traffic_percent=20)
    assert second.traffic == {second.deployed_id: 20, stable.deployed_id: 80}
    assert second.undeployed == (first.deployed_id,)
    assert sent(network.requests("DeployModel")[2])["trafficSplit"] == {"0": 20, stable.deployed_id: 80}


def test_somebody_elses_model_stays_deployed(network: Network, serving: VertexServing) -> None:
    other = vertex.DeployedModel(id="77", model=f"{PARENT}/models/other@4")
    serving.endpoints[ENDPOINT] = vertex.Endpoint(
        name=ENDPOINT, display_name=TARGET.name, deployed_models=[other], traffic_split={"77": 100}
    )
    assert push(1).undeployed == ()
    assert serving.endpoints[ENDPOINT].deployed_models[0].id == "77"


def test_a_push_that_is_run_again_changes_nothing(network: Network, serving: VertexServing) -> None:
    first = push(1)
    again = push(1)
    assert again == first
    assert [len(network.requests(method)) for method in ("UploadModel", "CreateEndpoint", "DeployModel")] == [1, 1, 1]


@pytest.mark.parametrize("after", [False, True], ids=["refused", "answer lost"])
@pytest.mark.parametrize("method", ["UploadModel", "CreateEndpoint", "DeployModel"])
def test_a_flapping_connection_ends_in_one_of_each(
    method: str, after: bool, network: Network, serving: VertexServing
) -> None:
    network.fail(method, "UNAVAILABLE", after=after)
    network.fail("GetOperation", "UNAVAILABLE", times=2)
    network.fail("GetEndpoint", "UNAVAILABLE", times=2)
    deployment = push(1)
    assert len(serving.versions[MODEL]) == 1
    assert list(serving.endpoints) == [ENDPOINT]
    assert [model.id for model in serving.endpoints[ENDPOINT].deployed_models] == [deployment.deployed_id]


def test_an_endpoint_that_somebody_renamed_is_told_at_once(network: Network, serving: VertexServing) -> None:
    push(1)
    serving.endpoints[ENDPOINT].display_name = "old"
    network.naps.clear()
    with pytest.raises(UserError, match=r"^endpoint e-\w+: was made as digits-endpoint, and is called old now; "):
        push(2)
    assert sum(network.naps) < 10  # The upload's, no more.


def test_a_slow_upload_whose_answer_was_lost_is_waited_for(network: Network, serving: VertexServing) -> None:
    serving.operation_looks = 7
    for method in ("UploadModel", "DeployModel"):
        network.fail(method, "UNAVAILABLE", after=True)
    assert push(1).version == "1"
    assert len(serving.versions[MODEL]) == 1
    assert len(serving.endpoints[ENDPOINT].deployed_models) == 1


def test_a_further_versions_lost_upload_is_deployed_once(network: Network, serving: VertexServing) -> None:
    push(1)
    network.fail("UploadModel", "UNAVAILABLE", after=True)
    serving.operation_looks = 4
    push(2)
    (deployed,) = serving.endpoints[ENDPOINT].deployed_models
    served = serving.versions[MODEL][int(deployed.model.partition("@")[2]) - 1]
    assert served.artifact_uri == "gs://bucket/root/Pusher/2/pushed_model"


def test_refusals_name_what_to_do(network: Network, serving: VertexServing) -> None:
    network.fail("UploadModel", "PERMISSION_DENIED", "Permission 'aiplatform.models.upload' denied")
    with pytest.raises(
        UserError,
        match=r"uploading model digits: permission denied.*; grant roles/aiplatform\.user to the account that",
    ):
        push(1)
    serving.failures["DeployModel"] = (8, "The following quotas are exceeded: CustomModelServingT4GPUs")
    with pytest.raises(
        UserError, match=r"deploying version 1 of digits to endpoint digits-endpoint: quota exceeded: The following"
    ):
        push(1)
    assert not serving.endpoints[ENDPOINT].deployed_models
    serving.failures["DeployModel"] = (13, "Internal error")
    with pytest.raises(CloudFault, match="Internal error"):
        push(2)
    serving.endpoints["second"] = vertex.Endpoint(name=f"{PARENT}/endpoints/2", display_name=TARGET.name)
    with pytest.raises(UserError, match=r"2 endpoints of .* are called 'digits-endpoint'; .*: 2, e-"):
        push(1)


def test_shares_are_whole_and_add_up() -> None:
    endpoint = vertex.Endpoint(deployed_models=[{"id": "1"}, {"id": "2"}], traffic_split={"1": 30, "2": 70})
    assert split_traffic(endpoint, 5) == {"0": 5, "2": 95}
    assert split_traffic(endpoint, 100) == {"0": 100}
    assert split_traffic(vertex.Endpoint(deployed_models=[{"id": "1"}]), 5) == {"0": 100}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"min_replicas": 3}, "min_replicas is 3, more than max_replicas, 1"),
        ({"accelerator_type": "NVIDIA_L4"}, "set both or neither"),
        ({"traffic_percent": 0}, "traffic_percent"),
        ({"model_id": "1-digits"}, "model_id"),
        ({"replicas": 2}, "replicas"),
        ({"kind": "private"}, "kind"),
        ({"request_log": "logs.requests"}, "request_log"),
        (
            {"container": "tensorflow_serving", "serving_image": "us-docker.pkg.dev/p/r/serving:latest"},
            "serving:latest, which names no version; give its exact tag, such as :2.19.1",
        ),
        (
            {"serving_image": "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"},
            "which looks like TensorFlow Serving; set endpoint.container to tensorflow_serving, or leave out the image",
        ),
        ({"serving_args": ["--model_base_path=$(AIP_STORAGE_URI)"]}, "looks like TensorFlow Serving"),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        EndpointTarget.model_validate({**TARGET.model_dump(), **changes})
