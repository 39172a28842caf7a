"""The command: what it sends to the service, what it refuses first, and its exit status."""

import dataclasses
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.google_cloud.calls import CloudFault
from pipeline import run_vertex
from pipeline.vertex import runs, schedules
from pipeline.vertex.cloud import Cloud, Run, Schedule, Submission, Task
from pipeline.vertex.settings import ScheduleSettings
from tests.test_vertex_check import make_job
from tests.vertex_service import VertexService
from tests.vertex_settings import IMAGE, make_settings
from tests.vertex_stand_in import PROJECT, Network, standing_in

FLAGS = ["--project=my-project", "--region=us-central1", "--pipeline-root=gs://my-bucket/root", f"--image={IMAGE}"]
SCHEDULE = "projects/my-project/locations/us-central1/schedules/1"
RUN = Run("projects/my-project/locations/us-central1/pipelineJobs/digits-1", "https://console/digits-1", "RUNNING")


@dataclasses.dataclass
class Service:
    """Keeps what it is asked, in place of the calls to Vertex AI."""

    final_state: str = "SUCCEEDED"
    sent: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)

    def submit_run(self, cloud: Cloud, submission: Submission) -> Run:
        self.sent.append(("submit", cloud, submission))
        return RUN

    def follow_run(self, cloud: Cloud, name: str, report: Callable[[str, str], None]) -> str:
        report("Trainer", "RUNNING")
        return self.final_state

    def create_schedule(self, cloud: Cloud, submission: Submission) -> Schedule:
        self.sent.append(("schedule", submission))
        return Schedule("projects/p/locations/l/schedules/1", "https://console/1", "ACTIVE", "")

    def get_run(self, cloud: Cloud, name: str) -> Run:
        return dataclasses.replace(
            RUN, state="FAILED", error="no quota", tasks=(Task("Trainer", "FAILED", "no quota"),)
        )

    def cancel_run(self, cloud: Cloud, name: str) -> Run:
        self.sent.append(("cancel", name))
        return dataclasses.replace(RUN, state="CANCELLING")

    def list_runs(self, cloud: Cloud) -> list[Run]:
        return [dataclasses.replace(RUN, created="2026-11-24T00:00:00Z")]

    def list_schedules(self, cloud: Cloud) -> list[Schedule]:
        return [Schedule(SCHEDULE, "https://console/1", "ACTIVE", "TZ=Etc/UTC 0 3 * * 1", "2026-11-30T03:00:00Z")]

    def delete_schedule(self, cloud: Cloud, name: str) -> None:
        self.sent.append(("delete", name))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Service:
    """Replaces the service, and the compiler, which has tests of its own and takes long to import."""
    found = Service()
    for name in ("submit_run", "follow_run", "get_run", "cancel_run", "list_runs"):
        monkeypatch.setattr(runs, name, getattr(found, name))
    for name in ("create_schedule", "list_schedules", "delete_schedule"):
        monkeypatch.setattr(schedules, name, getattr(found, name))
    monkeypatch.setattr(
        run_vertex, "compile_quietly", lambda config, settings, offline: (make_job(), (f"offline is {offline}",))
    )
    return found


def test_a_run_is_submitted_with_all_that_the_spec_does_not_say(
    stand_in: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [
        "--service-account=runner@my-project.iam.gserviceaccount.com",
        "--network=projects/1/global/networks/mine",
        "--encryption-key=projects/p/locations/l/keyRings/r/cryptoKeys/k",
        "--experiment=first",
        "--labels=team=vision",
        "--no-cache",
        "--fail-fast",
        "--api-endpoint=localhost:1",
    ]
    assert run_vertex.main([*FLAGS, *flags]) == 0
    ((_, cloud, submission),) = stand_in.sent
    assert cloud == Cloud("my-project", "us-central1", "localhost:1")
    assert submission.run_id.startswith("digits-20")
    assert submission.spec == make_job()
    assert submission.settings == make_settings(
        service_account="runner@my-project.iam.gserviceaccount.com",
        network="projects/1/global/networks/mine",
        encryption_key="projects/p/locations/l/keyRings/r/cryptoKeys/k",
        experiment="first",
        labels={"team": "vision"},
        cache=False,
        fail_fast=True,
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "note: offline is False"
    assert lines[-2:] == [f"submitted {RUN.name}", RUN.console_url]


@pytest.mark.parametrize(("final_state", "status"), [("SUCCEEDED", 0), ("FAILED", 1), ("CANCELLED", 1)])
def test_wait_follows_the_run_and_its_end_is_the_exit_status(
    stand_in: Service, final_state: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in.final_state = final_state
    assert run_vertex.main([*FLAGS, "--wait"]) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split() == ["Trainer", "RUNNING"]
    assert lines[-1] == f"{RUN.name}: {final_state}"


def test_a_schedule_in_place_of_a_run(stand_in: Service, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--schedule=0 3 * * 1", "--time-zone=Europe/Berlin", "--max-concurrent-runs=2"]
    assert run_vertex.main([*FLAGS, *flags]) == 0
    ((_, submission),) = stand_in.sent
    plan = ScheduleSettings(cron="0 3 * * 1", time_zone="Europe/Berlin", max_concurrent_runs=2)
    assert submission.settings.schedule == plan
    assert "scheduled projects/p/locations/l/schedules/1: 0 3 * * 1 (Europe/Berlin)" in capsys.readouterr().out


def test_status_list_and_cancel_need_project_and_region_alone(
    stand_in: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_vertex.main(["list", *FLAGS[:2]]) == 0
    run, schedule = capsys.readouterr().out.splitlines()
    assert run.split() == ["digits-1", "RUNNING", "2026-11-24T00:00:00Z"]
    assert schedule == f"{SCHEDULE}  ACTIVE  TZ=Etc/UTC 0 3 * * 1  next 2026-11-30T03:00:00Z"
    assert run_vertex.main(["status", "digits-1", *FLAGS[:2]]) == 0
    shown = capsys.readouterr().out
    assert f"{RUN.name}  FAILED\n" in shown
    assert "Trainer                  FAILED  no quota" in shown
    assert run_vertex.main(["cancel", "digits-1", *FLAGS[:2]]) == 0
    assert stand_in.sent == [("cancel", "digits-1")]
    assert "CANCELLING" in capsys.readouterr().out
    assert run_vertex.main(["cancel", SCHEDULE, *FLAGS[:2]]) == 0
    assert stand_in.sent[1:] == [("delete", SCHEDULE)]
    assert capsys.readouterr().out == f"{SCHEDULE} is ended; runs that it has started go on\n"


def test_a_fault_of_the_service_is_one_line_and_status_1(
    stand_in: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> Run:
        raise CloudFault("the service cannot be reached")

    monkeypatch.setattr(runs, "submit_run", fail)
    assert run_vertex.main(FLAGS) == 1
    assert capsys.readouterr().err == "error: the service cannot be reached\n"


def test_a_spec_that_is_written_is_whole_or_not_there(stand_in: Service, tmp_path: Path) -> None:
    path = tmp_path / "new" / "spec.json"
    assert run_vertex.main([*FLAGS, f"--compile-only={path}"]) == 0
    assert json.loads(path.read_text()) == make_job()
    assert [entry.name for entry in path.parent.iterdir()] == ["spec.json"]
    assert stand_in.sent == []


def test_a_run_that_may_cost_too_much_is_not_submitted(
    stand_in: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("date: 2026-11-01\nregion: us-central1\nsource: a\ntasks: {cpu: 1, memory_gb: 0}\n")
    assert run_vertex.main([*FLAGS, f"--prices={prices}", "--max-cost=191"]) == 2
    assert stand_in.sent == []
    assert "--max-cost 191: the run may cost up to 192.00 USD" in capsys.readouterr().err
    assert run_vertex.main([*FLAGS, f"--prices={prices}", "--max-cost=192"]) == 0
    assert len(stand_in.sent) == 1


def test_nothing_is_submitted_that_the_check_finds_wrong(
    stand_in: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = make_job(dependentTasks=["Nobody"])
    monkeypatch.setattr(run_vertex, "compile_quietly", lambda config, settings, offline: (broken, ()))
    assert run_vertex.main(FLAGS) == 2
    assert stand_in.sent == []
    captured = capsys.readouterr()
    assert "error    spec: task Trainer needs Nobody, which is no task" in captured.out
    assert captured.err == "error: nothing was submitted; see what --check says above\n"


@pytest.mark.parametrize(("dependency", "status"), [([], 0), (["Nobody"], 1)])
def test_check_prints_every_finding_and_sends_nothing(
    stand_in: Service,
    monkeypatch: pytest.MonkeyPatch,
    dependency: list[str],
    status: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = make_job(dependentTasks=dependency)
    monkeypatch.setattr(run_vertex, "compile_quietly", lambda config, settings, offline: (job, ()))
    monkeypatch.setattr("pipeline.vertex.cloud_check.make_session", lambda: None)
    assert run_vertex.main([*FLAGS, "--check"]) == status
    assert stand_in.sent == []
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[1] for line in lines} >= {
        "versions:",
        "names:",
        "spec:",
        "Trainer:",
        "bucket:",
        "APIs:",
        "quota:",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "--project=my-project", "--region=us-central1"], "status needs a run; give its name"),
        (["list", "--project=my-project"], "region must be known; give --region"),
        (
            ["submit", "digits-1", *FLAGS],
            "submit takes no run, but 'digits-1' is given; did you mean status or cancel?",
        ),
        ([*FLAGS, "--compile-only=/"], "--compile-only /: is a folder; give a file, such as /spec.json"),
        ([*FLAGS, "--compile-only=/proc/a/b"], "--compile-only /proc/a/b: cannot be written: No such file"),
        (
            [*FLAGS, "--traffic-percent=10"],
            "endpoint.traffic_percent is 10, but there is no endpoint; give endpoint.name",
        ),
        ([*FLAGS, "--compile-only=a", "--wait"], "--compile-only writes the spec and stops; leave out"),
        (["list", "digits-1", *FLAGS], "list takes no run, but 'digits-1' is given; did you mean status or cancel?"),
        ([*FLAGS, "--check", "--wait"], "--check submits nothing to --wait for; leave one out"),
        ([*FLAGS, "--schedule=0 3 * * *", "--wait"], "--wait follows one run, but --schedule starts many"),
        ([*FLAGS, "--schedule=0 3 * * *", "--experiment=e"], "--experiment lists runs that are submitted here, not"),
        ([*FLAGS, "--prices=p.yaml"], "--prices are for a limit; give --max-cost AMOUNT, too, or leave it out"),
        ([*FLAGS, "--max-cost=1"], "--max-cost needs prices, and none are shipped; give --prices FILE"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    stand_in: Service, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_vertex.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert stand_in.sent == []


def test_the_whole_way_over_the_wire(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = json.loads((Path(__file__).parent / "golden" / "vertex_digits.json").read_text())
    monkeypatch.setattr(run_vertex, "compile_quietly", lambda config, settings, offline: (job, ()))
    monkeypatch.setattr(run_vertex, "make_run_id", lambda name, now: f"{name}-1")
    vertex, network = VertexService(), Network()
    vertex.scripts["digits-1"] = [("RUNNING", {"Trainer": "RUNNING"}), ("SUCCEEDED", {"Trainer": "SUCCEEDED"})]
    flags = [
        f"--project={PROJECT}",
        *FLAGS[1:],
        "--wait",
        "--labels=team=vision",
        "--beam-runner=dataflow",
        "--tpu=v5e-4",
    ]
    with standing_in(network, vertex, monkeypatch, tmp_path):
        assert run_vertex.main(flags) == 0
    (request,) = network.requests("CreatePipelineJob")
    sent = request.pipeline_job
    assert dict(sent.labels)["team"] == "vision"
    assert dict(sent.labels)["tfx_runner"] == "kubeflow_v2"
    assert sent.runtime_config.gcs_output_directory == "gs://my-bucket/root"
    tasks = sent.pipeline_spec["root"]["dag"]["tasks"]
    assert set(tasks) == set(job["pipelineSpec"]["root"]["dag"]["tasks"])
    assert tasks["Trainer"]["retryPolicy"]["maxRetryCount"] == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[-3:-1]] == [["Trainer", "RUNNING"], ["Trainer", "SUCCEEDED"]]
    assert lines[-1] == f"projects/{PROJECT}/locations/us-central1/pipelineJobs/digits-1: SUCCEEDED"


def test_run_ids_begin_with_a_letter() -> None:
    now = datetime.datetime(2026, 11, 24, 1, 2, 3)
    assert run_vertex.make_run_id("digits", now) == "digits-20261124010203"
    assert run_vertex.make_run_id("10-classes", now) == "run-10-classes-20261124010203"
