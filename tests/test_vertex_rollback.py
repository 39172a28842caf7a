"""What an endpoint serves is shown, rolled back and promoted again, over the wire, wherever a connection breaks."""

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from google.cloud import aiplatform_v1 as vertex
from google.protobuf import json_format
from tfx.orchestration.kubeflow.v2.container.kubeflow_v2_entrypoint_utils import to_runtime_artifact
from tfx.types.standard_artifacts import PushedModel

from components.evaluator.rollback import read_rollback
from components.google_cloud.endpoint_deployment import Deployment, deploy
from components.google_cloud.endpoint_target import EndpointTarget
from pipeline import models, run_vertex
from pipeline.pushed_versions import PushedVersions
from tests.vertex_metadata import VertexMetadata, metadata_of
from tests.vertex_serving import VertexServing
from tests.vertex_stand_in import PARENT, PROJECT, REGION, Network, ServiceError, standing_in

MODEL = f"{PARENT}/models/digits"
TARGET = EndpointTarget(
    project=PROJECT,
    region=REGION,
    name="shop",
    model_id="digits",
    serving_image="server:1",
    machine_type="n1-standard-8",
    min_replicas=2,
    max_replicas=5,
    service_account="server@a-project.iam.gserviceaccount.com",
)
FLAGS = [f"--project={PROJECT}", f"--region={REGION}", "--endpoint=shop"]
CHANGES = ("DeployModel", "UpdateEndpoint", "UndeployModel", "UpdateModel", "UpdateArtifact")


@dataclass
class Service(VertexServing, VertexMetadata):
    """Both, as the command meets them."""


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def service(network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Service]:
    service = Service()
    with standing_in(network, service, monkeypatch, tmp_path):
        yield service


@dataclass
class Shop:
    """A pipeline that pushes.

    Attributes:
        service: where to.
        root: its bucket, a local folder.
        models: the artifact of each version's model.
    """

    service: Service
    root: Path
    models: list[str]

    def push(self, *, fingerprint: str | None = None, **changes: Any) -> Deployment:
        pushed = self.train()
        (Path(pushed) / "fingerprint.pb").write_text(fingerprint or str(len(self.models)))
        return deploy(TARGET.model_copy(update=changes), pushed)

    def train(self, **of_push: Any) -> str:
        """Keeps what a run leaves, and returns the folder of its PushedModel."""
        number = len(self.models) + 1
        model, pushed = self.root / f"Trainer_{number}/model", self.root / f"Pusher_{number}/pushed_model"
        for folder in (model, pushed):
            folder.mkdir(parents=True)
        metadata = self.service
        self.models.append(metadata.add("Model", str(model)))
        facts = {"blessed": 1, "current_model_id": self.models[-1], "refusals": "{}"}
        blessing = metadata.add("ModelBlessing", str(self.root / f"Evaluator_{number}/blessing"), **facts)
        metadata.run([self.models[-1]], [blessing])
        metadata.run([self.models[-1], blessing], [metadata.add("PushedModel", str(pushed), **of_push)])
        return str(pushed)

    def resolve(self) -> str | None:
        """Returns the model that the resolver of the next run finds, by the queries of the compiled spec."""
        golden = json.loads((Path(__file__).parent / "golden" / "vertex_digits.json").read_text())
        executors = golden["pipelineSpec"]["deploymentSpec"]["executors"]
        found: dict[str, str] = {}
        for key in ("model_blessing", "model"):
            resolver = executors[f"ModelResolver-{key.replace('_', '-')}-resolver_executor"]["resolver"]
            query = resolver["outputArtifactQueries"][key]["filter"]
            query = re.sub(r"{{\$.*}}", lambda _: found["model_blessing"], query)
            artifacts = self.service.find(query)
            if not artifacts:
                return None
            found[key] = str(metadata_of(artifacts[0]).get("current_model_id", artifacts[0].name))
        return found["model"]

    def traffic(self) -> dict[str, int]:
        """Returns the version of each deployed model and its traffic."""
        (endpoint,) = self.service.endpoints.values()
        return {one.model.partition("@")[2]: endpoint.traffic_split.get(one.id, 0) for one in endpoint.deployed_models}

    def labels(self) -> list[str]:
        return [model.labels.get("rollback", "") for model in self.service.versions[MODEL]]


@pytest.fixture
def shop(service: Service, tmp_path: Path) -> Shop:
    return Shop(service, tmp_path / "bucket", [])


def test_a_rollback_is_told_first_and_then_done(
    shop: Shop, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.push()
    shop.push()
    assert shop.traffic() == {"2": 100}
    assert shop.resolve() == shop.models[1]
    before = len(network.calls)
    assert run_vertex.main(["rollback", *FLAGS, "--reason", "confuses 3 and 8"]) == 0
    told = capsys.readouterr().out.splitlines()
    model = shop.root / "Trainer_2/model"
    assert told[:4] == ["endpoint shop", "  aside     2", "  served    1", f"  blessing  of 2, {model}"]
    assert told[4] == (
        "nothing was changed; python -m pipeline.run_vertex rollback --to 1 --project a-project --region us-central1 "
        "--endpoint shop --reason 'confuses 3 and 8' --yes does it"
    )
    assert not set(CHANGES) & set(network.methods()[before:])

    assert run_vertex.main(["rollback", "--to", "1", *FLAGS, "--reason", "confuses 3 and 8", "--who=me", "--yes"]) == 0
    assert shop.traffic() == {"1": 100}
    assert shop.labels() == ["", "done"]
    assert shop.resolve() == shop.models[0]
    record = read_rollback(str(model))
    assert record
    assert (record.reason, record.by) == ("confuses 3 and 8", "me")
    deployed = network.requests("DeployModel")[-1].deployed_model
    assert deployed.dedicated_resources.machine_spec.machine_type == "n1-standard-8"
    assert (deployed.dedicated_resources.min_replica_count, deployed.service_account) == (2, TARGET.service_account)
    # The requests went on being answered: first the machines, then the traffic, then the end of the others.
    changes = [method for method in network.methods()[before:] if method in CHANGES]
    assert changes == ["DeployModel", "UpdateModel", "UpdateArtifact", "UpdateEndpoint", "UndeployModel", "UpdateModel"]
    capsys.readouterr()
    # Given again, it does nothing more.
    assert run_vertex.main(["rollback", "--to", "1", *FLAGS, "--yes"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "  1 is served; there is nothing to roll back"


def test_the_endpoint_shows_what_it_serves_and_why(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        shop.push()
    run_vertex.main(["rollback", "--to=2", *FLAGS, "--reason", "is slow", "--who=me", "--yes"])
    capsys.readouterr()
    assert run_vertex.main(["endpoint", *FLAGS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"endpoint shop  {next(iter(shop.service.endpoints))}"
    assert re.fullmatch(
        r"  dedicated: 10 MB a request, at e-\w+\.us-central1-123\.prediction\.vertexai\.goog", lines[1]
    )
    assert lines[2] == "  requests are not kept"
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines[4:]]
    assert rows[0][:2] == ["3", "rolled back"]
    assert rows[0][-1].endswith(" by me: is slow")
    assert rows[1] == ["2", "served", "100 %", "2 to 5 x n1-standard-8"]
    assert rows[2] == ["1"]


def test_a_canary_goes_and_the_stable_model_keeps_its_machines(shop: Shop, network: Network) -> None:
    shop.push()
    shop.push(traffic_percent=10)
    assert run_vertex.main(["rollback", *FLAGS, "--yes"]) == 0
    assert shop.traffic() == {"1": 100}
    assert len(network.requests("DeployModel")) == 2
    assert shop.resolve() == shop.models[0]


def test_promote_undoes_it(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.push()
    shop.push()
    run_vertex.main(["rollback", *FLAGS, "--yes"])
    assert run_vertex.main(["promote", *FLAGS, "--yes"]) == 0
    assert shop.traffic() == {"2": 100}
    assert shop.labels() == ["", ""]
    assert shop.resolve() == shop.models[1]
    assert read_rollback(str(shop.root / "Trainer_2/model")) is None
    assert [model.version_description for model in shop.service.versions[MODEL]] == ["", ""]
    capsys.readouterr()
    assert run_vertex.main(["promote", *FLAGS, "--yes"]) == 2
    assert (
        capsys.readouterr().err
        == "error: endpoint shop: no version was rolled back, so that there is none to promote\n"
    )


def test_a_promoted_version_leaves_a_newer_one_in_service(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.push()
    shop.push()
    run_vertex.main(["rollback", *FLAGS, "--yes"])
    shop.push()
    capsys.readouterr()
    assert run_vertex.main(["promote", "2", *FLAGS, "--yes"]) == 0
    assert "  served    3, which is newer" in capsys.readouterr().out
    assert shop.traffic() == {"3": 100}
    assert shop.labels() == ["", "", ""]


def test_the_pusher_s_own_blessing_counts_whatever_it_calls_its_model(shop: Shop) -> None:
    shop.push()
    shop.push()
    blessing = next(one for one in shop.service.find('schema_title="tfx.ModelBlessing"'))
    blessing.metadata = {**metadata_of(blessing), "current_model_id": "by the project's number"}
    assert run_vertex.main(["rollback", *FLAGS, "--yes"]) == 0
    assert metadata_of(blessing)["blessed"] == 0
    assert shop.resolve() == shop.models[0]


def test_what_a_gate_refused_stays_refused(shop: Shop) -> None:
    shop.push()
    shop.push()
    blessing = next(one for one in shop.service.find('schema_title="tfx.ModelBlessing"'))
    blessing.metadata = {**metadata_of(blessing), "blessed": 0, "refusals": '{"drift.gate": "the mean moved"}'}
    run_vertex.main(["rollback", *FLAGS, "--yes"])
    run_vertex.main(["promote", *FLAGS, "--yes"])
    assert json.loads(metadata_of(blessing)["refusals"]) == {"drift.gate": "the mean moved"}
    assert shop.resolve() == shop.models[0]


def test_a_copy_of_the_same_model_is_no_way_back(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.push(fingerprint="good")
    shop.push(fingerprint="bad")
    shop.push(fingerprint="bad")
    assert run_vertex.main(["rollback", "--to=2", *FLAGS, "--yes"]) == 2
    assert "--to 2: is a copy of the very model of version 3" in capsys.readouterr().err
    assert run_vertex.main(["rollback", *FLAGS, "--yes"]) == 0
    assert shop.traffic() == {"1": 100}
    assert shop.labels() == ["", "done", "done"]


def test_a_version_that_nobody_asked_yet_is_not_what_is_rolled_back(shop: Shop, network: Network) -> None:
    shop.push()
    shop.push()
    shop.service.failures["DeployModel"] = (8, "no machines")
    with pytest.raises(Exception, match="no machines"):
        shop.push()
    assert run_vertex.main(["rollback", *FLAGS, "--yes"]) == 0
    assert shop.traffic() == {"1": 100}
    assert shop.labels() == ["", "done", ""]


def test_without_machines_for_the_former_version_nothing_changes(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.push()
    shop.push()
    shop.service.failures["DeployModel"] = (8, "no machines")
    assert run_vertex.main(["rollback", *FLAGS, "--yes"]) == 2
    assert "deploying version 1 of digits to endpoint shop: quota exceeded: no machines" in capsys.readouterr().err
    assert shop.traffic() == {"2": 100}
    assert shop.labels() == ["", ""]
    assert shop.resolve() == shop.models[1]


@pytest.mark.parametrize("after", [False, True], ids=["refused", "answer lost"])
@pytest.mark.parametrize("method", CHANGES)
def test_a_flapping_connection_ends_in_one_of_each(method: str, after: bool, shop: Shop, network: Network) -> None:
    shop.push()
    shop.push()
    network.fail(method, "UNAVAILABLE", after=after, times=2)
    network.fail("GetOperation", "UNAVAILABLE", times=2)
    network.fail("ListArtifacts", "UNAVAILABLE")
    assert run_vertex.main(["rollback", *FLAGS, "--yes"]) == 0
    assert shop.traffic() == {"1": 100}
    assert shop.labels() == ["", "done"]
    assert shop.resolve() == shop.models[0]
    network.fail(method, "UNAVAILABLE", after=after, times=2)
    assert run_vertex.main(["promote", *FLAGS, "--yes"]) == 0
    assert shop.traffic() == {"2": 100}
    assert shop.labels() == ["", ""]
    assert shop.resolve() == shop.models[1]


@pytest.mark.parametrize("after", [False, True], ids=["refused", "answer lost"])
@pytest.mark.parametrize("method", CHANGES)
@pytest.mark.parametrize("act", ["rollback", "promote"])
def test_one_that_broke_off_is_gone_on_with(
    act: str, method: str, after: bool, shop: Shop, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.push()
    shop.push()
    if act == "promote":
        run_vertex.main(["rollback", *FLAGS, "--yes"])
    network.fail(method, "PERMISSION_DENIED", "not any more", after=after)
    assert run_vertex.main([act, *FLAGS, "--yes"]) == 2
    assert "permission denied: not any more" in capsys.readouterr().err
    before = len(network.calls)
    assert sum(shop.traffic().values()) == 100
    assert run_vertex.main([act, *FLAGS]) in (0, 2)  # It only looks; a promotion may have gone through.
    assert not set(CHANGES) & set(network.methods()[before:])
    capsys.readouterr()
    if act == "rollback" and "done" in shop.labels():
        assert run_vertex.main(["rollback", "--to=1", *FLAGS, "--yes"]) == 0
    elif act == "rollback" or any(shop.labels()):
        assert run_vertex.main([act, *FLAGS, "--yes"]) == 0
    left = 0 if act == "rollback" else 1
    assert shop.traffic() == {str(left + 1): 100}
    assert shop.labels() == (["", "done"] if act == "rollback" else ["", ""])
    assert shop.resolve() == shop.models[left]


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_one_of_several_versions_that_broke_off_between_its_marks_ends_where_it_was_to(
    number: int, shop: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for fingerprint in ("good", "bad", "bad"):
        shop.push(fingerprint=fingerprint)
    update, calls = shop.service.UpdateModel, itertools.count(1)

    def fail_once(request: vertex.UpdateModelRequest) -> vertex.Model:
        if next(calls) == number:
            raise ServiceError("PERMISSION_DENIED", "not any more")
        return update(request)

    monkeypatch.setattr(shop.service, "UpdateModel", fail_once)
    words = ["rollback", *FLAGS, "--reason", "is slow", "--who=me", "--yes"]
    assert run_vertex.main(words) == 2
    assert "permission denied: not any more" in capsys.readouterr().err
    assert run_vertex.main(words) == 0
    assert shop.traffic() == {"1": 100}
    assert shop.labels() == ["", "done", "done"]
    assert shop.resolve() == shop.models[0]
    capsys.readouterr()
    run_vertex.main(["endpoint", *FLAGS])
    assert capsys.readouterr().out.count(" by me: is slow\n") == 2


def test_another_s_change_of_the_traffic_is_not_written_over(shop: Shop, network: Network) -> None:
    shop.push()
    shop.push(traffic_percent=10)
    network.fail("UpdateEndpoint", "ABORTED", "The etag is not the current one.")
    assert run_vertex.main(["rollback", *FLAGS, "--yes"]) == 0
    assert shop.traffic() == {"1": 100}


def test_a_version_in_a_folder_of_the_bucket_loses_its_blessing_and_gets_it_again(
    shop: Shop, network: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = f"ram://{tmp_path.name}/serving/digits"
    for number in (1, 2):
        tf.io.gfile.makedirs(f"{root}/{number}")
        for name in ("saved_model.pb", "fingerprint.pb"):
            with tf.io.gfile.GFile(f"{root}/{number}/{name}", "w") as file:
                file.write(f"{number}")
        pushed = PushedModel()
        pushed.set_string_custom_property("pushed_destination", f"{root}/{number}")
        shop.train(**json_format.MessageToDict(to_runtime_artifact(pushed, {}).metadata))
    flags = FLAGS[:2]
    assert models.main(["rollback", root, *flags]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[3] == f"  blessing  of 2, {shop.root}/Trainer_2/model"
    assert told[4].endswith(f" rollback {root} --to 1 --project {PROJECT} --region {REGION} --yes does it")
    network.fail("UpdateArtifact", "PERMISSION_DENIED", "not any more")
    assert models.main(["rollback", root, *flags, "--yes"]) == 2
    assert "permission denied: not any more" in capsys.readouterr().err
    assert models.main(["rollback", root, "--yes"]) == 2
    assert f"changes blessings in project {PROJECT} in {REGION}; give that" in capsys.readouterr().err
    assert models.main(["rollback", root, *flags, "--yes"]) == 0
    assert PushedVersions(root).list() == ([1], [2])
    assert shop.resolve() == shop.models[0]
    assert read_rollback(str(shop.root / "Trainer_2/model"))
    assert models.main(["promote", root, "2", *flags, "--yes"]) == 0
    assert PushedVersions(root).list() == ([2, 1], [])
    assert shop.resolve() == shop.models[1]
    assert read_rollback(str(shop.root / "Trainer_2/model")) is None
    assert models.main(["rollback", root, FLAGS[0], "--yes"]) == 2
    assert "region must be known; give --region" in capsys.readouterr().err
    assert models.main(["rollback", root, *flags, "--output-dir=out"]) == 2
    assert "--output-dir out: the run was either here or on Vertex AI" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rollback", *FLAGS[:2]], "rollback needs an endpoint; give --endpoint NAME, or endpoint.name in the file"),
        (["endpoint", "shop", *FLAGS[:2], "--endpoint=x"], "endpoint shop: give --endpoint NAME; only promote takes"),
        (["endpoint", *FLAGS[:2], "--endpoint=x"], f"endpoint x: there is none in {PARENT}; give its display name"),
        (["endpoint", *FLAGS, "--yes"], "--yes says nothing to endpoint; leave it out"),
        (["rollback", *FLAGS, "--yes", "--check"], "--check says nothing to rollback; leave it out"),
        (["promote", *FLAGS, "--compile-only", "spec.json"], "--compile-only says nothing to promote; leave it out"),
        (["promote", "1", *FLAGS, "--to=2"], "--to says nothing to promote; leave it out"),
        (["rollback", "--to=7", *FLAGS], "--to 7: is no version in endpoint shop; there are 1"),
        (
            ["rollback", *FLAGS],
            "endpoint shop: version 1 is the only model that is served; nothing would be left; push",
        ),
        (["promote", "1", *FLAGS], "1: is not set aside, so that there is nothing to promote"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], message: str, shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.push()
    capsys.readouterr()
    assert run_vertex.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_an_endpoint_of_several_models_is_shown_and_left_alone(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.push()
    (endpoint,) = shop.service.endpoints.values()
    endpoint.deployed_models.append(
        vertex.DeployedModel(id="7", model=f"{PARENT}/models/other@1", display_name="other")
    )
    assert run_vertex.main(["endpoint", *FLAGS]) == 0
    assert "  other  0 %" in capsys.readouterr().out
    assert run_vertex.main(["rollback", *FLAGS, "--yes"]) == 2
    assert "endpoint shop: has models of 2 names (digits, other); only where it has one" in capsys.readouterr().err
