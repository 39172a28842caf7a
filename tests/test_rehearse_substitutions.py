"""What a rehearsal replaces, and that it replaces nothing else."""

import json
from pathlib import Path

import pytest
from google.protobuf import json_format

from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS
from pipeline.rehearsal.checks import check_tasks
from pipeline.rehearsal.graph import make_tasks
from pipeline.rehearsal.spec import read_spec
from pipeline.rehearsal.substitutions import Places, Substitution, substitute
from tests.tiny_spec import MODEL, TinySpec

TRAINER = "components.google_cloud.trainer_job.Executor"
PUSHER = "components.pusher.endpoint_executor.EndpointExecutor"
COMMAND = ["python", "-m", "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor"]


def executor(path: str, *beam: str, after: str = "") -> dict:
    args = ["--executor_class_path", path, "--json_serialized_invocation_args", "{{$}}", *beam]
    return {"container": {"image": "image:1", "command": [*COMMAND, *filter(None, [after])], "args": args}}


def substituted(spec: TinySpec, folder: Path) -> tuple[dict, list[Substitution]]:
    tasks = make_tasks(read_spec(Path(spec.write(folder))))
    check_tasks("the spec", tasks)
    return substitute(tasks, Places(folder), folder)


def test_the_vertex_trainer_becomes_the_local_one(tmp_path: Path) -> None:
    spec = TinySpec()
    spec.add("Trainer", executor(TRAINER))
    local, found = substituted(spec, tmp_path)
    assert local["Trainer"].executor.container.args[1] == "tfx.components.trainer.executor.GenericExecutor"
    assert Substitution("Trainer", TRAINER, "tfx.components.trainer.executor.GenericExecutor") in found


def test_the_machines_of_a_trainer_s_job_become_processes(tmp_path: Path) -> None:
    spec = TinySpec()
    for name, counts in {"One": [1], "Three": [1, 2]}.items():
        job = {"job_spec": {"worker_pool_specs": [{"replica_count": count} for count in counts]}}
        config = json.dumps({"ai_platform_training_args": job})
        spec.add(name, executor(TRAINER), parameters={"custom_config": ("STRING", config)})
    local, found = substituted(spec, tmp_path)
    used = {name: task.executor.container.args[1] for name, task in local.items()}
    assert used == {
        "One": "tfx.components.trainer.executor.GenericExecutor",
        "Three": "pipeline.rehearsal.trainer_job.Executor",
    }
    said = f"{used['Three']}: its 3 machines as processes, on CPUs"
    assert Substitution("Three", TRAINER, said) in found


def test_dataflow_becomes_the_local_runner(tmp_path: Path) -> None:
    spec = TinySpec()
    flags = ["--runner=DataflowRunner", "--project=p", "--no_use_public_ips", "--labels=a=b"]
    spec.add("Transform", executor("a.b.Executor", *flags, after="--"))
    spec.add("Evaluator", executor("a.b.Executor", "--runner=DirectRunner", "--temp_location=gs://b/t"))
    local, found = substituted(spec, tmp_path)
    kept = ["--executor_class_path", "a.b.Executor", "--json_serialized_invocation_args", "{{$}}"]
    assert list(local["Transform"].executor.container.args) == [*kept, *IN_PROCESS_BEAM_ARGS]
    assert list(local["Evaluator"].executor.container.args)[4:] == [
        "--runner=DirectRunner",
        f"--temp_location={tmp_path}/gs/b/t",
    ]
    assert Substitution("Transform", " ".join(flags), "Beam's local runner") in found
    assert [item.where for item in found if item.used == "Beam's local runner"] == ["Transform"]


def test_an_endpoint_becomes_a_folder(tmp_path: Path) -> None:
    spec = TinySpec()
    spec.add("Pusher", executor(PUSHER), parameters={"custom_config": ("STRING", "{}")})
    local, found = substituted(spec, tmp_path)
    assert local["Pusher"].executor.container.args[1] == "components.pusher.executor.Executor"
    destination = local["Pusher"].parameters["push_destination"]
    assert json.loads(destination) == {"filesystem": {"baseDirectory": f"{tmp_path}/endpoint/Pusher"}}
    assert [item.where for item in found].count("Pusher") == 1


def test_what_would_serve_is_told(tmp_path: Path) -> None:
    spec = TinySpec()
    target = json.dumps({"endpoint": {"name": "shop", "kind": "dedicated", "serving_image": "i:1-serving"}})
    spec.add("Pusher", executor(PUSHER), parameters={"custom_config": ("STRING", target)})
    _, found = substituted(spec, tmp_path)
    (pusher,) = (item for item in found if item.where == "Pusher")
    assert pusher.found == f"{PUSHER} (a new endpoint is dedicated, served by i:1-serving)"


def test_buckets_become_folders_wherever_they_are_named(tmp_path: Path) -> None:
    spec = TinySpec()
    container = {"image": "i", "command": ["python", "-c", "0", "gs://one/a"], "args": ["--to=gs://two"]}
    config = json.dumps({"dir": "gs://three/x"})
    spec.add("Task", {"container": container}, parameters={"config": ("STRING", config)})
    local, found = substituted(spec, tmp_path)
    task = local["Task"]
    assert task.executor.container.command[3] == f"{tmp_path}/gs/one/a"
    assert task.executor.container.args[0] == f"--to={tmp_path}/gs/two"
    assert json.loads(task.parameters["config"]) == {"dir": f"{tmp_path}/gs/three/x"}
    assert [item.found for item in found] == ["image i", "gs://one", "gs://three", "gs://two"]


def test_nothing_else_changes(tmp_path: Path) -> None:
    spec = TinySpec()
    container = {"image": "i", "command": ["sh", "-c", "true"], "args": ["{{$}}", "--runner", "x"], "env": []}
    spec.add("Task", {"container": container}, outputs={"model": MODEL}, parameters={"n": ("NUMBER_INTEGER", 2)})
    tasks = make_tasks(read_spec(Path(spec.write(tmp_path))))
    local, _ = substitute(tasks, Places(tmp_path), tmp_path)
    assert json_format.MessageToDict(local["Task"].executor) == json_format.MessageToDict(tasks["Task"].executor)
    assert local["Task"].parameters == {"n": 2}


@pytest.mark.parametrize("text", ["gs://b", 'a "gs://b/c"', "x,gs://b"])
def test_a_bucket_ends_where_its_name_ends(text: str, tmp_path: Path) -> None:
    assert Places(tmp_path).local(text) == text.replace("gs://b", f"{tmp_path}/gs/b")
