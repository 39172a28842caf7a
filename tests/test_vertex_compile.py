"""The compiled spec: the local graph, what TFX leaves out, and no network."""

import json
import os
import re
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.dsl.compiler.compiler import Compiler

from components.pusher.component import AtomicPusher
from components.trainer.weights import ResolvedWeights
from data.errors import UserError
from pipeline import run_vertex
from pipeline.config import PipelineConfig, load_config
from pipeline.create_pipeline import Deployment, create_pipeline
from pipeline.vertex.compile import compile_spec
from pipeline.vertex.container_tasks import container_tasks
from pipeline.vertex.inputs import Inputs, data_choice, find_inputs
from pipeline.vertex.sources import ROOT
from tests.vertex_settings import IMAGE, make_settings

GOLDEN = Path(__file__).parent / "golden" / "vertex_digits.json"
INPUTS = Inputs("fingerprint", ResolvedWeights("none"), (), ())
RESOLVERS = ("ModelResolver-model-blessing-resolver", "ModelResolver-model-resolver")

TUNED = ("trainer.recipe=manual", "tuner.enabled=true")


def compiled(*overrides: str, inputs: Inputs = INPUTS, **changes: Any) -> dict[str, Any]:
    return compile_spec(load_config("digits", overrides=overrides), make_settings(**changes), inputs)


def tasks(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["pipelineSpec"]["root"]["dag"]["tasks"]
    return found


def containers(job: dict[str, Any]) -> dict[str, Any]:
    return {task.node: task.container for task in container_tasks(job["pipelineSpec"])}


def custom_config(job: dict[str, Any], node: str) -> dict[str, Any]:
    value = tasks(job)[node]["inputs"]["parameters"]["custom_config"]["runtimeValue"]["constant"]
    config: dict[str, Any] = json.loads(value)
    return config


@pytest.mark.parametrize(
    "changes", [{}, {"trainer": {"tpu": "v5e-4"}, "endpoint": {"name": "e"}, "beam": {"runner": "dataflow"}}]
)
def test_the_graph_is_the_local_one(changes: dict[str, Any]) -> None:
    config = load_config("digits")
    deployment = Deployment("/root", partial(AtomicPusher, base_directory="/served"), (), "/m.sqlite")
    local = Compiler().compile(create_pipeline(config, deployment, "fingerprint", INPUTS.weights))
    upstream = {node.pipeline_node.node_info.id: set(node.pipeline_node.upstream_nodes) for node in local.nodes}
    # The named exceptions: Vertex AI resolves the baseline in two tasks, and without knowing the candidate.
    del upstream["ModelResolver"]
    upstream = {
        name: {*(above - {"ModelResolver"}), *(RESOLVERS if "ModelResolver" in above else ())}
        for name, above in upstream.items()
    }
    upstream |= {RESOLVERS[0]: set(), RESOLVERS[1]: {RESOLVERS[0]}}
    found = {}
    for name, task in tasks(compiled(**changes)).items():
        producers = (
            {a["taskOutputArtifact"]["producerTask"] for a in task["inputs"].get("artifacts", {}).values()}
            if "inputs" in task
            else set()
        )
        found[name] = producers | set(task.get("dependentTasks", []))
    # Only the model is read of the two.
    for name in ("DriftValidator", "Evaluator", "Predictor"):
        found[name].add(RESOLVERS[0])
    assert found == upstream


def test_what_tfx_leaves_out_is_in_the_spec() -> None:
    job = compiled(
        retries={"count": 2, "backoff_seconds": 5},
        resources={"default": {"cpu": 2}, "ImageExampleGen": {"cpu": 8, "memory_gb": 52}},
        labels={"team": "vision"},
    )
    assert job["labels"]["team"] == "vision"
    assert job["labels"]["tfx_runner"] == "kubeflow_v2"
    assert job["runtimeConfig"]["gcsOutputDirectory"] == "gs://my-bucket/root"
    policy = {"maxRetryCount": 2, "backoffDuration": "5s", "backoffFactor": 2.0, "backoffMaxDuration": "3600s"}
    for node, container in containers(job).items():
        assert tasks(job)[node]["retryPolicy"] == policy
        assert container["image"] == IMAGE
        assert container["command"][:3] == ["python", "-m", "pipeline.vertex.task"]
        assert container["args"][:2] == ["--executor_class_path", container["args"][1]]
    assert containers(job)["ImageExampleGen"]["resources"] == {"cpuLimit": 8.0, "memoryLimit": 52.0}
    assert containers(job)["Pusher"]["resources"] == {"cpuLimit": 2.0, "memoryLimit": 16.0}
    assert "retryPolicy" not in tasks(job)[RESOLVERS[0]]


def test_formats_are_converted_by_a_task_after_the_push() -> None:
    job = compiled("export.formats=[onnx]")
    before = {"ImageExampleGen", "Trainer", "Predictor", "Pusher"}
    assert set(tasks(job)["ModelConverter"]["dependentTasks"]) == before
    assert "ModelConverter" in tasks(job)["ReportGen"]["dependentTasks"]
    (executor,) = [one for one in containers(job)["ModelConverter"]["args"] if one.endswith("ModelConverter_Executor")]
    assert executor == "components.model_converter.component.ModelConverter_Executor"


def test_the_trainer_s_job_and_the_time_of_the_task_that_waits_for_it() -> None:
    job = compiled(trainer={"tpu": "v5e-4", "timeout_hours": 30})
    args = containers(job)["Trainer"]["args"]
    assert args[1] == "components.google_cloud.trainer_job.Executor"
    assert custom_config(job, "Trainer")["ai_platform_training_args"]["project"] == "my-project"
    commands = {node: list(container["command"]) for node, container in containers(job).items()}
    seconds = {node: command[command.index("--timeout-seconds") + 1] for node, command in commands.items()}
    assert seconds["Trainer"] == str(31 * 3600)
    assert seconds["Pusher"] == str(24 * 3600)


def test_several_machines_train_by_the_strategy_for_them() -> None:
    machines = {"gpu": "NVIDIA_L4", "replicas": 2}
    alone, together = (
        custom_config(compiled(trainer={**machines, **more}), "Trainer") for more in ({"replicas": 1}, {})
    )
    assert alone == custom_config(compiled(trainer={"gpu": "NVIDIA_L4"}), "Trainer")
    assert (alone["trainer"].pop("strategy"), together["trainer"].pop("strategy")) == ("auto", "multi_worker")
    assert alone.pop("ai_platform_training_args") != together.pop("ai_platform_training_args")
    assert alone == together


def test_what_several_machines_cannot_decide_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"^decision\.target_precision is set and trainer\.replicas is 2, but where .*null$"
    ):
        compiled("decision.target_precision=0.9", trainer={"gpu": "NVIDIA_L4", "replicas": 2})


def test_dataflow_s_flags_are_those_of_beam_s_nodes_alone() -> None:
    job = compiled(beam={"runner": "dataflow", "components": {"Evaluator": {"runner": "direct"}}})
    on_dataflow = {
        node for node, container in containers(job).items() if "--runner=DataflowRunner" in container["args"]
    }
    assert on_dataflow == {"ImageExampleGen", "StatisticsGen", "Transform"}


def test_the_endpoint_is_the_pusher_s() -> None:
    job = compiled(endpoint={"name": "shop", "traffic_percent": 10}, labels={"team": "vision"})
    assert containers(job)["Pusher"]["args"][1] == "components.pusher.endpoint_executor.EndpointExecutor"
    target = custom_config(job, "Pusher")["endpoint"]
    assert (target["name"], target["model_id"], target["traffic_percent"]) == ("shop", "digits", 10)
    assert (target["project"], target["region"], target["labels"]) == ("my-project", "us-central1", {"team": "vision"})
    assert (target["kind"], target["container"], target["request_log"]) == ("dedicated", "pipeline", None)
    assert target["serving_image"] == "us-docker.pkg.dev/my-project/images/pipeline:v1-serving"


def test_an_image_without_a_tag_names_no_serving_image() -> None:
    image = f"us-docker.pkg.dev/p/r/pipeline@sha256:{'0' * 64}"
    with pytest.raises(UserError, match=r"no tag that would name the serving image; give endpoint\.serving_image"):
        compiled(image=image, endpoint={"name": "shop"})


def test_a_server_of_ones_own_reaches_the_pusher_with_port_routes_and_arguments() -> None:
    server = {
        "serving_image": "us-docker.pkg.dev/my-project/images/server:1",
        "serving_args": ["--rest_api_port=8501"],
        "serving_port": 8501,
        "predict_route": "/v1/models/digits:predict",
        "health_route": "/v1/models/digits",
    }
    gpu = {"machine_type": "n1-standard-8", "accelerator_type": "NVIDIA_TESLA_T4", "accelerator_count": 1}
    target = custom_config(compiled(endpoint={"name": "shop", **server, **gpu}), "Pusher")["endpoint"]
    assert {key: target[key] for key in {**server, **gpu}} == {**server, **gpu}


def cached(job: dict[str, Any]) -> set[str]:
    return {node for node, task in tasks(job).items() if task.get("cachingOptions", {}).get("enableCache")}


def test_nodes_whose_input_is_not_known_are_not_cached() -> None:
    everything = cached(compiled())
    assert {"ImageExampleGen", "Trainer"} < everything
    assert cached(compiled(inputs=Inputs("?", INPUTS.weights, ("ImageExampleGen",), ()))) == everything - {
        "ImageExampleGen"
    }
    assert cached(compiled(cache=False)) == set()


def test_a_component_that_is_none_gets_no_resources() -> None:
    with pytest.raises(
        UserError, match=re.escape("resources names Trainr, which is no component; there are DriftValidator, Evaluator")
    ):
        compiled(resources={"Trainr": {"cpu": 1}})


@pytest.mark.parametrize("trainer", [{"tpu": "v5e-4"}, {"gpu": "NVIDIA_L4:1"}, {"machine_type": "n1-highmem-16"}])
def test_a_search_that_would_not_have_the_trainer_s_machine_is_refused(trainer: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"tuner\.enabled is true, .* tune with python -m pipeline\.run_local --tune"):
        compiled(*TUNED, trainer=trainer)


def test_without_a_job_the_search_runs_beside_the_trainer() -> None:
    assert "Tuner" in tasks(compiled(*TUNED))


def normalised(job: dict[str, Any]) -> dict[str, Any]:
    """Returns a spec without what changes with a version or with an edit: hashes and versions."""
    text = json.dumps(job, indent=1, sort_keys=True)
    text = re.sub(r"\b[0-9a-f]{64}\b", "HASH", text)
    text = re.sub(r'"tfx_(py_version|version)": "[^"]*"', r'"tfx_\1": "VERSION"', text)
    text = re.sub(r'(--lane\\*",\s*\\*")tfx-[0-9.]+', r"\1LANE", text)
    text = re.sub(r'"sdkVersion": "[^"]*"', '"sdkVersion": "VERSION"', text)
    text = text.replace(r"\"_slice_sqls\": null, ", "")  # a field that TFDV no longer has
    result: dict[str, Any] = json.loads(text)
    return result


def test_the_spec_of_the_digits_preset_is_the_golden_one() -> None:
    """After a change that is meant: UPDATE_GOLDEN=1 python -m pytest tests/test_vertex_compile.py, and see the diff."""
    job = normalised(compiled(trainer={"tpu": "v5e-4"}, beam={"runner": "dataflow"}, labels={"team": "vision"}))
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(job, indent=1, sort_keys=True) + "\n")
    assert job == json.loads(GOLDEN.read_text())


NO_NETWORK = """
import socket, sys
def refuse(*_, **__):
    raise AssertionError("the network was asked")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from pipeline.run_vertex import main
sys.exit(main(sys.argv[1:]))
"""


def arguments(spec: Path) -> list[str]:
    flags = ["--project=my-project", "--region=us-central1", "--pipeline-root=gs://my-bucket/root", f"--image={IMAGE}"]
    return [*flags, "--tpu=v5e-4", "--beam-runner=dataflow", f"--compile-only={spec}"]


def check_compiled(printed: str, spec: Path) -> None:
    assert printed.splitlines() == [
        "note: trainer.weights is auto, which is none here; set it to imagenet to have the Trainer download them",
        f"wrote {spec}",
    ]
    job = json.loads(spec.read_text())
    parsed = json_format.ParseDict(job["pipelineSpec"], pipeline_spec_pb2.PipelineSpec())
    assert parsed.pipeline_info.name == "digits"
    assert os.listdir(spec.parent) == ["spec.json"]


def test_compile_only_asks_no_network_and_needs_no_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    for place, name in ((socket.socket, "connect"), (socket.socket, "connect_ex"), (socket, "getaddrinfo")):
        monkeypatch.setattr(place, name, refuse)
    for name in [name for name in os.environ if name.startswith(("GOOGLE_", "CLOUDSDK_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    spec = tmp_path / "out" / "spec.json"
    assert run_vertex.main(arguments(spec)) == 0
    check_compiled(capsys.readouterr().out, spec)
    with pytest.raises(AssertionError, match="the network was asked"):
        socket.create_connection(("localhost", 1))


@pytest.mark.slow
def test_nor_does_the_command_in_a_process_of_its_own_which_imports_all(tmp_path: Path) -> None:
    spec = tmp_path / "out" / "spec.json"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GOOGLE_", "CLOUDSDK_"))}
    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK, *arguments(spec)],
        cwd=ROOT,
        env={**environment, "HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    check_compiled(done.stdout, spec)


def test_the_guard_of_the_test_above_guards() -> None:
    code = NO_NETWORK.partition("from pipeline")[0] + "socket.create_connection(('localhost', 1))"
    assert (
        "the network was asked" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    )
    assert socket.socket  # untouched here


def image_config(**data: Any) -> PipelineConfig:
    return load_config("digits", overrides=[f"data={json.dumps({'source': 'image_folder', **data})}"])


def test_images_in_a_bucket_are_read_anew_unless_a_manifest_tells_of_changes(tmp_path: Path) -> None:
    config = image_config(path="gs://my-bucket/images")
    inputs = find_inputs(config, make_settings(), offline=True)
    assert inputs.uncached == ("ImageExampleGen",)
    assert "reads gs://my-bucket/images anew in each run" in inputs.notes[0]
    manifest = tmp_path / "images.txt"
    manifest.write_text("a 1\n")
    first = find_inputs(config, make_settings(data_manifest=str(manifest)), offline=True)
    assert first.uncached == ()
    manifest.write_text("b 1\n")
    assert (
        find_inputs(config, make_settings(data_manifest=str(manifest)), offline=True).fingerprint != first.fingerprint
    )


def test_each_run_of_a_schedule_looks_for_the_newest_span() -> None:
    config = image_config(path="gs://my-bucket/day-{SPAN}", num_spans=2)
    job = compile_spec(config, make_settings(), find_inputs(config, make_settings(), offline=True))
    tasks = container_tasks(job["pipelineSpec"])
    (example_gen,) = (task for task in tasks if task.node == "ImageExampleGen")
    assert example_gen.spec["cachingOptions"] == {}
    assert "gs://my-bucket/day-{SPAN}" in json.dumps(example_gen.spec)  # found by the node, not now


@pytest.mark.parametrize(
    ("path", "name", "source"),
    [
        ("gs://my-bucket/My Flowers/", "my-flowers", "image_folder"),
        ("gs://my-bucket/cifar-10-python.tar.gz", "cifar-10-python", "cifar10"),
        ("gs://my-bucket/train-*", "train", "tfrecords"),
        ("gs://my-bucket/birds.tfrecord", "birds", "tfrecords"),
    ],
)
def test_data_in_a_bucket_is_known_by_its_name(path: str, name: str, source: str) -> None:
    choice = data_choice(path)
    assert choice is not None
    assert (choice.name, choice.settings) == (name, {"source": source, "path": path})
    with pytest.raises(UserError, match="--data is /images, which Vertex AI cannot see"):
        data_choice("/images")


@pytest.mark.parametrize("tuned", ["tuner.enabled=true", "tuner.enabled=false"])
def test_a_mirror_of_the_weights_is_a_node_that_marks_no_other(tuned: str) -> None:
    mirror = "trainer.weights_mirror=gs://my-bucket/keras"
    overrides = ["trainer.weights=imagenet", mirror, "trainer.recipe=manual", tuned]
    inputs = find_inputs(load_config("digits", overrides=overrides), make_settings(), offline=True)
    job, without = (
        compiled(*overrides, inputs=inputs),
        compiled(*(override for override in overrides if override != mirror), inputs=inputs),
    )
    assert set(tasks(job)) - set(tasks(without)) == {"WeightsMirror"}
    assert "WeightsMirror" not in cached(job)
    parameters = tasks(job)["WeightsMirror"]["inputs"]["parameters"]
    assert {name: value["runtimeValue"]["constant"] for name, value in parameters.items()} == {
        "backbone": "vgg16",
        "mirror": "gs://my-bucket/keras",
        "weights_dir": "gs://my-bucket/root/.weights",
    }
    spec, expected = job["pipelineSpec"], without["pipelineSpec"]
    executors = spec["deploymentSpec"]["executors"]
    for node, task in tasks(without).items():
        found = tasks(job)[node]
        waits = "WeightsMirror" in found.get("dependentTasks", [])
        assert waits == (node in ("Trainer", "Tuner"))
        # What the service's cache looks at: the inputs, the component's interface, and its container.
        name = task["componentRef"]["name"]
        label = expected["components"][name]["executorLabel"]
        assert found.get("inputs") == task.get("inputs")
        assert spec["components"][name] == expected["components"][name]
        assert executors[label] == expected["deploymentSpec"]["executors"][label]
    assert custom_config(job, "Trainer")["weights_dir"] == "gs://my-bucket/root/.weights"


def test_weights_are_known_by_their_hash_without_a_download() -> None:
    config = load_config("digits", overrides=["trainer.weights=imagenet"])
    weights = find_inputs(config, make_settings(), offline=True).weights
    assert (weights.kind, weights.path, weights.sha256) == ("imagenet", None, "md5:6d6bbae143d832006294945121d1f1fc")
    config = load_config("digits", overrides=["trainer.weights=gs://my-bucket/w.h5"])
    inputs = find_inputs(config, make_settings(), offline=True)
    assert (inputs.weights.kind, inputs.uncached) == ("gs://my-bucket/w.h5", ("Trainer",))
    scheduled = make_settings(schedule={"cron": "0 3 * * *"})
    assert find_inputs(config, scheduled, offline=False).uncached == ("Trainer",)


@pytest.mark.parametrize(
    ("overrides", "changes", "message"),
    [
        (
            ["data={source: image_folder, path: /images}"],
            {},
            "data.path is /images, which Vertex AI cannot see; copy it",
        ),
        (["schema_path=/s.pbtxt"], {}, "schema_path is /s.pbtxt, which Vertex AI cannot see"),
        (["trainer.weights=/w.h5"], {}, "trainer.weights is /w.h5, which Vertex AI cannot see"),
        (["trainer.weights_mirror=file:///w"], {}, "trainer.weights_mirror is file:///w, which Vertex AI cannot see"),
        (["serving_model_dir=/served"], {}, "serving_model_dir is /served, which Vertex AI cannot see"),
        (["data.uri_map={s3://b: /x}"], {}, "data.uri_map.s3://b is /x, which Vertex AI cannot see"),
        (
            ["data={source: cifar10}"],
            {"beam": {"runner": "dataflow"}},
            "data.source is cifar10 without data.path, which is downloaded to one machine, not to Dataflow's workers",
        ),
        (
            ["serving_model_dir=gs://b/served"],
            {"endpoint": {"name": "e"}},
            "serving_model_dir is gs://b/served and endpoint.name is e; the model is pushed to one place",
        ),
        (["schema_path=gs://b/s.pbtxt"], {}, "schema_path is gs://b/s.pbtxt, which --compile-only cannot read"),
        (
            ["data={source: image_folder, path: 'gs://b/{SPAN}'}"],
            {"data_manifest": "list"},
            "data.path is gs://b/{SPAN}, whose newest spans each run looks for",
        ),
        ([], {"data_manifest": "/no/list"}, "data_manifest is /no/list, which cannot be read: No such file"),
        ([], {"data_manifest": "gs://b/list"}, "data_manifest is gs://b/list, which --compile-only cannot read"),
        ([], {"data_manifest": "list", "schedule": {"cron": "0 3 * * *"}}, "data_manifest is list, which is read once"),
    ],
)
def test_what_vertex_ai_cannot_see_is_refused(overrides: list[str], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        find_inputs(load_config("digits", overrides=overrides), make_settings(**changes), offline=True)
