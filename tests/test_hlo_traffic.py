"""What is read from the TPU compiler's optimized HLO; the lines are from its own output for a v5e."""

import pytest

from pipeline.hlo_traffic import Array, parse_arrays, read_traffic

HLO = """HloModule step, is_scheduled=true, entry_computation_layout={(f32[8,128]{1,0:T(8,128)})->f32[8,128]{1,0}}

%fused (p: f32[8,128]) -> f32[8,128] {
  ROOT %n = f32[8,128]{1,0:T(8,128)} negate(%p)
}

ENTRY %main (Arg_0: f32[8,128], Arg_1: bf16[100,3]) -> f32[8,128] {
  %Arg_0 = f32[8,128]{1,0:T(8,128)} parameter(0), metadata={op_name="XLA_Args"}
  %Arg_1 = bf16[100,3]{1,0:T(8,128)(2,1)} parameter(1)
  %copy-start = (f32[8,128]{1,0:T(8,128)S(1)}, f32[8,128]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%Arg_0)
  %copy-done = f32[8,128]{1,0:T(8,128)S(1)} copy-done(%copy-start)
  %fusion.1 = f32[8,128]{1,0:T(8,128)S(1)} fusion(%copy-done, %Arg_1), kind=kLoop, calls=%fused
  %fusion.2 = (f32[8,128]{1,0:T(8,128)}, f32[4]{0:T(128)}) fusion(%fusion.1, /*index=1*/%fusion.1), calls=%fused
  %get-tuple-element = f32[8,128]{1,0:T(8,128)} get-tuple-element(%fusion.2), index=0
  %slice-start = ((f32[8,128]{1,0:T(8,128)}), f32[1,128]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%Arg_0)
  ROOT %negate = f32[8,128]{1,0:T(8,128)} negate(%get-tuple-element)
}
"""
TILE = 8 * 128 * 4


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("bf16[16,32,32,64]{3,0,2,1:T(8,128)(2,1)S(1)}", Array(2_097_152, 4_194_304, False)),
        ("u8[16,32,32,3]{2,1,3,0:T(8,128)(4,1)}", Array(49_152, 196_608, True)),
        ("f32[512]{0:T(512)}", Array(2048, 2048, True)),
        ("f32[10]{0:T(128)}", Array(40, 512, True)),
        ("f32[]", Array(4, 4, True)),
        ("pred[5]{0}", Array(5, 5, True)),
        ("s4[5]{0}", Array(3, 3, True)),
    ],
)
def test_shapes_have_tiles_and_places(shape: str, expected: Array) -> None:
    assert parse_arrays(shape) == [expected]


def test_only_what_crosses_the_hbm_is_moved() -> None:
    traffic = read_traffic(HLO)
    prefetch, narrow, results, piece, last = TILE, 600, TILE + 16, 128 * 4, 2 * TILE
    assert traffic.moved_bytes == prefetch + narrow + results + piece + last
    # Two tiles of parameters and results each; 100 x 3 takes 104 x 128, and 4 numbers take 128.
    assert traffic.array_bytes == 3 * TILE + 600 + 16
    assert traffic.padded_bytes == 3 * TILE + 104 * 128 * 2 + 512
    assert traffic.padding_share == pytest.approx(1 - traffic.array_bytes / traffic.padded_bytes)


def test_a_text_without_an_entry_is_no_module() -> None:
    with pytest.raises(ValueError, match="no entry computation"):
        read_traffic("HloModule x")
