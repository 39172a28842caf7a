"""Which devices train, and in which arithmetic."""

import logging
from pathlib import Path
from typing import Literal

import tensorflow as tf

Precision = Literal["float32", "bfloat16"]

# Google's vendor id alone is not enough: its virtual network card carries it too. Device ids of TPU v2/v3, v4, v5p,
# v5e and v6e, as in JAX's `jax/_src/hardware_utils.py`.
_GOOGLE_PCI_VENDOR = "0x1ae0"
_TPU_PCI_DEVICES = {"0x0027", "0x005e", "0x0062", "0x0063", "0x006f"}


def has_tpu(pci_root: Path = Path("/sys/bus/pci/devices")) -> bool:
    """Tells whether TPU chips are on this machine's PCI bus: no driver is loaded, no network is asked."""

    def is_tpu(device: Path) -> bool:
        try:
            vendor, chip = ((device / name).read_text().strip() for name in ("vendor", "device"))
        except OSError:
            return False
        return vendor == _GOOGLE_PCI_VENDOR and chip in _TPU_PCI_DEVICES

    return pci_root.is_dir() and any(is_tpu(device) for device in pci_root.iterdir())


def make_strategy() -> tf.distribute.Strategy:
    """Returns TPUStrategy on a TPU machine, MirroredStrategy where there are GPUs, else the default strategy."""
    if has_tpu():
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy: tf.distribute.Strategy = tf.distribute.TPUStrategy(resolver)
    elif tf.config.list_physical_devices("GPU"):
        strategy = tf.distribute.MirroredStrategy()
    else:
        strategy = tf.distribute.get_strategy()
    logging.getLogger(__name__).info("training with %s", describe_strategy(strategy))
    return strategy


def is_tpu_strategy(strategy: tf.distribute.Strategy) -> bool:
    """Tells whether a strategy runs on TPU cores."""
    return isinstance(strategy, tf.distribute.TPUStrategy)


def describe_strategy(strategy: tf.distribute.Strategy) -> str:
    """Returns a strategy in words, e.g. `TPU x 8`, `GPU x 1` or `CPU`."""
    if is_tpu_strategy(strategy):
        return f"TPU x {strategy.num_replicas_in_sync}"
    if isinstance(strategy, tf.distribute.MirroredStrategy):
        kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
        return f"{kind} x {strategy.num_replicas_in_sync}"
    return "CPU"


def choose_precision(setting: str, strategy: tf.distribute.Strategy) -> Precision:
    """Resolves `auto`: bfloat16 on a TPU and on a CPU with AVX512-BF16 or AMX-BF16, else float32.

    Without these instructions a CPU emulates bfloat16 and is slower than in float32. GPUs stay in float32.
    """
    if setting in ("float32", "bfloat16"):
        return setting  # type: ignore[return-value]
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    if is_tpu_strategy(strategy) or (not on_gpu and cpu_has_bfloat16()):
        return "bfloat16"
    return "float32"


def cpu_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Tells whether this CPU multiplies bfloat16 in hardware."""
    if not cpuinfo.is_file():
        return False
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags
