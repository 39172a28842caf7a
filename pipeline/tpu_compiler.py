"""Asks Google's TPU compiler about a lowered step: in its own environment and its own process, without a TPU."""

import json
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import Fault, UserError
from pipeline.tpu_types import GIB, TpuType

ROOT = Path(__file__).parent.parent
TPU_PYTHON = ROOT / ".venv-tpu" / "bin" / "python"
_SCRIPT = Path(__file__).with_name("preflight_compile.py")
_UNITS = {"B": 1, "K": 2**10, "M": 2**20, "G": GIB, "T": 2**40}
_SIZE = r"([\d.]+)([BKMGT])"
_OVER = re.compile(rf"Used {_SIZE} of {_SIZE} hbm")
_ARRAY_OVER = re.compile(r"Allocation \(size=(\d+)\) would exceed memory \(size=\d+\)")
_PADDING = re.compile(rf"Extra memory due to padding: {_SIZE}")
_REPORT_LINES = 14


@dataclass(frozen=True)
class Compilation:
    """The compiler's answer for one core.

    Attributes:
        compiled: False where it refused.
        reason: the first line of the refusal, else None.
        fits: False where it refused for lack of HBM; a step refused for another reason counts as fitting.
        hbm_bytes: what the program needs of the HBM; None where a refusal does not tell.
        limit_bytes: what a program may use.
        hbm_report: the compiler's own account of the HBM, in a refusal for lack of it.
        flops: of one run, as the compiler counts the optimized program; None if refused.
        libtpu: the compiler's version.
    """

    compiled: bool
    reason: str | None
    fits: bool
    hbm_bytes: int | None
    limit_bytes: int
    hbm_report: tuple[str, ...]
    flops: float | None
    libtpu: str


class CompilerFault(Fault):
    """The compiler's process ended without an answer."""


def check_environment() -> None:
    """Raises UserError where the compiler's environment is not set up."""
    if not TPU_PYTHON.is_file():
        raise UserError(f"the TPU compiler's environment {TPU_PYTHON.parent.parent} is missing; run make preflight")


def compile_for_tpu(hlo: bytes, tpu: TpuType) -> Compilation:
    """Compiles a module for one core of a slice.

    Args:
        hlo: a serialized `HloModuleProto` of one replica.
        tpu: the slice.

    Raises:
        CompilerFault: its process died, e.g. for lack of this machine's memory.
    """
    with tempfile.TemporaryDirectory(prefix="preflight-") as folder:
        place = Path(folder)
        (place / "step.hlo").write_bytes(hlo)
        # A slice of one chip shares its host; the compiler knows whole hosts only, unless it is told.
        options = {"chips_per_host_bounds": [1, 1, 1]} if tpu.chips == 1 else {}
        request = {
            "topology": f"{tpu.generation.name}:{tpu.topology}",
            "topology_options": options,
            "hlo": str(place / "step.hlo"),
            "result": str(place / "result"),
        }
        # -I: nothing of this environment, such as PYTHONPATH or the current folder, reaches the other one.
        done = subprocess.run(
            [str(TPU_PYTHON), "-I", str(_SCRIPT), json.dumps(request)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0 or not (place / "result").is_file():
            raise CompilerFault(_describe_death(done))
        result = json.loads((place / "result").read_text(encoding="utf-8"))
    if result["status"] == "refused":
        return parse_refusal(result, tpu)
    memory = result["memory"]
    used = memory["argument"] + memory["output"] - memory["alias"] + memory["temp"] + memory["generated_code"]
    limit = tpu.generation.program_hbm_bytes
    return Compilation(True, None, True, used, limit, (), result["flops"], result["libtpu"])


def parse_refusal(result: dict[str, Any], tpu: TpuType) -> Compilation:
    """Reads a refusal: its reason, and for lack of HBM how much was needed and what the compiler reports of it."""
    lines = [line.rstrip() for line in result["message"].splitlines() if line.strip()]
    over, array_over = _OVER.search(result["message"]), _ARRAY_OVER.search(result["message"])
    report = tuple(lines[1 : 1 + _REPORT_LINES]) if over else ()
    padding = [line.strip() for line in lines[1 + _REPORT_LINES :] if over and _PADDING.search(line)]
    return Compilation(
        compiled=False,
        reason=lines[0].removeprefix("RESOURCE_EXHAUSTED: ").removeprefix("XLA:TPU compile permanent error. "),
        fits=not (over or array_over),
        hbm_bytes=_bytes(over[1], over[2]) if over else int(array_over[1]) if array_over else None,
        limit_bytes=_bytes(over[3], over[4]) if over else tpu.generation.program_hbm_bytes,
        hbm_report=(*report, *padding[:3]),
        flops=None,
        libtpu=result["libtpu"],
    )


def _bytes(number: str, unit: str) -> int:
    return int(float(number) * _UNITS[unit])


def _describe_death(done: "subprocess.CompletedProcess[str]") -> str:
    if done.returncode == -9:
        return "the TPU compiler was killed, most likely for lack of this machine's memory; try a smaller batch"
    last = done.stderr.strip().splitlines()[-1:] or ["no output"]
    return f"the TPU compiler ended with status {done.returncode}: {last[0][:300]}"
