"""The TPUs that this project knows: the slices that fit on one host, what is in their chips, how Vertex AI calls them.

Sources, read in 2026: Google's pages cloud.google.com/tpu/docs/v3, /v4 and /v5e (peak in bfloat16, HBM); Jouppi et al.
2020, "A domain-specific supercomputer for training deep neural networks" (v2).
"""

import difflib
import math
from dataclasses import dataclass

from data.errors import UserError

GIB = 2**30


@dataclass(frozen=True)
class TpuGeneration:
    """One chip.

    Attributes:
        name: as in `v5e`.
        cores_per_chip: TensorCores; a program is compiled for one of them.
        replicas_per_chip: replicas of TPUStrategy: one a core, but one a chip on v4, whose two cores act as one.
        peak_flops: of the chip in bfloat16, FLOP/s.
        hbm_bytes: of the chip.
        program_hbm_bytes: what the compiler lets one core's program use: `Used ... of 15.75G hbm` in the refusals of
            libtpu 0.0.17, measured.
    """

    name: str
    cores_per_chip: int
    replicas_per_chip: int
    peak_flops: float
    hbm_bytes: int
    program_hbm_bytes: int

    @property
    def core_peak_flops(self) -> float:
        """A core's share of `peak_flops`."""
        return self.peak_flops / self.cores_per_chip


V2 = TpuGeneration("v2", 2, 2, 46e12, 16 * GIB, int(7.48 * GIB))
V3 = TpuGeneration("v3", 2, 2, 123e12, 32 * GIB, int(15.48 * GIB))
V4 = TpuGeneration("v4", 2, 1, 275e12, 32 * GIB, int(15.25 * GIB))
V5E = TpuGeneration("v5e", 1, 1, 197e12, 16 * GIB, int(15.75 * GIB))


@dataclass(frozen=True)
class TpuType:
    """A slice on one host.

    Attributes:
        name: as in `v5e-4`: the number counts cores for v2, v3 and v4, and chips for v5e, as Google counts them.
        generation: the chip.
        topology: chips along each axis, as in `2x2`.
        machine_type: of a Vertex AI worker pool; None where Vertex AI trains on no such slice.
        accelerator_type: of a Vertex AI worker pool; None where the machine type implies it.
        accelerator_count: goes with `accelerator_type`.
        tpu_topology: of a Vertex AI worker pool; None where the accelerator implies it.
    """

    name: str
    generation: TpuGeneration
    topology: str
    machine_type: str | None = None
    accelerator_type: str | None = None
    accelerator_count: int | None = None
    tpu_topology: str | None = None

    def __str__(self) -> str:
        """What it is, for a person."""
        memory = f"{self.hbm_bytes_per_replica / 2**30:g} GiB HBM a replica"
        return f"TPU {self.name}: {self.chips} chip(s), {self.topology}, {memory}"

    @property
    def chips(self) -> int:
        """Chips of the slice."""
        return math.prod(int(side) for side in self.topology.split("x"))

    @property
    def cores(self) -> int:
        """TensorCores of the slice."""
        return self.chips * self.generation.cores_per_chip

    @property
    def replicas(self) -> int:
        """Replicas of TPUStrategy on the slice."""
        return self.chips * self.generation.replicas_per_chip

    @property
    def cores_per_replica(self) -> int:
        """1, or 2 on v4."""
        return self.generation.cores_per_chip // self.generation.replicas_per_chip

    @property
    def hbm_bytes_per_replica(self) -> int:
        """HBM that a replica has to itself, before the system takes its share."""
        return self.generation.hbm_bytes // self.generation.replicas_per_chip


TPU_TYPES = (
    TpuType("v2-8", V2, "2x2", "cloud-tpu", "TPU_V2", 8),
    TpuType("v3-8", V3, "2x2", "cloud-tpu", "TPU_V3", 8),
    # In Google's cloud, but no machine of Vertex AI's training.
    TpuType("v4-8", V4, "2x2x1"),
    TpuType("v5e-1", V5E, "1x1", "ct5lp-hightpu-1t", tpu_topology="1x1"),
    TpuType("v5e-4", V5E, "2x2", "ct5lp-hightpu-4t", tpu_topology="2x2"),
    TpuType("v5e-8", V5E, "2x4", "ct5lp-hightpu-8t", tpu_topology="2x4"),
)

# Source, read in November 2026: docs.cloud.google.com/gemini-enterprise-agent-platform (Vertex AI's name since then),
# machine-learning/training/training-with-tpu-vm.
_REFUSED = {
    "v5p": "Vertex AI's training has v2, v3 and v5e",
    "v6e": "from v6e on Vertex AI's training has no TensorFlow, whatever its version",
}


def find_tpu_type(text: str) -> TpuType:
    """Finds a slice by its name (`v5e-4`) or its generation and topology (`v5e:2x2`).

    Raises:
        UserError: there is no such TPU, or it is not one that this project can use, and why.
    """
    wanted = text.strip().lower()
    names = {tpu.name: tpu for tpu in TPU_TYPES}
    names.update({f"{tpu.generation.name}:{tpu.topology}": tpu for tpu in TPU_TYPES})
    if wanted in names:
        return names[wanted]
    generation = wanted.replace("-", ":").partition(":")[0]
    if generation in _REFUSED:
        raise UserError(f"TPU {text}: {_REFUSED[generation]}; use one of {_shown(TPU_TYPES)}")
    same = [tpu for tpu in TPU_TYPES if tpu.generation.name == generation]
    if same:
        raise UserError(
            f"TPU {text}: no slice of one host, which is all that is supported; {generation} has {_shown(same)}"
        )
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    suggestion = f"did you mean {near[0]}? " if near else ""
    raise UserError(f"TPU {text}: unknown; {suggestion}there are {_shown(TPU_TYPES)}")


def _shown(types: "tuple[TpuType, ...] | list[TpuType]") -> str:
    return ", ".join(f"{tpu.generation.name}:{tpu.topology} ({tpu.name})" for tpu in types)
