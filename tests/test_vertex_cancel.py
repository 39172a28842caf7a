"""A cancelled run leaves no job on Dataflow: over HTTPS, with the messages that Beam's own client has of it."""

import json
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from components.google_cloud.calls import CloudFault
from data.errors import UserError
from pipeline.vertex import runs
from pipeline.vertex.dataflow_jobs import find_places, name_job
from pipeline.vertex.runs import cancel_run, submit_run
from tests.vertex_http import Asked, Web, standing_in_for_https
from tests.vertex_service import VertexService
from tests.vertex_stand_in import PROJECT, REGION, Network, standing_in
from tests.vertex_submissions import CLOUD, RUN_NAME, SPEC, SUBMISSION

messages = pytest.importorskip("apache_beam.runners.dataflow.internal.clients.dataflow.dataflow_v1b3_messages")
encoding = pytest.importorskip("apitools.base.py.encoding")

_CONTAINER = {"image": "image", "args": ["--runner=DataflowRunner", f"--project={PROJECT}", f"--region={REGION}"]}
_SPEC = {
    **SPEC,
    "pipelineSpec": {
        **SPEC["pipelineSpec"],
        "deploymentSpec": {"executors": {"Trainer_executor": {"container": _CONTAINER}}},
    },
}
ON_DATAFLOW = replace(SUBMISSION, spec=_SPEC)
PATH = f"/v1b3/projects/{PROJECT}/locations/{REGION}/jobs"


@dataclass
class Dataflow:
    """Plays the service's list and update of jobs.

    Attributes:
        jobs: by id, with their states.
        late: names of jobs that start after the first look.
    """

    jobs: dict[str, Any] = field(default_factory=dict)
    late: list[str] = field(default_factory=list)

    def start(self, *names: str) -> None:
        for name in names:
            number = str(len(self.jobs) + 1)
            state = messages.Job.CurrentStateValueValuesEnum.JOB_STATE_RUNNING
            self.jobs[number] = messages.Job(id=number, name=name, currentState=state)

    def running(self) -> list[str]:
        return [job.name for job in self.jobs.values() if job.currentState.name == "JOB_STATE_RUNNING"]

    def answer(self, asked: Asked) -> tuple[int, Any]:
        path, _, query = asked.path.partition("?")
        assert asked.host == "dataflow.googleapis.com"
        if asked.method == "GET":
            given = dict(urllib.parse.parse_qsl(query))
            assert (path, given.pop("filter")) == (PATH, "ACTIVE")
            start = int(given.pop("pageToken", 0))
            assert not given
            page = list(self.jobs.values())[start : start + 2]
            token = str(start + 2) if start + 2 < len(self.jobs) else None
            listed = encoding.MessageToJson(messages.ListJobsResponse(jobs=page, nextPageToken=token))
            if not token:
                self.start(*self.late)
                self.late = []
            return 200, listed.encode()
        assert asked.method == "PUT"
        job = self.jobs[path.removeprefix(f"{PATH}/")]
        change = encoding.JsonToMessage(messages.Job, asked.body.decode())
        assert json.loads(encoding.MessageToJson(change)) == json.loads(asked.body)  # No field that it does not know.
        assert change.requestedState.name == "JOB_STATE_CANCELLED"
        job.currentState = messages.Job.CurrentStateValueValuesEnum.JOB_STATE_CANCELLING
        return 200, encoding.MessageToJson(job).encode()


@pytest.fixture
def web() -> Web:
    return Web()


@pytest.fixture
def dataflow(web: Web) -> Dataflow:
    dataflow = Dataflow()
    web.answer = dataflow.answer
    return dataflow


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def service(network: Network, web: Web, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[VertexService]:
    service = VertexService()
    with standing_in(network, service, monkeypatch, tmp_path), standing_in_for_https(web, monkeypatch, tmp_path):
        yield service


MINE, ANOTHERS = "digits-1-transform-0123abcd", "digits-10-transform-0123abcd"


def test_the_jobs_of_a_run_end_with_it_and_no_others(service: VertexService, dataflow: Dataflow) -> None:
    submit_run(CLOUD, ON_DATAFLOW)
    service.scripts["digits-1"] = [("RUNNING", {}), ("CANCELLING", {}), ("CANCELLING", {}), ("CANCELLED", {})]
    dataflow.start(ANOTHERS, "beamapp-1", "digits-1-2-transform-0123abcd", MINE, "digits-1-evaluator-ffffffff")
    dataflow.late = ["digits-1-evaluator-00000000"]
    told: list[str] = []
    assert cancel_run(CLOUD, "digits-1", told.append).state == "CANCELLED"
    assert dataflow.running() == [ANOTHERS, "beamapp-1", "digits-1-2-transform-0123abcd"]
    assert told[0] == f"ending its job {MINE} on Dataflow"
    assert len(told) == 3


@pytest.mark.parametrize("after", [False, True], ids=["refused", "answer lost"])
@pytest.mark.parametrize("status", [503, None])
def test_a_flapping_connection_loses_none(
    status: int | None, after: bool, service: VertexService, dataflow: Dataflow, web: Web
) -> None:
    submit_run(CLOUD, ON_DATAFLOW)
    service.scripts["digits-1"] = [("RUNNING", {}), ("CANCELLED", {})]
    dataflow.start(MINE, "digits-1-evaluator-ffffffff")
    web.fail(status, times=3, after=after)
    cancel_run(CLOUD, "digits-1", lambda line: None)
    assert dataflow.running() == []


def test_of_a_run_that_has_ended_what_was_left_is_ended(service: VertexService, dataflow: Dataflow) -> None:
    submit_run(CLOUD, ON_DATAFLOW)
    service.jobs[RUN_NAME].state = "PIPELINE_STATE_CANCELLED"
    dataflow.start(MINE)
    assert cancel_run(CLOUD, "digits-1", lambda line: None).state == "CANCELLED"
    assert dataflow.running() == []
    with pytest.raises(UserError, match="run digits-1 cannot be cancelled: it is CANCELLED already"):
        cancel_run(CLOUD, "digits-1")


def test_a_run_without_dataflow_asks_nobody_there(service: VertexService, web: Web) -> None:
    submit_run(CLOUD, SUBMISSION)
    assert cancel_run(CLOUD, "digits-1").state == "CANCELLING"
    assert not web.asked


def test_without_the_role_it_is_told_which(service: VertexService, dataflow: Dataflow, web: Web) -> None:
    submit_run(CLOUD, ON_DATAFLOW)
    web.fail(403, "no")
    with pytest.raises(
        UserError, match=r"listing the jobs on Dataflow in us-central1: .*grant roles/dataflow\.developer"
    ):
        cancel_run(CLOUD, "digits-1")
    assert service.jobs[RUN_NAME].state.name == "PIPELINE_STATE_CANCELLING"


def test_a_run_that_does_not_end_is_not_waited_for_for_ever(
    service: VertexService, dataflow: Dataflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "CANCEL_SECONDS", 20.0)
    submit_run(CLOUD, ON_DATAFLOW)
    run = cancel_run(CLOUD, "digits-1")
    assert run.notes == ("run digits-1 is CANCELLING still, and may start a job on Dataflow yet: cancel it again",)


def test_a_service_that_stays_away_is_a_fault(service: VertexService, dataflow: Dataflow, web: Web) -> None:
    submit_run(CLOUD, ON_DATAFLOW)
    web.fail(503, "away", times=9)
    with pytest.raises(CloudFault, match=r"listing the jobs on Dataflow in us-central1: .*away"):
        cancel_run(CLOUD, "digits-1")


def test_a_task_names_its_job_after_its_run() -> None:
    outputs = {"outputFile": "gs://bucket/root/123/digits-20261126/Transform_-456/executor_output.json"}
    words = ["--executor_class_path", "a.B", "--json_serialized_invocation_args", json.dumps({"outputs": outputs})]
    (flag,) = name_job([*words, "--runner=DataflowRunner"])
    assert re.fullmatch(r"--job_name=digits-20261126-transform-[0-9a-f]{8}", flag)
    assert name_job([*words, "--runner=DataflowRunner"]) != [flag]
    assert name_job([*words, "--runner=DirectRunner"]) == []


def test_the_places_are_read_off_the_compiled_spec() -> None:
    golden = json.loads((Path(__file__).parent / "golden" / "vertex_digits.json").read_text())
    assert find_places(golden["pipelineSpec"]) == {("my-project", "us-central1")}
    assert find_places(SPEC["pipelineSpec"]) == set()
