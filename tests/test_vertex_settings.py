"""Settings of Vertex AI: what is refused and in which words; a file, and flags that win over it."""

import re
from pathlib import Path
from typing import Any

import pytest

from data.errors import UserError
from pipeline.run_vertex import make_parser
from pipeline.vertex.flags import load_settings
from tests.vertex_settings import IMAGE, make_settings

ARGUMENTS = ["--project=my-project", "--region=us-central1", "--pipeline-root=gs://my-bucket/root", f"--image={IMAGE}"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"project": "My Project"}, "project is 'My Project'; use the project's id"),
        ({"region": "us-central1-a"}, "region is 'us-central1-a'; use a region, such as us-central1"),
        ({"pipeline_root": "/tmp/root"}, "pipeline_root is '/tmp/root'; use gs://BUCKET/FOLDER"),
        ({"pipeline_root": "gs://my-bucket/a*"}, "use gs://BUCKET/FOLDER"),
        ({"image": "pipeline"}, "image is 'pipeline'; use REGION-docker.pkg.dev/"),
        ({"service_account": "me@gmail.com"}, "use NAME@PROJECT.iam.gserviceaccount.com"),
        ({"network": "default"}, "network is 'default'; use projects/NUMBER/global/networks/NAME"),
        ({"encryption_key": "key"}, "use projects/PROJECT/locations/"),
        ({"labels": {"Team": "a"}}, "label key 'Team': use a lower-case letter"),
        ({"labels": {"team": "A B"}}, "label team is 'A B'; use up to 63 of"),
        ({"labels": {"tfx_version": "1"}}, "belongs to TFX or Google"),
        *(
            ({"labels": {key: "1"}}, f"label key '{key}' is set by the pipeline itself; choose another")
            for key in ("trainer-run", "submission-hash", "push")
        ),
        ({"labels": {f"l{i}": "" for i in range(33)}}, "there are 33 labels; at most 32 are allowed"),
        ({"retry": 1}, "unknown setting retry; did you mean retries?"),
        ({"resources": {"Trainer": {"cpus": 1}}}, "unknown setting resources.Trainer.cpus; did you mean"),
        (
            {"trainer": {"tpu": "v6e-4"}},
            "TPU v6e-4: from v6e on Vertex AI's training has no TensorFlow, whatever its version",
        ),
        ({"trainer": {"tpu": "v5e-16"}}, "TPU v5e-16: no slice of one host, which is all that is supported"),
        ({"trainer": {"tpu": "v4-8"}}, "TPU v4-8: Vertex AI trains on none; use v2-8"),
        (
            {"trainer": {"tpu": "v5e:2x2"}, "region": "europe-west1"},
            "trainer.tpu is v5e-4, but region europe-west1 has no TPU v5e; it is in us-central1",
        ),
        ({"trainer": {"tpu": "v5e-4", "gpu": "NVIDIA_L4:1"}}, "tpu is v5e-4 and so is gpu NVIDIA_L4:1 asked for"),
        ({"trainer": {"gpu": "K80"}}, "gpu is K80, which is none; use TYPE:COUNT with one of NVIDIA_TESLA_T4"),
        ({"trainer": {"gpu": "NVIDIA_L4:3"}}, "NVIDIA_L4 comes in 1, 2, 4, 8 a machine"),
        (
            {"trainer": {"gpu": "NVIDIA_L4:2", "machine_type": "n1-standard-8"}},
            "machine_type is n1-standard-8, which does not carry 2 NVIDIA_L4; use g2-standard-24",
        ),
        ({"trainer": {"machine_type": "big"}}, "machine_type is 'big', which is no machine"),
        ({"trainer": {"spot": True}}, "spot needs a machine of the Trainer's own"),
        *(
            ({"trainer": {name: value}}, f"trainer: {name} needs a machine of the Trainer's own; give tpu, gpu or")
            for name, value in (
                ("image", IMAGE),
                ("region", "us-central1"),
                ("timeout_hours", 3),
                ("restart_on_worker_restart", False),
                ("disk_gb", 200),
            )
        ),
        *(
            ({"trainer": {"replicas": 2, **machine}}, f"replicas is 2, but {where} the Trainer is one machine: several")
            for machine, where in (
                ({"tpu": "v5e-4"}, "on v5e-4"),
                ({"machine_type": "n1-standard-8"}, "on n1-standard-8"),
                ({}, "in the task's own container"),
            )
        ),
        (
            {"trainer": {"gpu": "NVIDIA_L4", "replicas": 2, "restart_on_worker_restart": False}},
            "replicas is 2 and restart_on_worker_restart false, but machines that train together can only start again",
        ),
        ({"trainer": {"gpu": "NVIDIA_L4", "replicas": 0}}, "trainer.replicas is 0; input should be greater than or"),
        ({"trainer": {"tpu": "v3-8", "spot": True}}, "Vertex AI has no spot machines with v3-8"),
        ({"trainer": {"max_wait_hours": 1}}, "max_wait_hours is for spot machines"),
        (
            {"trainer": {"timeout_hours": 1000}},
            "trainer.timeout_hours is 1000; input should be less than or equal to 168",
        ),
        ({"beam": {"workers": 20}}, "workers is 20, more than max_workers, 10"),
        ({"beam": {"subnetwork": "mine"}}, "use regions/REGION/subnetworks/NAME"),
        ({"endpoint": {"min_replicas": 2}}, "endpoint.min_replicas is 2, more than max_replicas, 1"),
        ({"endpoint": {"accelerator_type": "NVIDIA_L4"}}, "set both or neither"),
        (
            {
                "endpoint": {
                    "machine_type": "n1-standard-8",
                    "accelerator_type": "NVIDIA_TESLA_T4",
                    "accelerator_count": 1,
                }
            },
            "endpoint.accelerator_type is NVIDIA_TESLA_T4, but the pipeline's own server has the CPU build",
        ),
        (
            {"endpoint": {"container": "tensorflow_serving"}},
            "endpoint.container is tensorflow_serving, but there is no endpoint.serving_image; give a copy of",
        ),
        (
            {"endpoint": {"name": "e"}, "network": "projects/1/global/networks/n"},
            "network is projects/1/global/networks/n, a private one, but endpoint.kind is dedicated, which is reached",
        ),
        ({"endpoint": {"predict_route": "v1"}}, "endpoint.predict_route is 'v1'; string should match pattern '^/'"),
        ({"schedule": {"cron": "61 * * * *"}}, "cron is '61 * * * *', which is no schedule"),
        ({"schedule": {"cron": "0 3 * * * *"}}, "use five fields"),
        *(
            ({"schedule": {"cron": cron}}, f"cron is '{cron}', which is no schedule; use five fields")
            for cron in ("0 3 * *", "0 25 * * *", "0 0 3 * * 1", "@daily")
        ),
        (
            {"schedule": {"cron": "0 3 * * *", "time_zone": "Mars/Olympus"}},
            "time_zone is 'Mars/Olympus'",
        ),
        (
            {"schedule": {"cron": "0 3 * * *", "max_concurrent_runs": 0}},
            "max_concurrent_runs is 0; input should be greater than or equal to 1",
        ),
        ({"schedule": {"time_zone": "Berlin"}}, "time_zone is 'Berlin', which is none"),
        ({"schedule": {"time_zone": "Etc/UTC"}}, "schedule.time_zone is given, but no schedule.cron (--schedule)"),
        ({"schedule": {"max_concurrent_runs": 2}}, "schedule.max_concurrent_runs is given, but no schedule.cron"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        make_settings(**changes)
    assert "\n" not in str(caught.value)


def test_flags_win_over_the_file_and_labels_add_up(tmp_path: Path) -> None:
    file = tmp_path / "vertex.yaml"
    file.write_text("region: europe-west4\nlabels: {team: vision}\ntrainer: {tpu: v5e-8, timeout_hours: 3}\n")
    arguments = [
        *ARGUMENTS,
        f"--vertex-config={file}",
        "--tpu=v5e-4",
        "--labels",
        "cost=a",
        "--no-cache",
        "--retries=3",
    ]
    settings = load_settings(make_parser().parse_args(arguments))
    assert (settings.region, settings.labels) == ("us-central1", {"team": "vision", "cost": "a"})
    assert (settings.trainer.tpu, settings.trainer.timeout_hours) == ("v5e-4", 3)
    assert (settings.cache, settings.retries.count) == (False, 3)


def test_a_section_with_comments_only_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "vertex.yaml"
    file.write_text("beam:\n  # runner: dataflow\nlabels:\nresources:\n")
    settings = load_settings(make_parser().parse_args([*ARGUMENTS, f"--vertex-config={file}"]))
    assert (settings.beam.runner, settings.labels) == ("direct", {})
    assert settings.resources_of("Pusher").memory_gb == 16


def test_resources_of_one_component_leave_the_default_of_the_others() -> None:
    settings = load_settings(make_parser().parse_args([*ARGUMENTS, "--vertex-set", "resources.Transform.cpu=8"]))
    assert settings.resources_of("Transform").model_dump() == {"cpu": 8, "memory_gb": 16}
    assert settings.resources_of("Pusher").model_dump() == {"cpu": 4, "memory_gb": 16}


@pytest.mark.parametrize(("setting", "memory_gb"), [("cpu=8", 16), ("memory_gb=null", None)])
def test_one_value_of_the_default_resources_leaves_the_other(setting: str, memory_gb: int | None) -> None:
    settings = load_settings(make_parser().parse_args([*ARGUMENTS, "--vertex-set", f"resources.default.{setting}"]))
    assert settings.resources_of("Pusher").memory_gb == memory_gb
    assert settings.resources_of("Pusher").cpu == (8 if setting == "cpu=8" else 4)


def test_what_is_missing_is_named_with_its_flags() -> None:
    with pytest.raises(UserError, match=re.escape("pipeline_root, image must be known; give --pipeline-root, --image")):
        load_settings(make_parser().parse_args(ARGUMENTS[:2]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "team"], "--labels team: expected KEY=VALUE"),
        (["--vertex-set", "trainer.tpu"], "--vertex-set trainer.tpu: expected section.key=value"),
        (["--vertex-config", "none.yaml"], "none.yaml: cannot be read as a configuration"),
    ],
)
def test_a_wrong_flag_is_one_clear_line(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load_settings(make_parser().parse_args([*ARGUMENTS, *arguments]))
