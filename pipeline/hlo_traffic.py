"""What a compiled TPU program moves through HBM and loses to padding, read from its optimized HLO.

The compiler's own `bytes accessed` also counts what stays in on-chip memory, and its `optimal_seconds` were negative:
neither can bound a step's time.
"""

import math
import re
from dataclasses import dataclass

_BITS = {"pred": 8, "bf16": 16, "c64": 64, "c128": 128, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_TILE = re.compile(r"T\(([\d,]+)\)")
_MEMORY_SPACE = re.compile(r"S\((\d+)\)")
_OPCODE = re.compile(r"^\s*([\w-]+)\(")
_NAME = re.compile(r"%([\w.-]+)")
_TARGET = re.compile(r'custom_call_target="([^"]*)"')

_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota", "partition-id", "replica-id",
    "while", "conditional", "call",
}  # fmt: skip
_READS_WHAT_IT_RETURNS = {"slice", "dynamic-slice", "gather"}


@dataclass(frozen=True)
class Array:
    """One array: its bytes without and with the padding of its tiles, and whether it lies in HBM."""

    logical_bytes: int
    padded_bytes: int
    in_hbm: bool


@dataclass(frozen=True)
class Traffic:
    """What one run of a program's entry computation does with HBM.

    Attributes:
        moved_bytes: read and written, each instruction's inputs and outputs once and without padding: a lower bound.
        array_bytes: of all arrays that it makes or is given there, without padding.
        padded_bytes: of the same arrays with padding.
    """

    moved_bytes: int
    array_bytes: int
    padded_bytes: int

    @property
    def padding_share(self) -> float:
        """Share of the padded bytes that hold nothing, 0..1."""
        return 1 - self.array_bytes / self.padded_bytes if self.padded_bytes else 0.0


def parse_arrays(shape: str) -> list[Array]:
    """Returns the arrays of an HLO shape with layouts, e.g. `bf16[16,32,32,64]{3,0,2,1:T(8,128)(2,1)S(1)}`."""
    arrays = []
    for kind, dimensions, layout in _ARRAY.findall(shape):
        bits = _BITS.get(kind)
        if bits is None:
            digits = re.search(r"\d+", kind)
            if digits is None:
                continue
            bits = int(digits[0])
        sides = [int(side) for side in dimensions.split(",") if side]
        arrays.append(
            Array(
                math.ceil(math.prod(sides) * bits / 8),
                math.ceil(math.prod(_pad(sides, layout)) * bits / 8),
                # Space 0, the default, is HBM; all others are on the chip.
                in_hbm=not _MEMORY_SPACE.search(layout),
            )
        )
    return arrays


def _pad(sides: list[int], layout: str) -> list[int]:
    """Rounds the most minor dimensions up to whole tiles; the layout lists dimensions from minor to major."""
    tile = _TILE.search(layout)
    order = [int(index) for index in layout.partition(":")[0].split(",") if index.strip().isdigit()]
    if tile is None or not order:
        return sides
    padded = list(sides)
    for side, index in zip(reversed([int(side) for side in tile[1].split(",")]), order, strict=False):
        padded[index] = -(-padded[index] // side) * side
    return padded


def read_traffic(hlo_text: str) -> Traffic:
    """Adds up the entry computation of an optimized and scheduled module.

    Bodies of loops are left out: the training steps here have none that matter, and a lower bound stays one.
    """
    results: dict[str, list[Array]] = {}
    moved = logical = padded = 0
    for line in _entry_lines(hlo_text):
        name, shape, opcode, operands, attributes = _split(line)
        outputs = parse_arrays(shape)
        results[name] = outputs
        if opcode == "parameter" or not (opcode in _FREE or opcode.endswith("-done")):
            own = outputs[:1] if opcode == "copy-start" else outputs[1:2] if opcode == "slice-start" else outputs
            logical += sum(array.logical_bytes for array in own if array.in_hbm)
            padded += sum(array.padded_bytes for array in own if array.in_hbm)
        moved += _moved(opcode, outputs, [results.get(operand, []) for operand in operands], attributes)
    return Traffic(moved, logical, padded)


def _moved(opcode: str, outputs: list[Array], operands: list[list[Array]], attributes: str) -> int:
    if opcode in _FREE or opcode.endswith("-done"):
        return 0
    target = _TARGET.search(attributes)
    if target and target[1].endswith("Bitcast"):
        return 0
    inputs = [array for operand in operands for array in operand]
    if opcode == "copy-start":
        return _hbm(inputs) + _hbm(outputs[:1])
    if opcode == "slice-start":
        slice_bytes = outputs[1].logical_bytes if len(outputs) > 1 else 0
        return slice_bytes * (any(array.in_hbm for array in inputs) + outputs[1].in_hbm) if slice_bytes else 0
    if opcode in _READS_WHAT_IT_RETURNS:
        size = sum(array.logical_bytes for array in outputs)
        return size * any(array.in_hbm for array in inputs) + _hbm(outputs)
    if opcode == "dynamic-update-slice":
        return 2 * min(_hbm(operands[1]) if len(operands) > 1 else 0, _hbm(outputs))
    return _hbm(inputs) + _hbm(outputs)


def _hbm(arrays: list[Array]) -> int:
    return sum(array.logical_bytes for array in arrays if array.in_hbm)


def _entry_lines(hlo_text: str) -> list[str]:
    lines = hlo_text.splitlines()
    start = next((index for index, line in enumerate(lines) if line.startswith("ENTRY ")), None)
    if start is None:
        raise ValueError("the HLO text has no entry computation")
    end = next(index for index in range(start, len(lines)) if lines[index].startswith("}"))
    return [line for line in lines[start + 1 : end] if " = " in line]


def _split(line: str) -> tuple[str, str, str, list[str], str]:
    """Returns an instruction's name, shape, opcode, operands' names (each once) and attributes."""
    left, _, rest = re.sub(r"/\*.*?\*/", "", line).partition(" = ")
    name = left.strip().removeprefix("ROOT ").lstrip("%")
    shape_end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:shape_end], rest[shape_end:]
    opcode = _OPCODE.match(rest)
    if opcode is None:
        return name, shape, "", [], rest
    end = _closing(rest, opcode.end() - 1)
    operands = list(dict.fromkeys(_NAME.findall(rest[opcode.end() : end])))
    return name, shape, opcode[1], operands, rest[end + 1 :]


def _closing(text: str, start: int) -> int:
    """Returns the index of the parenthesis that closes the one at `start`."""
    depth = 0
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index
    return len(text) - 1
