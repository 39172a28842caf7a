"""Schedules and experiments of Vertex AI; over the wire, with the service's real messages."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.cloud import aiplatform_v1 as vertex

from data.errors import UserError
from pipeline.vertex.runs import submit_run
from pipeline.vertex.schedules import create_schedule, delete_schedule, list_schedules
from tests.vertex_service import VertexService
from tests.vertex_stand_in import PARENT, Network, standing_in
from tests.vertex_submissions import CLOUD, EVERYTHING, IN_EXPERIMENT, RUN_NAME, SUBMISSION, scheduled


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def service(network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[VertexService]:
    service = VertexService()
    with standing_in(network, service, monkeypatch, tmp_path):
        yield service


def test_a_schedule_holds_the_run_and_its_times(network: Network, service: VertexService) -> None:
    schedule = create_schedule(
        CLOUD, scheduled(EVERYTHING, cron=" 0 3  * * 1", time_zone="Europe/Berlin", max_concurrent_runs=2)
    )
    (request,) = network.requests("CreateSchedule")
    assert request.parent == PARENT
    assert request.schedule.display_name == "digits"
    assert request.schedule.cron == "TZ=Europe/Berlin 0 3 * * 1"
    assert request.schedule.max_concurrent_run_count == 2
    assert request.schedule.allow_queueing
    run = request.schedule.create_pipeline_job_request
    assert run.parent == PARENT
    assert run.pipeline_job_id == ""
    assert run.pipeline_job.service_account == EVERYTHING.settings.service_account
    assert run.pipeline_job.runtime_config.gcs_output_directory == "gs://bucket/root"
    assert (schedule.state, schedule.created_now, schedule.next_run) == ("ACTIVE", True, "2027-01-15T08:00:00Z")
    assert schedule.console_url.endswith("/locations/us-central1/pipelines/schedules/1?project=a-project")


@pytest.mark.parametrize("after", [False, True])
def test_a_flapping_connection_ends_in_one_schedule(after: bool, network: Network, service: VertexService) -> None:
    network.fail("CreateSchedule", "UNAVAILABLE", after=after)
    assert create_schedule(CLOUD, scheduled(SUBMISSION)).created_now
    assert len(service.schedules) == 1
    assert len(network.requests("CreateSchedule")) == 1 if after else 2
    # The same command again finds it; other times are another schedule.
    assert not create_schedule(CLOUD, scheduled(SUBMISSION)).created_now
    assert len(service.schedules) == 1
    assert create_schedule(CLOUD, scheduled(SUBMISSION, cron="0 4 * * 1")).created_now
    assert len(list_schedules(CLOUD)) == 2
    delete_schedule(CLOUD, "1")
    assert [schedule.cron for schedule in list_schedules(CLOUD)] == ["TZ=Etc/UTC 0 4 * * 1"]


def test_a_deletion_whose_answer_is_lost_is_done(network: Network, service: VertexService) -> None:
    create_schedule(CLOUD, scheduled(SUBMISSION))
    network.fail("DeleteSchedule", "UNAVAILABLE", after=True)
    delete_schedule(CLOUD, "1")
    assert not service.schedules
    assert len(network.requests("DeleteSchedule")) == 2
    with pytest.raises(UserError, match=r"deleting schedule .*/schedules/1: not found: .* check the project"):
        delete_schedule(CLOUD, "1")


def test_a_deletion_is_waited_for(network: Network, service: VertexService) -> None:
    create_schedule(CLOUD, scheduled(SUBMISSION))
    service.slow_deletions = True
    delete_schedule(CLOUD, "1")
    assert not service.schedules


EXPERIMENT = f"{PARENT}/metadataStores/default/contexts/first-try"


@pytest.mark.parametrize("lost", [False, True])
def test_a_run_is_listed_in_its_experiment_which_is_made_first(
    lost: bool, network: Network, service: VertexService
) -> None:
    service.scripts["digits-1"] = [("PENDING", {})]
    if lost:
        network.fail("CreateContext", "UNAVAILABLE", after=True)
    assert submit_run(CLOUD, IN_EXPERIMENT).notes == ()
    assert network.methods().index("CreateContext") < network.methods().index("CreatePipelineJob")
    request = network.requests("CreateContext")[0]
    assert (request.parent, request.context_id) == (f"{PARENT}/metadataStores/default", "first-try")
    assert (request.context.schema_title, request.context.schema_version) == ("system.Experiment", "0.0.1")
    assert service.children == {EXPERIMENT: [f"{PARENT}/metadataStores/default/c"]}
    submit_run(CLOUD, dataclasses.replace(IN_EXPERIMENT, run_id="digits-2"))
    assert list(service.contexts) == [EXPERIMENT]


def test_a_run_that_cannot_be_listed_in_its_experiment_is_a_run_with_a_note(
    network: Network, service: VertexService
) -> None:
    service.scripts["digits-1"] = [("PENDING", {})]
    network.fail("AddContextChildren", "PERMISSION_DENIED", "no")
    run = submit_run(CLOUD, IN_EXPERIMENT)
    assert run.name == RUN_NAME
    assert "under way but not listed in its experiment" in run.notes[0]
    del service.scripts["digits-1"]
    run = submit_run(CLOUD, dataclasses.replace(IN_EXPERIMENT, run_id="digits-2"))
    assert "made no context" in run.notes[0]


def test_an_experiment_that_may_not_be_made_stops_the_submission(network: Network, service: VertexService) -> None:
    network.fail("CreateContext", "PERMISSION_DENIED", "no")
    with pytest.raises(UserError, match="creating experiment first-try: permission denied"):
        submit_run(CLOUD, IN_EXPERIMENT)
    service.contexts[EXPERIMENT] = vertex.Context(name=EXPERIMENT, schema_title="system.Pipeline")
    with pytest.raises(UserError, match=r"is the name of a system\.Pipeline already"):
        submit_run(CLOUD, IN_EXPERIMENT)
    assert not service.jobs
