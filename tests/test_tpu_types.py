"""The table of TPUs."""

import pytest

from data.errors import UserError
from pipeline.tpu_types import GIB, TPU_TYPES, TpuType, find_tpu_type


@pytest.mark.parametrize("tpu", TPU_TYPES, ids=lambda tpu: tpu.name)
def test_each_slice_is_found_by_both_names_and_is_consistent(tpu: TpuType) -> None:
    assert find_tpu_type(tpu.name) is tpu
    assert find_tpu_type(f" {tpu.generation.name.upper()}:{tpu.topology}") is tpu
    # Google counts cores in the names of v2 to v4, and chips in those of v5e.
    assert int(tpu.name.partition("-")[2]) == (tpu.chips if tpu.generation.name == "v5e" else tpu.cores)
    assert tpu.replicas * tpu.cores_per_replica == tpu.cores
    assert 0.9 < tpu.generation.program_hbm_bytes / (tpu.generation.hbm_bytes / tpu.generation.cores_per_chip) < 1
    if tpu.accelerator_type is not None:
        assert tpu.accelerator_count == tpu.cores
        assert tpu.tpu_topology is None
    elif tpu.machine_type is not None:
        assert tpu.machine_type == f"ct5lp-hightpu-{tpu.chips}t"
        assert tpu.tpu_topology == tpu.topology


def test_what_is_on_a_host() -> None:
    assert {tpu.name: (tpu.chips, tpu.replicas, tpu.hbm_bytes_per_replica // GIB) for tpu in TPU_TYPES} == {
        "v2-8": (4, 8, 8),
        "v3-8": (4, 8, 16),
        "v4-8": (4, 4, 32),
        "v5e-1": (1, 1, 16),
        "v5e-4": (4, 4, 16),
        "v5e-8": (8, 8, 16),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v5e:9x9", "no slice of one host, which is all that is supported; v5e has v5e:1x1 (v5e-1)"),
        ("v5e-16", "no slice of one host"),
        ("v6e-4", "from v6e on Vertex AI's training has no TensorFlow, whatever its version; use one of v2:2x2"),
        ("v5x:2x2", "did you mean v5e:2x2?"),
        ("gpu", "unknown; there are v2:2x2 (v2-8)"),
    ],
)
def test_what_there_is_not_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        find_tpu_type(text)
    assert f"TPU {text}: " in str(caught.value)
    assert message in str(caught.value)


def test_a_core_of_two_has_half_a_chip() -> None:
    assert find_tpu_type("v3-8").generation.core_peak_flops == pytest.approx(61.5e12)
    assert find_tpu_type("v5e-1").generation.core_peak_flops == pytest.approx(197e12)
