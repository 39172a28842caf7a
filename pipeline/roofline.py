"""The least time that a step can take on a TPU: what it computes and moves over what the chip can.

Source: Williams, Waterman & Patterson 2009, "Roofline".
"""

from dataclasses import dataclass

from pipeline.tpu_types import TpuType


@dataclass(frozen=True)
class Roofline:
    """Seconds that a step needs at least, for each resource; a real step takes longer.

    Attributes:
        compute_seconds: FLOPs at the core's peak in bfloat16.
        memory_seconds: bytes moved at the core's share of the HBM bandwidth.
        all_reduce_seconds: gradients over the links between chips, 0 on one chip.
        images_per_second: of the whole slice: no step can be faster, even if all three overlap entirely.
    """

    compute_seconds: float
    memory_seconds: float
    all_reduce_seconds: float
    images_per_second: float

    @property
    def seconds(self) -> float:
        """The least time of a step."""
        return max(self.compute_seconds, self.memory_seconds, self.all_reduce_seconds)

    @property
    def limit(self) -> str:
        """What sets it: `compute`, `memory` or `all-reduce`."""
        times = {
            "compute": self.compute_seconds, "memory": self.memory_seconds, "all-reduce": self.all_reduce_seconds
        }  # fmt: skip
        return max(times, key=lambda name: times[name])


def make_roofline(tpu: TpuType, batch_per_core: int, flops: float, moved_bytes: float, gradient_bytes: int) -> Roofline:
    """Bounds one step.

    Args:
        tpu: the slice.
        batch_per_core: images.
        flops: of one core.
        moved_bytes: through HBM by one core.
        gradient_bytes: of one replica; 0 for a step that trains nothing.
    """
    cores = tpu.generation.cores_per_chip
    compute = flops / (tpu.generation.peak_flops / cores)
    memory = moved_bytes / (tpu.generation.hbm_bandwidth / cores)
    all_reduce = all_reduce_seconds(tpu, gradient_bytes)
    slowest = max(compute, memory, all_reduce)
    return Roofline(compute, memory, all_reduce, tpu.cores * batch_per_core / slowest if slowest else 0.0)


def all_reduce_seconds(tpu: TpuType, gradient_bytes: int) -> float:
    """Returns the least time to sum an array over all chips: each sends 2 (n - 1) / n of it through all its links.

    Source: Patarasuk & Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations".
    """
    if tpu.chips == 1:
        return 0.0
    return 2 * (tpu.chips - 1) / tpu.chips * gradient_bytes / (tpu.links * tpu.generation.link_bandwidth)
