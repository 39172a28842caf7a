"""Beam's flags: the job that Beam would send to Dataflow says what the settings say."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.internal.gcp import auth
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from gcp_storage_emulator.server import create_server

from data.errors import UserError
from data.settings import UnlabelledDataSettings
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS
from pipeline.scoring.job import ScoringOptions, make_plan, run_on_beam
from pipeline.scoring.place import Place
from pipeline.vertex.dataflow import BEAM_NODES, make_beam_args, placement_of
from tests.images import encode
from tests.vertex_settings import IMAGE, make_settings


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Cloud Storage on this machine, with the bucket of the settings."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    server = create_server("localhost", port, in_memory=True, default_bucket="my-bucket")
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://localhost:{port}")
    # What there are none of, Beam would look for five times, within 23 s.
    monkeypatch.setattr(auth, "get_service_credentials", lambda _: None)
    yield
    server.stop()


def make_job(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """Returns the job that Beam makes of the flags of Transform."""
    template = tmp_path / "job.json"
    flags = make_beam_args(make_settings(**changes), "digits", "Transform")
    # Without credentials, and written instead of sent.
    options = PipelineOptions([*flags, "--no_auth", f"--template_location={template}"])
    pipeline = beam.Pipeline(options=options)
    _ = pipeline | beam.Create([1, 2]) | beam.Map(str)
    pipeline.run()
    job: dict[str, Any] = json.loads(template.read_text())
    return job


def test_the_job_that_beam_makes_of_the_flags(tmp_path: Path, storage: None) -> None:
    job = make_job(
        tmp_path,
        service_account="pipeline@my-project.iam.gserviceaccount.com",
        encryption_key="projects/p/locations/l/keyRings/r/cryptoKeys/k",
        labels={"team": "vision"},
        beam={
            "runner": "dataflow",
            "machine_type": "n2-standard-8",
            "workers": 2,
            "max_workers": 20,
            "disk_gb": 80,
            "timeout_hours": 1,
            "subnetwork": "regions/us-central1/subnetworks/mine",
            "public_ips": False,
            "service_account": "workers@my-project.iam.gserviceaccount.com",
            "labels": {"stage": "beam"},
        },
    )
    environment = job["environment"]
    (pool,) = environment["workerPools"]
    assert [image["containerImage"] for image in pool["sdkHarnessContainerImages"]] == [IMAGE]
    assert (pool["machineType"], pool["numWorkers"], pool["diskSizeGb"]) == ("n2-standard-8", 2, 80)
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 20
    assert pool["subnetwork"] == "regions/us-central1/subnetworks/mine"
    assert pool["ipConfiguration"] == "WORKER_IP_PRIVATE"
    assert environment["serviceAccountEmail"] == "workers@my-project.iam.gserviceaccount.com"
    assert environment["serviceKmsKeyName"] == "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    assert environment["serviceOptions"] == ["max_workflow_runtime_walltime_seconds=3600"]
    assert "use_runner_v2" in environment["experiments"]
    assert job["labels"] == {"pipeline": "digits", "node": "transform", "team": "vision", "stage": "beam"}
    # The image holds Beam and our code: nothing is installed when a worker starts.
    packages = [package["name"] for package in pool.get("packages", [])]
    assert not [name for name in packages if name.endswith((".tar.gz", ".whl", ".zip"))]


def test_defaults_leave_the_network_and_the_first_number_of_workers_to_dataflow(tmp_path: Path, storage: None) -> None:
    job = make_job(tmp_path, beam={"runner": "dataflow"})
    (pool,) = job["environment"]["workerPools"]
    assert (pool["machineType"], pool["autoscalingSettings"]["maxNumWorkers"]) == ("n1-standard-4", 10)
    assert "subnetwork" not in pool
    assert pool.get("ipConfiguration") != "WORKER_IP_PRIVATE"


def test_steps_run_in_their_own_containers_unless_told_otherwise() -> None:
    assert all(make_beam_args(make_settings(), "digits", node) == IN_PROCESS_BEAM_ARGS for node in BEAM_NODES)


def test_one_step_may_differ() -> None:
    settings = make_settings(
        beam={
            "runner": "dataflow",
            "components": {"Evaluator": {"runner": "direct"}, "Transform": {"machine_type": "n2-highmem-4"}},
        }
    )
    assert make_beam_args(settings, "digits", "Evaluator") == IN_PROCESS_BEAM_ARGS
    assert "--machine_type=n2-highmem-4" in make_beam_args(settings, "digits", "Transform")
    assert "--machine_type=n1-standard-4" in make_beam_args(settings, "digits", "StatisticsGen")


@pytest.mark.parametrize(
    ("components", "message"),
    [
        (
            {"Trainer": {"runner": "dataflow"}},
            "beam.components names Trainer, which Beam does not run; it runs ImageEx",
        ),
        ({"Transform": {"workers": 11}}, "beam: Transform starts with 11 workers, more than its 10 at most"),
    ],
)
def test_a_step_that_cannot_be_placed_is_refused(components: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        placement_of(make_settings(beam={"components": components}), "Transform")


def test_scoring_is_a_small_job_of_the_same_flags_with_one_shard_an_element(tmp_path: Path, storage: None) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(50):
        (images / f"{number}.png").write_bytes(encode(np.full((4, 4, 3), number, np.uint8), "PNG"))
    options = ScoringOptions(str(tmp_path / "model" / "7"), 4, 2, None, UnlabelledDataSettings())
    place, template = Place(str(tmp_path / "scored.parquet")), tmp_path / "job.json"
    plan = make_plan([str(images)], place, options)
    flags = make_beam_args(make_settings(beam={"runner": "dataflow", "workers": 3}), "scoring", "Scoring")
    run_on_beam(plan, place, options, [*flags, "--no_auth", f"--template_location={template}"])
    job = json.loads(template.read_text())
    (pool,) = job["environment"]["workerPools"]
    assert [image["containerImage"] for image in pool["sdkHarnessContainerImages"]] == [IMAGE]
    assert (pool["numWorkers"], job["labels"]) == (3, {"pipeline": "scoring", "node": "scoring"})
    with FileSystems.open(job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]) as file:
        sent = file.read()
    transforms = beam_runner_api_pb2.Pipeline.FromString(sent).components.transforms
    assert {one.unique_name for one in transforms.values()} >= {"Places", "ListShards", "Spread", "ScoreShards"}
    # Where it groups, Dataflow spreads the shards over the workers in place of fusing the two steps.
    grouped = [
        one.unique_name for one in transforms.values() if one.spec.urn == common_urns.primitives.GROUP_BY_KEY.urn
    ]
    assert [name.split("/")[0] for name in grouped] == ["Spread"]
    assert b"7.png" not in sent  # no image is named in the job, however many there are
    assert not list((tmp_path / "scored.parquet").glob("part-*"))
