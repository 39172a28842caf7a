"""What the preflight has to say: for a person, and as JSON."""

import sys
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.batch_search import BatchSearch
from pipeline.display import print_table
from pipeline.roofline import Roofline
from pipeline.tpu_compiler import Compilation
from pipeline.tpu_types import GIB, TpuType

if TYPE_CHECKING:
    from components.trainer.lowering import LoweredStep


@dataclass(frozen=True)
class StepReport:
    """One step, lowered and compiled for one core."""

    step: "LoweredStep"
    compilation: Compilation
    roofline: Roofline | None
    seconds: float


@dataclass(frozen=True)
class PreflightReport:
    """All that the command found; `phase` is None where the recipe steps nothing."""

    tpu: TpuType
    image_size: int
    class_count: int
    precision: str
    recipe: str
    phase: str | None
    blocks: int
    batch_per_core: int
    steps: tuple[StepReport, ...]
    search: BatchSearch | None

    @property
    def passed(self) -> bool:
        """Whether every step compiled and fits."""
        return bool(self.steps) and all(report.compilation.compiled for report in self.steps)


def left_out(report: PreflightReport) -> list[str]:
    """Returns what the figures do not hold, one sentence each."""
    tpu, step = report.tpu, report.steps[0].step
    lines = [
        "The steps were lowered by TensorFlow's CPU kernels: this build has no TPU kernels, which may lower some "
        "operations differently. Operations without any XLA kernel are refused.",
        f"Compiled for one core by libtpu {report.steps[0].compilation.libtpu}; TensorFlow on a TPU brings an "
        "older one.",
        "The gradients' all-reduce is not in the compiled step: its time is from its bytes and may overlap the rest.",
        f"HBM for batches that wait for their step ({_size(step.input_bytes)} each) and everything on the host, the "
        "input pipeline above all, are not in the figures.",
        "HBM traffic counts what each instruction reads and writes once, without padding; FLOPs are at the peak for "
        f"bfloat16{', which float32 does not reach' if report.precision == 'float32' else ''}. A real step is slower.",
    ]
    if tpu.cores_per_replica > 1:
        lines.append(
            f"On {tpu.generation.name} TensorFlow joins the {tpu.cores_per_replica} cores of a chip into one replica "
            f"with {tpu.hbm_bytes_per_replica / GIB:.0f} GiB; this compiler was only offered single cores: a replica's "
            f"batch is {tpu.cores_per_replica} times the figure per core."
        )
    return lines


def to_json(report: PreflightReport) -> dict[str, Any]:
    """Returns a report of plain JSON types; bytes, seconds and FLOPs as numbers."""
    search = report.search
    return {
        "passed": report.passed,
        "tpu": {
            **{key: value for key, value in asdict(report.tpu).items() if key != "generation"},
            "chips": report.tpu.chips,
            "cores": report.tpu.cores,
            "replicas": report.tpu.replicas,
            "generation": asdict(report.tpu.generation),
        },
        **{
            key: getattr(report, key) for key in ("image_size", "class_count", "precision", "recipe", "phase", "blocks")
        },
        "batch_per_core": report.batch_per_core,
        "batch_size": report.batch_per_core * report.tpu.cores,
        "steps": [_step_json(item) for item in report.steps],
        "find_batch": None if search is None else {**asdict(search), "exact": search.exact},
        "left_out": left_out(report),
    }


def _step_json(item: StepReport) -> dict[str, Any]:
    traffic, roofline = item.compilation.traffic, item.roofline
    return {
        **asdict(replace(item.step, hlo=b"")),
        **asdict(item.compilation),
        "hlo": len(item.step.hlo),
        "padding_share": traffic.padding_share if traffic else None,
        "roofline": {**asdict(roofline), "seconds": roofline.seconds, "limit": roofline.limit} if roofline else None,
        "compile_seconds": round(item.seconds, 1),
    }


def print_report(report: PreflightReport) -> None:
    """Prints a report for a person."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)
    tpu, chip = report.tpu, report.tpu.generation
    console.print(
        f"[bold]{tpu.name}[/] ({chip.name}:{tpu.topology}): {tpu.chips} chips of {chip.cores_per_chip} core(s), each "
        f"{chip.peak_flops / chip.cores_per_chip / 1e12:.4g} TFLOP/s in bfloat16, "
        f"{chip.hbm_bytes / chip.cores_per_chip / GIB:.4g} GiB of HBM at "
        f"{chip.hbm_bandwidth / chip.cores_per_chip / 1e9:.4g} GB/s",
        soft_wrap=True,
    )
    phase = f"phase {report.phase} ({report.blocks} of the backbone's blocks learn)"
    if report.phase is None:
        phase = f"nothing is stepped by recipe {report.recipe} (the head is solved on what the forward pass gives)"
    console.print(
        f"{report.image_size} px, {report.class_count:,} classes, {report.precision}, {phase}, "
        f"{report.batch_per_core} images per core, "
        f"{report.batch_per_core * tpu.cores:,} in a step\n",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False)
    for column in (
        "step",
        "",
        "HBM of a core",
        "FLOPs",
        "HBM traffic",
        "padding",
        "at least",
        "limit",
        "images/s at most",
    ):
        # In a terminal of 80 columns those with several words fold, and no word is cut.
        table.add_column(
            column,
            justify="left" if column in ("step", "", "limit") else "right",
            no_wrap=" " not in column,
            min_width=max(map(len, column.split()), default=None),
        )
    for item in report.steps:
        table.add_row(*_row(item))
    print_table(table)
    _print_details(report, console)


def _row(item: StepReport) -> list[str]:
    compilation, traffic, roofline = item.compilation, item.compilation.traffic, item.roofline
    hbm = "?" if compilation.hbm_bytes is None else f"{compilation.hbm_bytes / GIB:.2f}"
    memory = f"{hbm} of {compilation.limit_bytes / GIB:.2f} GiB"
    if traffic is None or roofline is None or compilation.flops is None:
        return [item.step.name, "[red]refused[/]", memory, *["-"] * 6]
    return [
        item.step.name,
        "[green]compiled[/]",
        memory,
        f"{compilation.flops / 1e12:.3g} T",
        _size(traffic.moved_bytes),
        f"{traffic.padding_share:.0%}",
        f"{roofline.seconds * 1e3:.3g} ms",
        roofline.limit,
        f"{roofline.images_per_second:,.0f}",
    ]


def _print_details(report: PreflightReport, console: Console) -> None:
    for item in report.steps:
        if item.compilation.reason:
            console.print(f"\n[red]{item.step.name}[/]: {escape(item.compilation.reason)}", soft_wrap=True)
            for line in item.compilation.hbm_report:
                console.print(f"    {escape(line)}", soft_wrap=True)
        if item.step.trained_bytes and item.roofline and report.tpu.chips > 1:
            console.print(
                f"\nall-reduce of {_size(item.step.trained_bytes)} of gradients over {report.tpu.chips} chips: at "
                f"least {item.roofline.all_reduce_seconds * 1e3:.2g} ms",
                soft_wrap=True,
            )
    if report.search is not None:
        console.print(f"largest batch per core: {_search_text(report.search)}", soft_wrap=True)
    console.print("\nnot in these figures:")
    for line in left_out(report):
        console.print(f"  - {escape(line)}", soft_wrap=True)


def _search_text(search: BatchSearch) -> str:
    if search.largest is None:
        return f"none of the multiples of 8 down to {search.refused} fits"
    if search.refused is None:
        return f"at least {search.largest}"
    note = "" if search.exact else "; the search ended before it had tried those between"
    return f"{search.largest} ({search.refused} does not fit{note}; {len(search.trials)} compilations)"


def _size(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
