"""Which arithmetic trains: what is set, what a killed run chose, what was measured, or what a table says of the CPU."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import tensorflow as tf

from components.progress import report_progress
from components.trainer.precision_memory import recall, remember
from components.trainer.strategy import is_tpu_strategy, runs_on_cpu

Precision = Literal["float32", "bfloat16"]

# Two programs that do the same differ by a few hundredths from one minute to the next, and float32 is the more exact.
_LEAST_GAIN = 1.1

_GPU_CAPABILITY = (8, 0)  # NVIDIA's Ampere, the first with bfloat16 in its tensor cores

CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class PrecisionChoice:
    """An arithmetic, and how it came to be chosen; JSON's types alone.

    Attributes:
        name: of the computation; variables and logits are float32.
        how: `setting`, `table` (of devices), `measured`, `remembered` (from a measurement on this machine before) or
            `saved` (by the run that this one goes on for).
        kernel_gradient: whether kernels' gradients are computed tap by tap; see `kernel_gradient.py`.
        float32_rate: images/s of the timed step, where it was ever timed.
        bfloat16_rate: the same, the better one with and without `kernel_gradient`.
        seconds: that measuring took in this run, also where it was given up.
    """

    name: Precision
    how: str
    kernel_gradient: bool = False
    float32_rate: float | None = None
    bfloat16_rate: float | None = None
    seconds: float = 0.0

    def to_record(self) -> dict[str, Any]:
        """Returns it as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: object, how: str) -> "PrecisionChoice | None":
        """Reads what `to_record` wrote, now chosen in another way; None where that is something else."""
        if not isinstance(record, Mapping):
            return None
        rates = record.get("float32_rate"), record.get("bfloat16_rate")
        if record.get("name") not in ("float32", "bfloat16") or not isinstance(record.get("kernel_gradient"), bool):
            return None
        if not all(rate is None or (isinstance(rate, float) and rate > 0) for rate in rates):
            return None
        return cls(record["name"], how, record["kernel_gradient"], rates[0], rates[1])


@dataclass(frozen=True)
class Rates:
    """What was timed, in images/s.

    Attributes:
        float32: of the step.
        bfloat16: of the step with the library's own gradients.
        by_taps: of the step in bfloat16 with `kernel_gradient`; None where it was not timed.
    """

    float32: float
    bfloat16: float
    by_taps: float | None = None


class Timing(Protocol):
    """What can measure: `PrecisionTrial`, which builds on the model and so cannot be imported here."""

    @property
    def key(self) -> dict[str, Any]:
        """Everything of the training that a speed depends on; JSON's types."""

    @property
    def forced(self) -> bool:
        """Whether it measures even where the table is sure."""

    def run(self) -> tuple[Rates | None, float]:
        """Returns the rates, or None where they would cost too much, and the seconds that it took."""


@dataclass(frozen=True)
class Cpu:
    """What the first processor of /proc/cpuinfo says of itself; empty where there is no such file."""

    vendor: str = ""
    model: str = ""
    flags: frozenset[str] = frozenset()


def read_cpu(cpuinfo: Path = CPUINFO) -> Cpu:
    """Reads the CPU's vendor, model and instructions."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return Cpu()
    values: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        values.setdefault(key.strip(), value.strip())
    return Cpu(values.get("vendor_id", ""), values.get("model name", ""), frozenset(values.get("flags", "").split()))


def cpu_has_bfloat16(cpuinfo: Path = CPUINFO) -> bool:
    """Tells whether this CPU multiplies bfloat16 in hardware."""
    return bool(read_cpu(cpuinfo).flags & {"avx512_bf16", "amx_bf16"})


# Vendor, instruction, arithmetic, kernel gradients by taps; the first row that fits. What no row fits is float32: it
# is never much worse, while without the instruction bfloat16 is emulated.
_TABLE: tuple[tuple[str, str, Precision, bool], ...] = (
    # A Xeon with it, 2 cores, images/s in float32 and bfloat16: forward at 224 px 7.4 and 22.7, at 32 px 227 and 495;
    # all layers trained at 224 px 2.1 and 6.4, at 32 px 68 and 111, with the library's own gradients.
    ("GenuineIntel", "amx_bf16", "bfloat16", False),
    # Issue 11, Xeon with avx512_bf16 and avx512_fp16, without AMX, 2 cores, images/s in float32 and bfloat16: forward
    # at 224 px 10.0 and 6.3, at 32 px 308 and 258; all layers trained at 32 px 91.9 and 82.7, without taps 84.7.
    ("GenuineIntel", "avx512_bf16", "float32", False),
    # docs/benchmarks.md, EPYC: fine-tuning at 32 px 2.06 times plain Keras in float32. Taps: see `kernel_gradient.py`.
    ("AuthenticAMD", "avx512_bf16", "bfloat16", True),
)


def look_up(cpu: Cpu) -> PrecisionChoice:
    """Returns what the table says of a CPU."""
    for vendor, instruction, precision, by_taps in _TABLE:
        if vendor == cpu.vendor and instruction in cpu.flags:
            return PrecisionChoice(precision, "table", by_taps)
    return PrecisionChoice("float32", "table")


def choose_precision(
    setting: str,
    strategy: tf.distribute.Strategy,
    timing: Timing | None = None,
    *,
    saved: PrecisionChoice | None = None,
    deterministic: bool = False,
    cpuinfo: Path = CPUINFO,
) -> PrecisionChoice:
    """Resolves `auto`.

    A TPU is in bfloat16. A CPU or GPU without instructions for it is in float32, and nothing is measured. Where there
    are such instructions, both are timed if the training is long enough, and the table answers if not. GPUs are
    measured as CPUs are; unmeasured, they are in float32, whose products they round to TensorFloat-32.

    Args:
        setting: `trainer.precision`.
        strategy: where the training runs. Several workers must come to the same answer, which clocks do not: theirs is
            the table's.
        timing: what measures; without it nothing is measured or remembered.
        saved: the choice of the run that was killed and that this one goes on for: taken whatever else is true.
        deterministic: takes the table's answer, which is the same in each run.
        cpuinfo: the CPU's file, in the form of Linux's.
    """
    if saved is not None and setting in ("auto", saved.name):
        return saved
    cpu, on_cpu = read_cpu(cpuinfo), runs_on_cpu(strategy)
    table = look_up(cpu) if on_cpu else PrecisionChoice("float32", "table")
    if setting == "float32":
        return PrecisionChoice("float32", "setting")
    if setting == "bfloat16":
        # Emulated, on an EPYC without the instruction, all layers trained at 32 px: 4.4 images/s by taps, 3.4 without.
        emulated = on_cpu and not cpu_has_bfloat16(cpuinfo)
        return PrecisionChoice("bfloat16", "setting", table.kernel_gradient or emulated)
    if is_tpu_strategy(strategy):
        return PrecisionChoice("bfloat16", "table")
    several_workers = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    if timing is None or deterministic or several_workers:
        return table
    gpu = {} if on_cpu else tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
    capable = cpu_has_bfloat16(cpuinfo) if on_cpu else gpu.get("compute_capability", (0, 0)) >= _GPU_CAPABILITY
    if not capable and not timing.forced:
        return table
    key = {"device": cpu.model if on_cpu else gpu.get("device_name", ""), "tensorflow": tf.__version__, **timing.key}
    if remembered := PrecisionChoice.from_record(recall(key), "remembered"):
        return remembered
    rates, seconds = timing.run()
    if rates is None:
        return PrecisionChoice(table.name, "table", table.kernel_gradient, seconds=seconds)
    choice = judge(rates, table, seconds)
    remember(key, choice.to_record())
    _report(choice, "CPU" if on_cpu else "GPU")
    return choice


def judge(rates: Rates, table: PrecisionChoice, seconds: float) -> PrecisionChoice:
    """Chooses by what was timed: the faster way of bfloat16, where that is clearly faster than float32.

    Args:
        rates: of the step.
        table: whose word counts on taps where they were not timed.
        seconds: that timing took.
    """
    best = max(rates.bfloat16, rates.by_taps or 0.0)
    by_taps = table.kernel_gradient if rates.by_taps is None else rates.by_taps > rates.bfloat16
    wins = best >= _LEAST_GAIN * rates.float32
    return PrecisionChoice(
        "bfloat16" if wins else "float32",
        "measured",
        wins and by_taps,
        round(rates.float32, 3),
        round(best, 3),
        round(seconds, 3),
    )


def _report(choice: PrecisionChoice, device: str) -> None:
    assert choice.float32_rate is not None
    assert choice.bfloat16_rate is not None
    ratio = choice.bfloat16_rate / choice.float32_rate
    result = (
        f"bfloat16: {ratio:.2g} x float32" if choice.name == "bfloat16" else f"float32: bfloat16 is {ratio:.2g} x it"
    )
    report_progress(f"{result} on this {device} (measured in {choice.seconds:.0f} s)", lasting=True)
