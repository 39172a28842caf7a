"""The Trainer's job of several machines: as it was compiled, with the environment that Vertex AI sets, as processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from google.cloud import aiplatform_v1 as vertex
from tfx.types import standard_artifacts

from components.google_cloud.trainer_job import make_job
from components.trainer import TRAINING_FILE
from components.trainer.weights import ResolvedWeights
from pipeline.config import load_config
from pipeline.rehearsal.machines import Machine, run_machines
from pipeline.rehearsal.trainer_job import make_machines
from pipeline.vertex.compile import compile_spec
from pipeline.vertex.inputs import Inputs
from tests.trainer_run import read_weights
from tests.transform_run import SPLITS, make_artifact
from tests.vertex_settings import make_settings

ROOT = Path(__file__).parent.parent
TRAINER = {
    "recipe": "manual",
    "weights": "none",
    "precision": "float32",
    "batch_size": 8,
    "head_epochs": 2,
    "fine_tune_epochs": 6,
    "fine_tune_blocks": 5,
    "deterministic": True,
    "checkpoint_every_steps": 1,
    "steps_per_execution": 1,
}


def compile_job(examples: Path, output: Path, resume: Path) -> vertex.CustomJob:
    """Returns the job of a pipeline that was compiled for two machines, as its Trainer's task would send it."""
    config = load_config("digits", overrides=[f"trainer={json.dumps(TRAINER)}"])
    settings = make_settings(trainer={"gpu": "NVIDIA_L4", "replicas": 2})
    job = compile_spec(config, settings, Inputs("fingerprint", ResolvedWeights("none"), (), ()))
    parameters = job["pipelineSpec"]["root"]["dag"]["tasks"]["Trainer"]["inputs"]["parameters"]
    properties = {key: value["runtimeValue"]["constant"] for key, value in parameters.items()}
    # What the rehearsal does to the buckets of all parameters.
    custom_config = {**json.loads(properties["custom_config"]), "checkpoint_dir": str(resume)}
    return make_job(
        {
            "examples": [make_artifact(standard_artifacts.Examples, examples / "transformed", SPLITS)],
            "transform_graph": [make_artifact(standard_artifacts.TransformGraph, examples / "graph")],
        },
        {
            "model": [make_artifact(standard_artifacts.Model, output / "model")],
            "model_run": [make_artifact(standard_artifacts.ModelRun, output / "model_run")],
        },
        {**properties, "custom_config": json.dumps(custom_config)},
    )


def start(machine: Machine) -> subprocess.Popen[bytes]:
    return subprocess.Popen(machine.command, cwd=ROOT, env={**os.environ, **machine.environment})


def steps_saved(resume: Path) -> int:
    """Returns how many steps the newest checkpoint has behind it."""
    for path in resume.glob("*/state.json"):
        return int(json.loads(path.read_text())["state"]["total_steps"])
    return 0


def run_until(job: vertex.CustomJob, resume: Path, steps: int) -> list[subprocess.Popen[bytes]]:
    """Starts a job's machines, and returns once so many steps are saved."""
    processes = [start(machine) for machine in make_machines(job)]
    while steps_saved(resume) < steps:
        assert [process.poll() for process in processes] == [None, None]
        time.sleep(0.05)
    return processes


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_compiled_job_of_two_machines_ends_where_an_undisturbed_one_would(
    transformed: Path, tmp_path: Path
) -> None:
    expected, killed = tmp_path / "undisturbed", tmp_path / "killed"
    run_machines(make_machines(compile_job(transformed, expected, tmp_path / "resume-undisturbed")))
    resume = tmp_path / "resume"
    job = compile_job(transformed, killed, resume)
    # A machine is taken away, and Vertex AI starts all of them again; in the fine-tuning: the head takes 6 steps.
    processes = run_until(job, resume, 9)
    for process in processes:
        process.kill()
        process.wait()
    # A machine is told that it will be taken away: all save, and leave.
    processes = run_until(job, resume, 12)
    processes[1].terminate()
    assert [process.wait(120) for process in processes] == [-signal.SIGTERM, -signal.SIGTERM]
    assert 12 <= steps_saved(resume) < 24
    run_machines(make_machines(job))
    for folder in (expected, killed):
        record = json.loads((folder / "model_run" / TRAINING_FILE).read_text())
        assert (record["strategy"], record["replicas"]) == ("several workers x 2", 2)
        assert sum(epoch["phase"] != "head" for epoch in record["history"]) == 6
    found, wanted = (read_weights(folder / "model" / "Format-Serving") for folder in (killed, expected))
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])
    # The chief alone wrote, and cleared away.
    assert not list(resume.iterdir())


def make_custom_job(*counts: int) -> vertex.CustomJob:
    command = ["python", "-m", "pipeline.vertex.task", "--job"]
    container = {
        "image_uri": "i",
        "command": command,
        "env": [{"name": "A", "value": "b"}, {"name": "TRAINER_DEVICE", "value": "gpu"}],
    }
    pools = [{"replica_count": count, "container_spec": container} for count in counts]
    return vertex.CustomJob({"job_spec": {"worker_pool_specs": pools}})


def test_each_machine_has_its_command_and_the_environment_that_vertex_ai_sets() -> None:
    machines = make_machines(make_custom_job(1, 2))
    assert [machine.name for machine in machines] == ["chief 0", "worker 0", "worker 1"]
    configs = [json.loads(machine.environment["TF_CONFIG"]) for machine in machines]
    (cluster,) = {json.dumps(config["cluster"]) for config in configs}
    hosts = json.loads(cluster)
    assert {kind: len(addresses) for kind, addresses in hosts.items()} == {"chief": 1, "worker": 2}
    assert len({*hosts["chief"], *hosts["worker"]}) == 3
    assert [(config["task"]["type"], config["task"]["index"]) for config in configs] == [
        ("chief", 0),
        ("worker", 0),
        ("worker", 1),
    ]
    assert configs[0]["job"]["workerPoolSpecs"][1]["replicaCount"] == "2"
    for machine in machines:
        assert machine.command == [sys.executable, "-m", "pipeline.vertex.task", "--job"]
        assert machine.environment["A"] == "b"
        assert not machine.environment["TRAINER_DEVICE"]  # this machine was not taken for one


def machine(name: str, code: str, **environment: str) -> Machine:
    return Machine(name, [sys.executable, "-c", code], environment)


MEET = """
import os, time
open(os.environ["OWN"], "w").close()
while not os.path.exists(os.environ["OTHER"]):
    time.sleep(0.01)
"""


def test_the_machines_run_at_the_same_time(tmp_path: Path) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    run_machines([machine("chief 0", MEET, OWN=one, OTHER=two), machine("worker 0", MEET, OWN=two, OTHER=one)])


def test_all_machines_end_with_one_that_fails() -> None:
    waits = machine("chief 0", "import time; time.sleep(600)")
    with pytest.raises(RuntimeError, match="the process of worker 0 ended with status 7"):
        run_machines([waits, machine("worker 0", "import sys; sys.exit(7)")])


LEAVE = """
import os, signal, sys, time
def leave(*_):
    open(sys.argv[1], "w").close()
    sys.exit()
signal.signal(signal.SIGTERM, leave)
os.write(1, b"%d\\n" % os.getpid())  # in one piece: both write into one pipe
time.sleep(600)
"""
RUN = f"""
import sys
from pipeline.rehearsal.machines import Machine, run_machines
code = {LEAVE!r}
run_machines([Machine(str(n), [sys.executable, "-c", code, sys.argv[1] + "/" + str(n)], {{}}) for n in range(2)])
"""


def test_machines_are_told_to_end_with_the_task(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pids = [int(process.stdout.readline()) for _ in range(2)]
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
