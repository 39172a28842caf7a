"""The machines of Vertex AI that the pipeline asks for: GPUs and what carries them, cores, and where TPUs are.

Sources, read in 2026: cloud.google.com/vertex-ai/docs/training/configure-compute and
cloud.google.com/compute/docs/gpus (machines), cloud.google.com/tpu/docs/regions-zones (TPUs). TPUs themselves are in
`pipeline.tpu_types`.
"""

import re
from dataclasses import dataclass

from pipeline.tpu_types import TpuType

# Of Compute Engine's families, those that Vertex AI's training, serving and Dataflow have in common or apart.
_MACHINE_TYPE = re.compile(
    r"(n1|n2|n2d|e2|c2|c2d|c3|c3d|m1|m3|n4|t2d)-(standard|highmem|highcpu|megamem|ultramem)-[0-9]+"
    r"|a2-(highgpu|ultragpu)-[0-9]+g|a2-megagpu-16g|a3-(highgpu|megagpu|ultragpu)-[0-9]+g|g2-standard-[0-9]+"
    # Newer ones with GPUs, such as a4-highgpu-8g and g4-standard-48.
    r"|[ag][4-9][a-z]?-[a-z]+-[0-9]+g?"
)

TPU_REGIONS = {
    "v2": ("us-central1", "europe-west4", "asia-east1"),
    "v3": ("us-central1", "europe-west4"),
    "v5e": ("us-central1", "us-south1", "us-west1", "us-west4", "us-east5", "europe-west4"),
}
"""Regions with zones that have the generation; which of them have quota for it is the project's."""


@dataclass(frozen=True)
class Machine:
    """A machine without a TPU.

    Attributes:
        machine_type: as Compute Engine names it.
        accelerator_type: of its GPUs, as Vertex AI names it; None without any.
        accelerator_count: goes with `accelerator_type`.
    """

    machine_type: str
    accelerator_type: str | None = None
    accelerator_count: int | None = None

    def __str__(self) -> str:
        """What it is, for a person."""
        gpus = f"{self.accelerator_count} x {self.accelerator_type} in " if self.accelerator_type else ""
        return f"{gpus}{self.machine_type}"

    @property
    def replicas(self) -> int:
        """How many share a batch: GPUs, or the one machine."""
        return self.accelerator_count or 1


# Accelerator: count -> machines that may carry so many; the first is the default. A prefix ending in - stands for all.
_GPU_MACHINES: dict[str, dict[int, tuple[str, ...]]] = {
    "NVIDIA_TESLA_T4": dict.fromkeys((1, 2, 4), ("n1-standard-8", "n1-")),
    "NVIDIA_TESLA_V100": dict.fromkeys((1, 2, 4, 8), ("n1-standard-8", "n1-")),
    "NVIDIA_TESLA_P100": dict.fromkeys((1, 2, 4), ("n1-standard-8", "n1-")),
    "NVIDIA_L4": {
        1: ("g2-standard-8", "g2-standard-4", "g2-standard-12", "g2-standard-16", "g2-standard-32"),
        2: ("g2-standard-24",),
        4: ("g2-standard-48",),
        8: ("g2-standard-96",),
    },
    "NVIDIA_TESLA_A100": {
        1: ("a2-highgpu-1g",),
        2: ("a2-highgpu-2g",),
        4: ("a2-highgpu-4g",),
        8: ("a2-highgpu-8g",),
        16: ("a2-megagpu-16g",),
    },
    "NVIDIA_A100_80GB": {count: (f"a2-ultragpu-{count}g",) for count in (1, 2, 4, 8)},
    "NVIDIA_H100_80GB": {count: (f"a3-highgpu-{count}g",) for count in (1, 2, 4, 8)},
}


def find_gpu(text: str, machine_type: str | None = None) -> Machine:
    """Finds GPUs by `TYPE:COUNT` (or `TYPE`, one of it) and the machine that carries them.

    Of a type that is not listed here, `NVIDIA_...`, count and machine are taken as they are given.

    Raises:
        ValueError: there are no such GPUs, so many of them, or the machine carries others.
    """
    kind, _, number = text.partition(":")
    kind = kind.strip().upper()
    if machine_type and re.fullmatch(r"NVIDIA_[A-Z0-9_]+", kind) and not is_listed(kind):
        # Newer than this table: the check warns, and Vertex AI decides.
        if not re.fullmatch(r"[1-9][0-9]*", number or "1"):
            raise ValueError(f"gpu is {text}; give how many as TYPE:COUNT")
        return Machine(check_machine_type(machine_type), kind, int(number or "1"))
    if kind not in _GPU_MACHINES:
        known = ", ".join(_GPU_MACHINES)
        raise ValueError(
            f"gpu is {text}, which is none; use TYPE:COUNT with one of {known}, or a newer one with its machine_type"
        )
    counts = _GPU_MACHINES[kind]
    if not (number or "1").isdecimal() or int(number or "1") not in counts:
        raise ValueError(f"gpu is {text}; {kind} comes in {', '.join(map(str, counts))} a machine")
    count = int(number or "1")
    allowed = counts[count]
    machine = machine_type or allowed[0]
    check_machine_type(machine)
    if machine not in allowed and not any(name.endswith("-") and machine.startswith(name) for name in allowed):
        shown = ", ".join(f"{name}..." if name.endswith("-") else name for name in allowed)
        raise ValueError(f"machine_type is {machine}, which does not carry {count} {kind}; use {shown}")
    return Machine(machine, kind, count)


def is_listed(accelerator_type: str) -> bool:
    """Says whether machines and counts of an accelerator are known here."""
    return accelerator_type in _GPU_MACHINES


def check_machine_type(name: str) -> str:
    """Refuses what is no name of a machine of Compute Engine; whether a region has it only Google can tell.

    Raises:
        ValueError: names it.
    """
    if not _MACHINE_TYPE.fullmatch(name):
        raise ValueError(f"machine_type is {name!r}, which is no machine; use one such as n1-standard-8")
    return name


def check_tpu_region(tpu: TpuType, region: str) -> None:
    """Refuses a region that has no such TPU.

    Raises:
        ValueError: names those that have it.
    """
    generation = tpu.generation.name
    if region not in TPU_REGIONS[generation]:
        raise ValueError(
            f"trainer.tpu is {tpu.name}, but region {region} has no TPU {generation}; it is in "
            f"{', '.join(TPU_REGIONS[generation])}; set trainer.region to one of them"
        )
