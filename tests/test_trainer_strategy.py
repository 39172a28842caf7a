"""What devices are chosen; the hardware's files are written by the tests."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from components.trainer.phases import learning_rate_scale
from components.trainer.strategy import (
    describe_strategy,
    has_tpu,
    make_strategy,
    needs_static_shapes,
)
from data.errors import UserError
from tests.tiny_training import make_settings


def add_pci_device(root: Path, vendor: str, device: str) -> None:
    folder = root / f"0000:00:{len(list(root.iterdir())):02}.0"
    folder.mkdir()
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "device").write_text(f"{device}\n")


def test_a_tpu_is_found_on_the_bus(tmp_path: Path) -> None:
    add_pci_device(tmp_path, "0x8086", "0x0063")
    assert not has_tpu(tmp_path)
    add_pci_device(tmp_path, "0x1ae0", "0x0063")
    assert has_tpu(tmp_path)


def test_googles_network_card_is_no_tpu(tmp_path: Path) -> None:
    add_pci_device(tmp_path, "0x1ae0", "0x0042")
    assert not has_tpu(tmp_path)


def test_no_bus_is_no_tpu(tmp_path: Path) -> None:
    (tmp_path / "unreadable").mkdir()
    assert not has_tpu(tmp_path)
    assert not has_tpu(tmp_path / "missing")


@pytest.mark.skipif(has_tpu() or bool(tf.config.list_physical_devices("GPU")), reason="needs a machine of CPUs alone")
def test_a_cpu_machine_trains_with_the_default_strategy() -> None:
    strategy = make_strategy()
    assert strategy is tf.distribute.get_strategy()
    assert describe_strategy(strategy) == "CPU"


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="needs a machine without GPUs")
def test_mirrored_devices_are_counted() -> None:
    assert describe_strategy(tf.distribute.MirroredStrategy(["CPU:0"])) == "CPU x 1"


def test_a_tpu_that_is_not_there_is_an_error_of_one_line() -> None:
    with pytest.raises(UserError, match=r"^trainer\.strategy is tpu, but this machine has no TPU; set .*auto.*$"):
        make_strategy("tpu")
    with pytest.raises(UserError, match=r"^trainer\.strategy is tpu, but the TPU grpc://localhost:1 cannot be reached"):
        make_strategy("tpu", "grpc://localhost:1")


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="needs a machine without GPUs")
def test_gpus_that_are_not_there_are_an_error() -> None:
    with pytest.raises(UserError, match=r"mirrored, but this machine has no GPU; set trainer\.strategy to auto or one"):
        make_strategy("mirrored")


@pytest.mark.skipif(has_tpu() or bool(tf.config.list_physical_devices("GPU")), reason="needs a machine of CPUs alone")
@pytest.mark.parametrize("kind", ["gpu", "tpu"])
@pytest.mark.parametrize("setting", ["auto", "one_device", "multi_worker"])
def test_a_machine_that_was_taken_for_a_device_does_not_train_without(
    monkeypatch: pytest.MonkeyPatch, kind: str, setting: Any
) -> None:
    monkeypatch.setenv("TRAINER_DEVICE", kind)
    with pytest.raises(
        UserError, match=rf"taken for its {kind.upper()}, and TensorFlow finds none .* the {kind} stage"
    ):
        make_strategy(setting)


WORKERS: dict[str, Any] = {"cluster": {"chief": ["h:1"], "worker": ["h:2", "h:3"]}}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "TF_CONFIG names no workers; start every worker with TF_CONFIG"),
        ({}, "TF_CONFIG names no workers"),
        ("not JSON", 'TF_CONFIG is "not JSON", not of the form {"cluster": {"worker": ['),
        (["h:1"], 'TF_CONFIG is ["h:1"], not of the form'),
        ({"cluster": ["h:1"]}, 'TF_CONFIG is {"cluster": ["h:1"]}, not of the form'),
        ({"cluster": {"worker": "h:1"}}, 'TF_CONFIG is {"cluster": {"worker": "h:1"}}, not of the form'),
        ({"cluster": {"worker": [1]}}, 'TF_CONFIG is {"cluster": {"worker": [1]}}, not of the form'),
        ({"cluster": {"worker": ["h:1"], "chief": ["h:2", "h:3"]}}, "TF_CONFIG names 2 chiefs; name one or none"),
        (WORKERS, "the task in TF_CONFIG is null; its type and index may be chief 0..0 or worker 0..1"),
        ({**WORKERS, "task": ["worker", 0]}, 'the task in TF_CONFIG is ["worker", 0]; its'),
        ({**WORKERS, "task": {"type": "worker"}}, 'the task in TF_CONFIG is {"type": "worker"}; its'),
        ({**WORKERS, "task": {"type": "worker", "index": 2}}, "chief 0..0 or worker 0..1"),
        ({**WORKERS, "task": {"type": "worker", "index": -1}}, "chief 0..0 or worker 0..1"),
        ({**WORKERS, "task": {"type": "worker", "index": "1"}}, "chief 0..0 or worker 0..1"),
        ({**WORKERS, "task": {"type": "ps", "index": 0}}, "chief 0..0 or worker 0..1"),
        ({**WORKERS, "task": {"type": ["worker"], "index": 0}}, "chief 0..0 or worker 0..1"),
    ],
)
def test_a_wrong_tf_config_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch, config: Any, message: str) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(UserError, match=rf"^trainer\.strategy is multi_worker, but .*{re.escape(message)}.*$"):
        make_strategy("multi_worker")


def test_the_chief_may_be_called_master(monkeypatch: pytest.MonkeyPatch) -> None:
    tf.constant(1.0)
    cluster = {"master": ["localhost:1"], "worker": ["localhost:2"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": "master", "index": 0}}))
    with pytest.raises(UserError, match="TensorFlow was used in this process"):  # all else is well
        make_strategy("multi_worker")
    assert json.loads(os.environ["TF_CONFIG"])["task"]["type"] == "chief"


def test_one_device_may_have_a_partial_batch() -> None:
    assert not needs_static_shapes(make_strategy("one_device"))


def test_rates_follow_the_batch_by_a_stated_rule() -> None:
    assert learning_rate_scale(make_settings(batch_size=128)) == 1.0
    assert learning_rate_scale(make_settings(batch_size=128, learning_rate_batch_size=32)) == 2.0
    assert learning_rate_scale(make_settings(batch_size=128, learning_rate_batch_size=32, optimizer="sgd")) == 4.0


def test_workers_that_do_not_train_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = {"worker": ["localhost:1"], "ps": ["localhost:2"], "evaluator": ["localhost:3"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 0}}))
    with pytest.raises(UserError, match=r"tasks of the kind evaluator, ps; name chief and worker alone"):
        make_strategy("multi_worker")


def test_workers_cannot_meet_once_tensorflow_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    tf.constant(1.0)
    cluster = {"worker": ["localhost:1", "localhost:2"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 0}}))
    with pytest.raises(UserError, match="before the Trainer, which is too late to connect workers; run the Trainer in"):
        make_strategy("multi_worker")
