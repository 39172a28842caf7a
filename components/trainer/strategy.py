"""Which devices train."""

import json
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import tensorflow as tf

from components.trainer.devices import DEVICE_VARIABLE
from data.errors import UserError

StrategyName = Literal["auto", "tpu", "mirrored", "multi_worker", "one_device"]

# Google's vendor id alone is not enough: its virtual network card carries it too. Device ids of TPU v2/v3, v4, v5p,
# v5e and v6e, as in JAX's `jax/_src/hardware_utils.py`.
_GOOGLE_PCI_VENDOR = "0x1ae0"
_TPU_PCI_DEVICES = {"0x0027", "0x005e", "0x0062", "0x0063", "0x006f"}

_TF_CONFIG_FORM = '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'


def has_tpu(pci_root: Path = Path("/sys/bus/pci/devices")) -> bool:
    """Tells whether TPU chips are on this machine's PCI bus: no driver is loaded, no network is asked."""

    def is_tpu(device: Path) -> bool:
        try:
            vendor, chip = ((device / name).read_text().strip() for name in ("vendor", "device"))
        except OSError:
            return False
        return vendor == _GOOGLE_PCI_VENDOR and chip in _TPU_PCI_DEVICES

    return pci_root.is_dir() and any(is_tpu(device) for device in pci_root.iterdir())


def make_strategy(setting: StrategyName = "auto", tpu: str = "local") -> tf.distribute.Strategy:
    """Returns the strategy that a setting names; call it before anything runs on a device.

    Args:
        setting: `auto` is `tpu` where this machine has one, else `mirrored` where it has GPUs, else `one_device`.
        tpu: for `tpu`: `local`, or the name or address of a TPU elsewhere.

    Raises:
        UserError: the devices are not there, or not those that `DEVICE_VARIABLE` names.
    """
    _check_rented_device(os.environ.get(DEVICE_VARIABLE))
    if setting == "auto":
        setting = "tpu" if has_tpu() else "mirrored" if tf.config.list_physical_devices("GPU") else "one_device"
    strategy = _MAKERS[setting](tpu)
    logging.getLogger(__name__).info("training with %s", describe_strategy(strategy))
    return strategy


def _check_rented_device(kind: str | None) -> None:
    """Refuses a machine whose GPU or TPU is paid for, but would not be used: TensorFlow goes on without."""
    if (kind == "gpu" and not tf.config.list_physical_devices("GPU")) or (kind == "tpu" and not has_tpu()):
        raise UserError(
            f"this machine was taken for its {kind.upper()}, and TensorFlow finds none ({DEVICE_VARIABLE} is {kind}); "
            f"its log says what it misses; train in what the {kind} stage of the Dockerfile builds (trainer.image)"
        )


def _make_tpu_strategy(tpu: str) -> tf.distribute.Strategy:
    remedy = "set trainer.strategy to auto, or trainer.tpu to the TPU's name"
    if tpu == "local" and not has_tpu():
        raise UserError(f"trainer.strategy is tpu, but this machine has no TPU; {remedy}")
    try:
        if tpu.startswith("grpc://"):
            # TensorFlow would wait for ever for an address where nobody listens.
            host, _, port = tpu.removeprefix("grpc://").rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except Exception as error:  # of TensorFlow, of Google's API client and of the network: no class is common to them
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"trainer.strategy is tpu, but the TPU {tpu} cannot be reached ({reason}); {remedy}") from error
    return tf.distribute.TPUStrategy(resolver)


def _make_mirrored_strategy(_: str) -> tf.distribute.Strategy:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) == 1 and devices[0].device_type == "CPU":
        raise UserError(
            "trainer.strategy is mirrored, but this machine has no GPU; set trainer.strategy to auto or one_device"
        )
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _make_multi_worker_strategy(_: str) -> tf.distribute.Strategy:
    if '"master"' in (tf_config := os.environ.get("TF_CONFIG", "{}")):
        # Google's page says that Vertex AI may so call the chief, as TensorFlow 1 did.
        os.environ["TF_CONFIG"] = tf_config = tf_config.replace('"master"', '"chief"')
    mistake = _find_mistake(tf_config)
    if mistake:
        raise UserError(f"trainer.strategy is multi_worker, but {mistake}")
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        if "at program startup" not in str(error):
            raise
        raise UserError(
            "trainer.strategy is multi_worker, but TensorFlow was used in this process before the Trainer, which is "
            "too late to connect workers; run the Trainer in a process of its own, or set trainer.strategy to auto"
        ) from error


def _find_mistake(tf_config: str) -> str | None:
    """Tells what of TF_CONFIG cannot be trained with, and what can; None where all is well."""
    try:
        config = json.loads(tf_config)
    except json.JSONDecodeError:
        config = tf_config
    cluster = config.get("cluster", {}) if isinstance(config, dict) else None
    if not isinstance(cluster, dict) or not all(map(_are_addresses, cluster.values())):
        return f"TF_CONFIG is {_show(config)}, not of the form {_TF_CONFIG_FORM}"
    if not cluster.get("worker"):
        return "TF_CONFIG names no workers; start every worker with TF_CONFIG, or set trainer.strategy to auto"
    others = sorted(set(cluster) - {"chief", "worker"})
    if others:
        return (
            f"TF_CONFIG has tasks of the kind {', '.join(others)}; name chief and worker alone: all of them train and "
            "evaluate"
        )
    if len(cluster.get("chief", ())) > 1:
        return f"TF_CONFIG names {len(cluster['chief'])} chiefs; name one or none"
    task = config.get("task")
    found = (task.get("type"), task.get("index")) if isinstance(task, dict) else None
    if found not in [(kind, index) for kind, hosts in cluster.items() for index in range(len(hosts))]:
        allowed = [f"{kind} 0..{len(hosts) - 1}" for kind, hosts in cluster.items() if hosts]
        return f"the task in TF_CONFIG is {_show(task)}; its type and index may be {' or '.join(allowed)}"
    return None


def _show(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 160 else f"{text[:160]}..."


def _are_addresses(hosts: object) -> bool:
    return isinstance(hosts, list) and all(isinstance(host, str) for host in hosts)


def _make_default_strategy(_: str) -> tf.distribute.Strategy:
    return tf.distribute.get_strategy()


_MAKERS: dict[str, Callable[[str], tf.distribute.Strategy]] = {
    "tpu": _make_tpu_strategy,
    "mirrored": _make_mirrored_strategy,
    "multi_worker": _make_multi_worker_strategy,
    "one_device": _make_default_strategy,
}


def needs_static_shapes(strategy: tf.distribute.Strategy) -> bool:
    """Tells whether every batch must be full: replicas share it evenly, and a TPU compiles for one shape."""
    return strategy.num_replicas_in_sync > 1 or is_tpu_strategy(strategy)


def is_tpu_strategy(strategy: tf.distribute.Strategy) -> bool:
    """Tells whether a strategy runs on TPU cores."""
    return isinstance(strategy, tf.distribute.TPUStrategy)


def runs_on_cpu(strategy: tf.distribute.Strategy) -> bool:
    """Tells whether a strategy runs on CPUs alone."""
    return not is_tpu_strategy(strategy) and not tf.config.list_physical_devices("GPU")


def count_hosts(strategy: tf.distribute.Strategy) -> int:
    """Returns how many machines feed the replicas of a strategy."""
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        cluster = strategy.cluster_resolver.cluster_spec().as_dict()
        return sum(len(hosts) for hosts in cluster.values()) or 1
    return int(strategy.extended.num_hosts) if is_tpu_strategy(strategy) else 1


def describe_strategy(strategy: tf.distribute.Strategy) -> str:
    """Returns a strategy in words, e.g. `TPU x 8`, `GPU x 1` or `CPU`."""
    if is_tpu_strategy(strategy):
        return f"TPU x {strategy.num_replicas_in_sync}"
    if isinstance(strategy, tf.distribute.MirroredStrategy):
        kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
        return f"{kind} x {strategy.num_replicas_in_sync}"
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return f"several workers x {strategy.num_replicas_in_sync}"
    return "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
