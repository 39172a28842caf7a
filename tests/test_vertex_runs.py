"""Runs on Vertex AI are followed, listed and cancelled; over the wire, with the service's real messages."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.google_cloud import calls
from components.google_cloud.calls import CloudFault
from data.errors import UserError
from pipeline.vertex.cloud import Submission
from pipeline.vertex.runs import LeftRunning, cancel_run, follow_run, get_run, list_runs, submit_run
from tests.vertex_service import VertexService
from tests.vertex_stand_in import Network, standing_in
from tests.vertex_submissions import CLOUD, RUN_NAME, SETTINGS, SPEC, SUBMISSION


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def service(network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[VertexService]:
    service = VertexService()
    with standing_in(network, service, monkeypatch, tmp_path):
        yield service


def test_following_reports_each_change_once_and_survives_a_flapping_connection(
    network: Network, service: VertexService
) -> None:
    submit_run(CLOUD, SUBMISSION)
    service.scripts["digits-1"] = [
        ("PENDING", {}),
        ("RUNNING", {"ExampleGen": "RUNNING"}),
        ("RUNNING", {"ExampleGen": "RUNNING"}),
        ("RUNNING", {"ExampleGen": "SUCCEEDED", "Trainer": "PENDING"}),
        ("FAILED", {"ExampleGen": "SUCCEEDED", "Trainer": "FAILED:out of\nmemory"}),
    ]
    network.fail("GetPipelineJob", "UNAVAILABLE", times=2)
    seen: list[tuple[str, str]] = []
    assert follow_run(CLOUD, "digits-1", lambda *change: seen.append(change)) == "FAILED"
    assert seen == [
        ("ExampleGen", "RUNNING"),
        ("ExampleGen", "SUCCEEDED"),
        ("Trainer", "PENDING"),
        ("Trainer", "FAILED: out of memory"),
    ]
    # Two short pauses of the connection, then: nothing new, news, nothing new, news.
    assert network.naps[2:] == [7.5, 5.0, 7.5, 5.0]


def test_following_survives_a_broken_connection(
    network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service = VertexService()
    with standing_in(network, service, monkeypatch, tmp_path) as server:
        submit_run(CLOUD, SUBMISSION)
        service.scripts["digits-1"] = [("RUNNING", {"Trainer": "RUNNING"}), ("SUCCEEDED", {"Trainer": "SUCCEEDED"})]

        def report(task: str, state: str) -> None:
            if state == "RUNNING":
                server.stop()
                # The first pause is the follower's own; in the second one the connection is known to be gone.
                monkeypatch.setattr(time, "sleep", lambda _: network.naps.append(0) or nap())

        def nap() -> None:
            if len(network.naps) == 2:
                server.start()
            threading.Event().wait(0.05)

        assert follow_run(CLOUD, "digits-1", report) == "SUCCEEDED"
        assert len(network.naps) >= 2


def test_a_service_that_stays_away_does_not_look_like_a_failed_run(
    network: Network, service: VertexService, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit_run(CLOUD, SUBMISSION)
    monkeypatch.setattr(calls, "GIVE_UP_SECONDS", 0.2)
    network.fail("GetPipelineJob", "UNAVAILABLE", times=10**6)
    with pytest.raises(CloudFault, match="run digits-1 goes on in the cloud"):
        follow_run(CLOUD, RUN_NAME, lambda task, state: None)


def test_expired_credentials_do_not_look_like_a_failed_run(network: Network, service: VertexService) -> None:
    submit_run(CLOUD, SUBMISSION)
    network.fail("GetPipelineJob", "UNAUTHENTICATED", "token expired")
    with pytest.raises(
        CloudFault, match=r"no valid credentials .*; run digits-1 goes on in the cloud, `status digits-1`"
    ):
        follow_run(CLOUD, RUN_NAME, lambda task, state: None)


def test_an_interrupted_follower_leaves_the_run_alone(network: Network, service: VertexService) -> None:
    submit_run(CLOUD, SUBMISSION)
    service.scripts["digits-1"] = [("RUNNING", {"Trainer": "RUNNING"})]

    def interrupt(task: str, state: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(LeftRunning, match="run digits-1, which goes on in the cloud"):
        follow_run(CLOUD, RUN_NAME, interrupt)
    assert "CancelPipelineJob" not in network.methods()


def test_runs_are_listed_page_by_page_newest_first(network: Network, service: VertexService) -> None:
    for number in range(5):
        submit_run(CLOUD, Submission(SPEC, f"run-{number}", SETTINGS))
    assert [run.run_id for run in list_runs(CLOUD)] == ["run-4", "run-3", "run-2", "run-1", "run-0"]
    assert [run.run_id for run in list_runs(CLOUD, limit=3)] == ["run-4", "run-3", "run-2"]
    assert network.requests("ListPipelineJobs")[0].read_mask.paths == [
        "name", "display_name", "state", "create_time", "error",
    ]  # fmt: skip


def test_a_run_is_cancelled_unless_it_has_ended(network: Network, service: VertexService) -> None:
    submit_run(CLOUD, SUBMISSION)
    assert cancel_run(CLOUD, "digits-1").state == "CANCELLING"
    assert network.requests("CancelPipelineJob")[0].name == RUN_NAME
    service.jobs[RUN_NAME].state = "PIPELINE_STATE_CANCELLED"
    with pytest.raises(UserError, match="it is CANCELLED already"):
        cancel_run(CLOUD, "digits-1")
    assert len(network.requests("CancelPipelineJob")) == 1


def test_a_run_that_is_not_there_and_a_name_that_is_none(network: Network, service: VertexService) -> None:
    with pytest.raises(UserError, match=r"not found: The resource .*/pipelineJobs/nothing is not found; check"):
        get_run(CLOUD, "nothing")
    with pytest.raises(UserError, match="is no name of pipelineJobs"):
        get_run(CLOUD, "projects/p/schedules/1")
