"""The Trainer's job: its machine, its scheduling, and what Vertex AI's own types make of it."""

import json
import re
from typing import Any

import pytest

from components.trainer.settings import TrainerSettings
from data.errors import UserError
from pipeline.vertex.worker_pools import (
    check_training,
    describe_devices,
    make_custom_job,
    make_trainer_config,
    parse_custom_job,
)
from tests.vertex_settings import IMAGE, make_settings

PJRT = {"NEXT_PLUGGABLE_DEVICE_USE_C_API": "true", "TF_PLUGGABLE_DEVICE_LIBRARY_PATH": "/lib/libtpu.so"}


@pytest.mark.parametrize(
    ("placement", "machine", "suffix", "environment"),
    [
        ({"tpu": "v2-8"}, ("cloud-tpu", "TPU_V2", 8, ""), "-tpu", {}),
        ({"tpu": "v3-8"}, ("cloud-tpu", "TPU_V3", 8, ""), "-tpu", {}),
        ({"tpu": "v5e-1"}, ("ct5lp-hightpu-1t", "", 0, "1x1"), "-tpu", PJRT),
        ({"tpu": "v5e-4"}, ("ct5lp-hightpu-4t", "", 0, "2x2"), "-tpu", PJRT),
        ({"tpu": "v5e:2x4"}, ("ct5lp-hightpu-8t", "", 0, "2x4"), "-tpu", PJRT),
        ({"gpu": "NVIDIA_TESLA_T4:2"}, ("n1-standard-8", "NVIDIA_TESLA_T4", 2, ""), "-gpu", {}),
        ({"gpu": "NVIDIA_L4"}, ("g2-standard-8", "NVIDIA_L4", 1, ""), "-gpu", {}),
        (
            {"gpu": "NVIDIA_TESLA_T4:1", "machine_type": "n1-highmem-8"},
            ("n1-highmem-8", "NVIDIA_TESLA_T4", 1, ""),
            "-gpu",
            {},
        ),
        ({"machine_type": "c2-standard-16"}, ("c2-standard-16", "", 0, ""), "", {}),
    ],
)
def test_each_machine_as_the_service_reads_it(
    placement: dict[str, Any], machine: tuple[str, str, int, str], suffix: str, environment: dict[str, str]
) -> None:
    job = parse_custom_job(make_custom_job(make_settings(trainer=placement), "digits"))
    (pool,) = job.job_spec.worker_pool_specs
    accelerator = pool.machine_spec.accelerator_type.name.removeprefix("ACCELERATOR_TYPE_UNSPECIFIED")
    found = (
        pool.machine_spec.machine_type,
        accelerator,
        pool.machine_spec.accelerator_count,
        pool.machine_spec.tpu_topology,
    )
    assert found == machine
    assert pool.replica_count == 1
    assert pool.container_spec.image_uri == IMAGE + suffix
    kind = {"TRAINER_DEVICE": suffix.removeprefix("-")} if suffix else {}
    found_environment = {item.name: item.value for item in pool.container_spec.env}
    assert found_environment == {"TF_USE_LEGACY_KERAS": "1", **kind, **environment}
    assert pool.disk_spec.boot_disk_size_gb == (0 if "tpu" in placement else 100)


def test_of_several_machines_the_first_is_a_pool_of_its_own_and_all_run_the_same() -> None:
    settings = make_settings(trainer={"gpu": "NVIDIA_L4:2", "replicas": 3})
    chief, workers = parse_custom_job(make_custom_job(settings, "digits")).job_spec.worker_pool_specs
    assert (chief.replica_count, workers.replica_count) == (1, 2)
    workers.replica_count = 1
    assert chief == workers


def test_one_machine_is_as_if_nothing_was_said_of_their_number() -> None:
    jobs = [make_custom_job(make_settings(trainer={"gpu": "NVIDIA_L4", **said}), "a") for said in ({}, {"replicas": 1})]
    assert jobs[0] == jobs[1]
    assert len(jobs[0]["job_spec"]["worker_pool_specs"]) == 1


def test_the_job_carries_account_network_key_labels_and_scheduling() -> None:
    settings = make_settings(
        service_account="trainer@my-project.iam.gserviceaccount.com",
        network="projects/1/global/networks/mine",
        encryption_key="projects/p/locations/l/keyRings/r/cryptoKeys/k",
        labels={"team": "vision"},
        trainer={"tpu": "v5e-4", "timeout_hours": 2.5, "spot": True, "max_wait_hours": 1},
    )
    job = parse_custom_job(make_custom_job(settings, "digits"))
    assert job.display_name == "digits-trainer"
    assert dict(job.labels) == {"team": "vision"}
    assert job.encryption_spec.kms_key_name == settings.encryption_key
    assert (job.job_spec.service_account, job.job_spec.network) == (settings.service_account, settings.network)
    scheduling = job.job_spec.scheduling
    assert (scheduling.timeout.total_seconds(), scheduling.max_wait_duration.total_seconds()) == (9000, 3600)
    assert (scheduling.strategy.name, scheduling.restart_job_on_worker_restart) == ("SPOT", True)


def test_what_tfx_gets_survives_json_and_becomes_the_same_job() -> None:
    from tfx.extensions.google_cloud_ai_platform.training_clients import VertexJobClient

    settings = make_settings(trainer={"tpu": "v5e-4"}, encryption_key="projects/p/locations/l/keyRings/r/cryptoKeys/k")
    config = make_trainer_config(settings, "digits", TrainerSettings())
    assert config is not None
    assert config["ai_platform_vertex_region"] == "us-central1"
    job_args = json.loads(json.dumps(config))["ai_platform_training_args"]
    assert job_args.pop("project") == "my-project"
    client = VertexJobClient.__new__(VertexJobClient)  # whose constructor looks for credentials
    sent = client.create_training_job({}, {}, {"custom_config": "{}"}, "an.Executor", job_args, None, None)
    job = parse_custom_job(sent)
    command = job.job_spec.worker_pool_specs[0].container_spec.command
    assert list(command[:5]) == ["python", "-m", "tfx.scripts.run_executor", "--executor_class_path", "an.Executor"]
    assert job.job_spec.worker_pool_specs[0].machine_spec.machine_type == "ct5lp-hightpu-4t"
    assert job.encryption_spec.kms_key_name == settings.encryption_key
    assert job.labels["tfx_executor"]


def test_without_a_machine_there_is_no_job() -> None:
    assert make_trainer_config(make_settings(), "digits", TrainerSettings()) is None


@pytest.mark.parametrize("field", ["tpu_topologie", "machineTypes"])
def test_a_field_that_the_service_does_not_know_is_refused(field: str) -> None:
    job = make_custom_job(make_settings(trainer={"tpu": "v5e-4"}), "digits")
    job["job_spec"]["worker_pool_specs"][0]["machine_spec"][field] = "2x2"
    with pytest.raises(ValueError, match=field):
        parse_custom_job(job)


@pytest.mark.parametrize(
    ("placement", "trainer", "message"),
    [
        (
            {"tpu": "v2-8"},
            {"batch_size": 36},
            "trainer.batch_size is 36, not a multiple of the 8 replicas of v2-8; use 32 or 40",
        ),
        ({"gpu": "NVIDIA_L4:4"}, {"batch_size": 2}, "not a multiple of the 4 replicas of NVIDIA_L4:4; use 4"),
        ({"tpu": "v5e-4"}, {"strategy": "mirrored"}, "trainer.strategy is mirrored, which v5e-4 does not serve"),
        (
            {"machine_type": "n1-standard-8"},
            {"strategy": "tpu"},
            "trainer.strategy is tpu, which n1-standard-8 does not",
        ),
        ({"machine_type": "n1-standard-8"}, {"strategy": "mirrored"}, "trainer.strategy is mirrored"),
        *(
            (machine, {"strategy": "multi_worker"}, "trainer.strategy is multi_worker, but on Vertex AI one machine")
            for machine in ({"tpu": "v5e-4"}, {"gpu": "NVIDIA_L4"}, {})
        ),
        *(
            (
                {"gpu": "NVIDIA_L4:2", "replicas": 3},
                {"strategy": strategy},
                f"trainer.strategy is {strategy}, which NVIDIA_L4:2 on 3 machines does not serve; set it to auto",
            )
            for strategy in ("mirrored", "one_device", "tpu")
        ),
        (
            {"gpu": "NVIDIA_L4:4", "replicas": 3},
            {"batch_size": 40},
            "trainer.batch_size is 40, not a multiple of the 12 replicas of NVIDIA_L4:4 on 3 machines; use 36 or 48",
        ),
        ({"tpu": "v5e-4"}, {"tpu": "my-tpu"}, "trainer.tpu is my-tpu, but a job of Vertex AI has its TPU itself"),
    ],
)
def test_training_that_does_not_fit_the_machine_is_refused(
    placement: dict[str, Any], trainer: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        check_training(make_settings(trainer=placement).trainer, TrainerSettings(**trainer))


def test_an_image_of_a_digest_names_no_image_of_the_trainer() -> None:
    settings = make_settings(trainer={"tpu": "v5e-4"}, image=f"{IMAGE}@sha256:{'0' * 64}")
    with pytest.raises(UserError, match=r"whose digest names no TPU image; give trainer\.image"):
        make_trainer_config(settings, "digits", TrainerSettings())


def test_the_job_may_run_in_another_region_than_the_pipeline() -> None:
    settings = make_settings(region="europe-west1", trainer={"tpu": "v5e-4", "region": "europe-west4"})
    config = make_trainer_config(settings, "digits", TrainerSettings())
    assert config is not None
    assert config["ai_platform_vertex_region"] == "europe-west4"


def test_devices_are_described_with_each_one_s_share() -> None:
    described = describe_devices(make_settings(trainer={"tpu": "v2-8"}).trainer, 64)
    assert described == "TPU v2-8: 4 chip(s), 2x2, 8 GiB HBM a replica; 8 images a replica and step"
    described = describe_devices(make_settings(trainer={"gpu": "NVIDIA_L4:2", "replicas": 2}).trainer, 64)
    assert described == "2 machines of 2 x NVIDIA_L4 in g2-standard-24; 16 images a replica and step"
