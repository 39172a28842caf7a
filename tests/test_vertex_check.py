"""The check before a run: versions, names, the spec, the jobs, the image; each finding one line with what to do."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from components.lane import installed_lane
from data.errors import UserError
from pipeline.lanes import LANES
from pipeline.locks import locked_versions
from pipeline.vertex.check import (
    Finding,
    check_gpus,
    check_image,
    check_jobs,
    check_names,
    check_server,
    check_spec,
    check_versions,
)
from pipeline.vertex.settings import VertexSettings
from pipeline.vertex.sources import make_sources_hash
from pipeline.vertex.worker_pools import make_custom_job
from tests.vertex_settings import IMAGE, make_settings

LANE = "tfx-1.16"
TESTED = locked_versions(LANE)


def make_job(**task_changes: Any) -> dict[str, Any]:
    """Returns a spec with one task, `Trainer`, that reads nothing."""
    return {
        "displayName": "digits",
        "labels": {},
        "runtimeConfig": {"gcsOutputDirectory": "gs://my-bucket/root"},
        "pipelineSpec": {
            "schemaVersion": "2.1.0",
            "pipelineInfo": {"name": "digits"},
            "root": {"dag": {"tasks": {"Trainer": {"componentRef": {"name": "Trainer"}, **task_changes}}}},
            "components": {"Trainer": {"executorLabel": "Trainer_executor"}},
            "deploymentSpec": {"executors": {"Trainer_executor": {"container": {"image": IMAGE}}}},
        },
    }


def errors(findings: Any) -> list[str]:
    return [str(finding) for finding in findings if finding.level == "error"]


def test_a_finding_is_one_line() -> None:
    assert str(Finding("error", "spec", "is\nwrong;  do this")) == "error    spec: is wrong; do this"


def test_the_tested_set_of_versions_passes_and_this_environment_is_one() -> None:
    assert [finding.level for finding in check_versions(TESTED, "3.10.13")] == ["ok"]
    assert [finding.level for finding in check_versions()] == ["ok"]


@pytest.mark.parametrize("lane", LANES)
def test_every_python_of_a_lane_passes_with_its_set_and_no_other_python(lane: str) -> None:
    for version in {version for other in LANES.values() for version in other.pythons}:
        fits = version in LANES[lane].pythons
        python = ".".join(map(str, version)) + ".1"
        assert (errors(check_versions(locked_versions(lane), python)) == []) == fits


@pytest.mark.parametrize(
    ("changes", "python", "message"),
    [
        ({}, "3.11.2", "error    python: is 3.11.2, but tfx-1.16 needs 3.10; make the environment with it"),
        (
            {"apache-beam": "2.74.0"},
            "3.10.1",
            "error    apache-beam: is 2.74.0, but the tested set has 2.60.0; install that",
        ),
        (
            {"tf-keras": "2.160.0"},
            "3.10.1",
            "error    tf-keras: is 2.160.0, but the tested set has 2.16.0; install that",
        ),
        ({"kfp": None}, "3.10.1", "error    kfp: is not installed; install 2.5.0"),
        ({"tfx": "1.15.1"}, "3.10.1", "error    tfx: is 1.15.1; make an environment of tfx-1.21 or tfx-1.16"),
        ({"tfx": None}, "3.10.1", "error    tfx: is not installed; make an environment of tfx-1.21 or tfx-1.16"),
    ],
)
def test_another_version_is_an_error(changes: dict[str, Any], python: str, message: str) -> None:
    installed = {key: value for key, value in {**TESTED, **changes}.items() if value is not None}
    assert errors(check_versions(installed, python)) == [message]


def test_names_within_the_rules_pass() -> None:
    assert [str(f) for f in check_names(make_job(), make_settings())] == ["ok       names: 1 tasks"]


@pytest.mark.parametrize(
    ("bucket", "message"),
    [
        ("my..bucket/root", "pipeline_root: has the bucket my..bucket, a name that Cloud Storage does not allow"),
        ("10.0.0.1/root", "pipeline_root: has the bucket 10.0.0.1, a name"),
        ("google-data/root", "pipeline_root: has the bucket google-data, a name"),
    ],
)
def test_a_name_against_the_rules_is_an_error(bucket: str, message: str) -> None:
    (found,) = errors(check_names(make_job(), make_settings(pipeline_root=f"gs://{bucket}")))
    assert message in found


def test_a_whole_bucket_is_a_warning() -> None:
    levels = [finding.level for finding in check_names(make_job(), make_settings(pipeline_root="gs://my-bucket"))]
    assert levels == ["warning", "ok"]


def test_a_sound_spec_passes() -> None:
    assert errors(check_spec(make_job())) == []


def break_field(job: dict[str, Any]) -> None:
    job["pipelineSpec"]["root"]["dag"]["tasks"]["Trainer"]["retryPolicie"] = {}


def break_executor_field(job: dict[str, Any]) -> None:
    job["pipelineSpec"]["deploymentSpec"]["executors"]["Trainer_executor"]["container"]["imagee"] = IMAGE


def break_executor(job: dict[str, Any]) -> None:
    job["pipelineSpec"]["deploymentSpec"]["executors"] = {}


def break_dependency(job: dict[str, Any]) -> None:
    job["pipelineSpec"]["root"]["dag"]["tasks"]["Trainer"]["dependentTasks"] = ["Transform"]


def break_input(job: dict[str, Any]) -> None:
    source = {"taskOutputArtifact": {"producerTask": "SchemaGen", "outputArtifactKey": "schema"}}
    job["pipelineSpec"]["root"]["dag"]["tasks"]["Trainer"]["inputs"] = {"artifacts": {"schema": source}}


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (break_field, 'Message type "ml_pipelines.PipelineTaskSpec" has no field named'),
        (break_executor_field, "has no field named"),
        (break_executor, "task Trainer has no executor"),
        (break_dependency, "task Trainer needs Transform, which is no task"),
        (break_input, "task Trainer needs SchemaGen, which is no task"),
    ],
)
def test_a_broken_spec_is_an_error(break_it: Any, message: str) -> None:
    job = make_job()
    break_it(job)
    (found,) = errors(check_spec(job))
    assert message in found


def job_of_a_trainer(settings: VertexSettings | None = None, **machine_changes: Any) -> dict[str, Any]:
    custom_job = make_custom_job(settings or make_settings(trainer={"tpu": "v5e-4"}), "digits")
    custom_job["job_spec"]["worker_pool_specs"][0]["machine_spec"] |= machine_changes
    config = {"ai_platform_training_args": {"project": "my-project", **custom_job}}
    constant = {"runtimeValue": {"constant": json.dumps(config)}}
    return make_job(inputs={"parameters": {"custom_config": constant}})


def test_the_trainer_s_job_is_read_as_the_service_reads_it() -> None:
    (finding,) = check_jobs(job_of_a_trainer())
    assert str(finding) == f"ok       Trainer: CustomJob on ct5lp-hightpu-4t with {IMAGE}-tpu"
    (found,) = errors(check_jobs(job_of_a_trainer(accelerator_type="TPU_V9")))
    assert "Trainer: its job is not what Vertex AI understands" in found
    assert [finding.level for finding in check_jobs(make_job())] == ["ok"]


def test_the_machines_of_the_trainer_s_job_are_counted() -> None:
    settings = make_settings(trainer={"gpu": "NVIDIA_L4", "replicas": 3})
    (finding,) = check_jobs(job_of_a_trainer(settings))
    assert str(finding) == f"ok       Trainer: CustomJob on 3 x g2-standard-8 with {IMAGE}-gpu"


def test_a_gpu_that_is_not_listed_is_a_warning_with_its_machine_and_an_error_without() -> None:
    newer = make_settings(trainer={"gpu": "nvidia_b200:8", "machine_type": "a4-highgpu-8g"})
    (finding,) = check_gpus(newer)
    assert str(finding).startswith("warning  trainer.gpu: is NVIDIA_B200, which is not known here: Vertex AI tells")
    machine = make_custom_job(newer, "digits")["job_spec"]["worker_pool_specs"][0]["machine_spec"]
    assert machine == {"machine_type": "a4-highgpu-8g", "accelerator_type": "NVIDIA_B200", "accelerator_count": 8}
    assert list(check_gpus(make_settings(trainer={"gpu": "NVIDIA_L4"}))) == []
    with pytest.raises(UserError, match=r"gpu is NVIDIA_B200:8, which is none; .* or a newer one with its machine"):
        make_settings(trainer={"gpu": "NVIDIA_B200:8"})
    with pytest.raises(UserError, match="gpu is NVIDIA_B200:many; give how many as TYPE:COUNT"):
        make_settings(trainer={"gpu": "NVIDIA_B200:many", "machine_type": "a4-highgpu-8g"})


@pytest.mark.parametrize(
    ("image", "warned"),
    [
        ("us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest", True),
        ("us-docker.pkg.dev/vertex-ai/prediction/tf2-gpu.9-0:latest", False),
        ("us-docker.pkg.dev/my-project/images/serving:9.0.1", False),
    ],
)
def test_a_server_that_is_older_than_the_exporter_is_a_warning(image: str, warned: bool) -> None:
    server = {"serving_image": image, "container": "tensorflow_serving"}
    settings = make_settings(endpoint={"name": "digits", **server})
    assert [finding.level for finding in check_server(settings)] == ["ok", *["warning"] * warned]
    assert list(check_server(make_settings(endpoint=server))) == []


@pytest.mark.parametrize(
    ("found", "level", "text"),
    [
        (None, "skipped", "is not on this machine; build it: make image STAGES=serving"),
        ({"lane": "tfx-9.9"}, "error", "is of the lane tfx-9.9, and"),
        ({"lane": installed_lane()}, None, ""),
    ],
)
def test_the_pipeline_s_own_server_is_of_the_lane_that_exports(
    found: dict[str, str] | None, level: str | None, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.vertex.check._image_labels", lambda image: found)
    first, *rest = check_server(make_settings(endpoint={"name": "digits"}))
    assert str(first) == f"ok       endpoint: digits is dedicated where it is new, served by {IMAGE}-serving"
    assert [finding.level for finding in rest] == ([level] if level else [])
    assert all(text in finding.text for finding in rest)


def labels(sources: str | None = None, lane: str | None = None) -> dict[str, str]:
    """Returns an image's labels: those that fit, but for what is given."""
    return {"sources-hash": sources or make_sources_hash(), "lane": lane or installed_lane()}


def engine(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """Puts a container engine into the path that knows one image."""
    script = folder / "docker"
    script.write_text(f"#!/bin/sh\necho '{answer}'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin{os.pathsep}/usr/bin")


def test_an_image_with_these_sources_passes_and_others_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine(tmp_path, monkeypatch, json.dumps(labels()))
    assert [finding.level for finding in check_image(make_settings())] == ["ok"]
    engine(tmp_path, monkeypatch, json.dumps(labels(sources="0" * 64)))
    assert f"{IMAGE} holds other sources (000000000000) than this checkout" in errors(check_image(make_settings()))[0]
    engine(tmp_path, monkeypatch, json.dumps(labels(lane="tfx-9.9")))
    (error,) = errors(check_image(make_settings()))
    assert f"{IMAGE} is of the lane tfx-9.9, and this environment of {installed_lane()}; build and push it" in error
    engine(tmp_path, monkeypatch, json.dumps({"sources-hash": make_sources_hash()}))
    assert f"{IMAGE} has no label lane; build it with make image" in errors(check_image(make_settings()))[0]
    engine(tmp_path, monkeypatch, "null")
    assert f"{IMAGE} has no label sources-hash; build it with make image" in errors(check_image(make_settings()))[0]


def test_an_image_that_is_not_here_is_skipped_and_one_without_a_tag_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert [finding.level for finding in check_image(make_settings())] == ["skipped"]
    levels = [finding.level for finding in check_image(make_settings(image="eu.gcr.io/my-project/pipeline"))]
    assert levels == ["warning", "skipped"]


@pytest.mark.skipif(shutil.which("buildah") is None, reason="needs buildah")
def test_buildah_tells_the_sources_of_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "buildah").symlink_to(str(shutil.which("buildah")))
    places = f'graphroot = "{tmp_path / "root"}"\nrunroot = "{tmp_path / "run"}"'
    (tmp_path / "storage.conf").write_text(f'[storage]\ndriver = "vfs"\n{places}\n')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    (tmp_path / "Dockerfile").write_text(
        f"FROM scratch\nARG HASH\nLABEL sources-hash=${{HASH}} lane={installed_lane()}\nCOPY Dockerfile /\n"
    )
    for tag, sources in (("v1", make_sources_hash()), ("v1-tpu", "0" * 64)):
        flags = ["--isolation", "chroot", "--build-arg", f"HASH={sources}", "--tag", f"localhost/pipeline:{tag}"]
        subprocess.run(["buildah", "bud", *flags, str(tmp_path)], check=True, capture_output=True, timeout=60)
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    settings = make_settings(image="localhost/pipeline:v1", trainer={"tpu": "v5e-4"})
    assert [str(finding).partition(" (")[0] for finding in check_image(settings)] == [
        "ok       image: localhost/pipeline:v1 holds the sources of this checkout",
        "error    image: localhost/pipeline:v1-tpu holds other sources",
    ]
    assert [finding.level for finding in check_image(make_settings(image="localhost/other:v1"))] == ["skipped"]


def test_an_installed_package_which_has_no_locks_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.locks.LOCKS", tmp_path / "locks")
    with pytest.raises(UserError, match=r"/locks/tfx-1\.16/environment\.txt is not there: .* in a checkout"):
        locked_versions("tfx-1.16")
