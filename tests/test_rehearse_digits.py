"""The digits, compiled for Vertex AI and rehearsed: twice whole, the Trainer's job, and broken in five ways."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tfx.types import standard_artifacts
from tfx.types.artifact import Artifact

from components.google_cloud.trainer_job import Executor
from tests.vertex_service import VertexService
from tests.vertex_stand_in import Network, standing_in

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow

COMPILE = [
    *("-m", "pipeline.run_vertex", "--preset", "digits", "--project", "rehearsal", "--region", "us-central1"),
    *("--pipeline-root", "gs://rehearsal/root", "--image", "us-docker.pkg.dev/rehearsal/images/pipeline:local"),
    *("--tpu", "v5e-4", "--beam-runner", "dataflow", "--endpoint", "digits", "--retries", "0"),
]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("compiled") / "spec.json"
    compiled = python(*COMPILE, "--compile-only", str(path))
    assert compiled.returncode == 0, compiled.stderr
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def rehearse(job: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "spec.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    return python("-m", "pipeline.rehearse", str(path), "--output-dir", str(folder / "out"))


@pytest.fixture(scope="module")
def rehearsed(job: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a first rehearsal."""
    folder = tmp_path_factory.mktemp("rehearsed")
    first = rehearse(job, folder)
    assert first.returncode == 0, first.stdout
    (folder / "stdout").write_text(first.stdout, encoding="utf-8")
    return folder


@pytest.mark.timeout(1800)
def test_two_rehearsals_of_the_digits(job: dict[str, Any], rehearsed: Path) -> None:
    first = (rehearsed / "stdout").read_text(encoding="utf-8")
    assert f"gs://rehearsal -> {rehearsed}/out/gs/rehearsal" in first
    assert "Trainer: components.google_cloud.trainer_job.Executor -> " in first
    assert "Transform: --runner=DataflowRunner" in first
    served = "a new endpoint is dedicated, served by us-docker.pkg.dev/rehearsal/images/pipeline:local-serving"
    assert f"endpoint_executor.EndpointExecutor ({served}) -> components.pusher.executor.Executor" in first
    assert "ModelResolver-model-resolver" in first
    assert "found nothing to look for" in first
    (version,) = (rehearsed / "out/endpoint/Pusher").glob("[0-9]*")
    assert (version / "saved_model.pb").exists()

    second = rehearse(job, rehearsed)
    assert second.returncode == 0, second.stdout
    ended = {line.split()[1]: line for line in second.stdout.splitlines() if line[:3] in (" ✓ ", " = ", " ✗ ")}
    assert "cached" in ended["Trainer"]
    assert "cached" not in ended["Evaluator"]
    assert f"model: {rehearsed}/out/gs/rehearsal/root/" in ended["ModelResolver-model-resolver"]
    started = sorted((rehearsed / "out/logs").glob("*/Evaluator.attempt-1.json"))[1]
    given = json.loads(started.read_text(encoding="utf-8"))["executorInput"]["inputs"]["artifacts"]
    assert given["baseline_model"]["artifacts"][0]["uri"] == given["model"]["artifacts"][0]["uri"]


@pytest.mark.timeout(1800)
def test_two_machines_of_the_trainer_s_job_train_together(rehearsed: Path, tmp_path: Path) -> None:
    """In the same folder: what comes before the Trainer is served from cache."""
    spec = tmp_path / "spec.json"
    words = [word for word in COMPILE if word not in ("--tpu", "v5e-4")]
    compiled = python(*words, "--gpu", "NVIDIA_L4:1", "--trainer-replicas", "2", "--compile-only", str(spec))
    assert compiled.returncode == 0, compiled.stderr
    done = python("-m", "pipeline.rehearse", str(spec), "--output-dir", str(rehearsed / "out"))
    assert done.returncode == 0, done.stdout
    assert "pipeline.rehearsal.trainer_job.Executor: its 2 machines as processes, on CPUs" in done.stdout
    ended = {line.split()[1]: line for line in done.stdout.splitlines() if line[:3] in (" ✓ ", " = ", " ✗ ")}
    assert "cached" in ended["Transform"]
    assert "cached" not in ended["Trainer"]
    records = [json.loads(path.read_text()) for path in (rehearsed / "out/gs").rglob("model_run/training.json")]
    assert [record["strategy"] for record in records].count("several workers x 2") == 1


@pytest.mark.timeout(1800)
def test_the_command_of_the_trainer_s_job_trains(
    rehearsed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the rehearsal replaces: the job is created over the wire, and its command run as its container would be."""
    (started,) = sorted((rehearsed / "out/logs").glob("*/Trainer.attempt-1.json"))[:1]
    given = json.loads(started.read_text(encoding="utf-8"))["executorInput"]["inputs"]
    inputs = {
        key: [make_artifact(kind, given["artifacts"][key]["artifacts"][0])]
        for key, kind in {
            "examples": standard_artifacts.Examples,
            "transform_graph": standard_artifacts.TransformGraph,
            "schema": standard_artifacts.Schema,
        }.items()
    }
    outputs = {
        "model": [make_artifact(standard_artifacts.Model, {"uri": str(tmp_path / "model")})],
        "model_run": [make_artifact(standard_artifacts.ModelRun, {"uri": str(tmp_path / "model_run")})],
    }
    properties = dict(given["parameterValues"])
    config = json.loads(properties["custom_config"])
    properties["custom_config"] = json.dumps({**config, "checkpoint_dir": str(tmp_path / ".resume")})
    network, service = Network(), VertexService()
    with standing_in(network, service, monkeypatch, tmp_path):
        Executor().Do(inputs, outputs, properties)
    (created,) = service.custom_jobs.values()
    (pool,) = created.job_spec.worker_pool_specs
    assert pool.machine_spec.machine_type == "ct5lp-hightpu-4t"
    trained = python(*pool.container_spec.command[1:])
    assert trained.returncode == 0, trained.stderr[-2000:]
    assert (tmp_path / "model/Format-Serving/saved_model.pb").exists()


def make_artifact(kind: type[Artifact], described: dict[str, Any]) -> Artifact:
    made = kind()
    made.uri = described["uri"]
    if "split_names" in described.get("metadata", {}):
        made.split_names = described["metadata"]["split_names"]
    return made


def missing_module(spec: dict[str, Any]) -> None:
    args = spec["deploymentSpec"]["executors"]["ImageExampleGen_executor"]["container"]["args"]
    args[args.index("--executor_class_path") + 1] = "components.no_such_node.executor.Executor"


def failing_container(spec: dict[str, Any]) -> None:
    parameters = spec["root"]["dag"]["tasks"]["ImageExampleGen"]["inputs"]["parameters"]
    parameters["data_settings"]["runtimeValue"]["constant"] = json.dumps(
        {"source": "image_folder", "path": "/no/such/folder"}
    )


def wrong_artifact_type(spec: dict[str, Any]) -> None:
    inputs = spec["components"]["Pusher"]["inputDefinitions"]["artifacts"]
    inputs["model"] = copy.deepcopy(inputs["model_blessing"])


def bad_parameter(spec: dict[str, Any]) -> None:
    parameters = spec["root"]["dag"]["tasks"]["Transform"]["inputs"]["parameters"]
    parameters["disable_statistics"]["runtimeValue"]["constant"] = "yes"


def cycle(spec: dict[str, Any]) -> None:
    spec["root"]["dag"]["tasks"]["StatisticsGen"]["dependentTasks"].append("Transform")


@pytest.mark.parametrize(
    ("break_it", "status", "message"),
    [
        (missing_module, 1, "Could not import components.no_such_node.executor.Executor"),
        (failing_container, 1, "/no/such/folder"),
        (
            wrong_artifact_type,
            2,
            "declares its input 'model' as tfx.ModelBlessing, but the output 'model' of 'Trainer' is",
        ),
        (
            bad_parameter,
            2,
            "has the parameter 'disable_statistics' = 'yes', but its component declares it as NUMBER_INTEGER",
        ),
        (cycle, 2, "the tasks wait for each other in a cycle: "),
    ],
)
def test_a_broken_spec_is_reported(
    break_it: Callable[[dict[str, Any]], None], status: int, message: str, job: dict[str, Any], tmp_path: Path
) -> None:
    broken = copy.deepcopy(job)
    break_it(broken["pipelineSpec"])
    done = rehearse(broken, tmp_path)
    assert done.returncode == status
    assert message in (done.stderr if status == 2 else done.stdout)
    if status == 1:
        assert "✗ ImageExampleGen" in done.stdout
        assert "StatisticsGen 0.0 s not run: ImageExampleGen failed" in " ".join(done.stdout.split())
