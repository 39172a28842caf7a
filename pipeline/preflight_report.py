"""What the preflight has to say: for a person, and as JSON."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from components.lane import installed_lane
from pipeline.batch_search import BatchSearch
from pipeline.display import print_table
from pipeline.locks import read_pins
from pipeline.tpu_compiler import Compilation
from pipeline.tpu_types import GIB, TpuType

if TYPE_CHECKING:
    from components.trainer.lowering import LoweredStep


@dataclass(frozen=True)
class StepReport:
    """One step, lowered and compiled for one core.

    Attributes:
        step: what was lowered.
        compilation: the compiler's answer.
        least_seconds: the compiler's FLOPs at the core's published peak, which no step beats; None if refused.
        compile_seconds: what the compilation took.
    """

    step: "LoweredStep"
    compilation: Compilation
    least_seconds: float | None
    compile_seconds: float


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
    def batch_size(self) -> int:
        """Images in a step of the whole slice."""
        return self.batch_per_core * self.tpu.cores

    @property
    def passed(self) -> bool:
        """Whether every step compiled and fits."""
        return all(report.compilation.compiled for report in self.steps)


def left_out(report: PreflightReport) -> list[str]:
    """Returns what the figures do not hold, one sentence each."""
    tpu, step, lane = report.tpu, report.steps[0].step, installed_lane()
    lines = [
        "The steps were lowered by TensorFlow's CPU kernels: this build has no TPU kernels, which may lower some "
        "operations differently. Operations without any XLA kernel are refused.",
        f"Compiled for one core by libtpu {report.steps[0].compilation.libtpu}; the `tpu` image of {lane} has "
        f"{read_pins(lane, 'tpu').get('libtpu', 'an older one, of your choice')}.",
        f"HBM for batches that wait for their step ({step.input_bytes / 1e6:,.3g} MB each) is not counted.",
        "The time is a loose bound: the compiler's FLOPs at the published peak for bfloat16"
        f"{', which float32 does not reach' if report.precision == 'float32' else ''}. Reading and writing HBM, the "
        "gradients' way between the chips and the host's input pipeline are not in it; a real step is slower.",
    ]
    if tpu.cores_per_replica > 1:
        lines.append(
            f"On {tpu.generation.name} TensorFlow joins the {tpu.cores_per_replica} cores of a chip into one replica "
            f"with {tpu.hbm_bytes_per_replica / GIB:.0f} GiB; this compiler was only offered single cores: a replica's "
            f"batch is {tpu.cores_per_replica} times the figure per core."
        )
    return lines


_SETTINGS = (
    "image_size", "class_count", "precision", "recipe", "phase", "blocks", "batch_per_core", "batch_size"
)  # fmt: skip


def to_json(report: PreflightReport) -> dict[str, Any]:
    """Returns a report of plain JSON types; bytes, seconds and FLOPs as numbers."""
    search = report.search
    return {
        "passed": report.passed,
        "tpu": {
            **asdict(report.tpu),
            "chips": report.tpu.chips,
            "cores": report.tpu.cores,
            "replicas": report.tpu.replicas,
        },
        **{key: getattr(report, key) for key in _SETTINGS},
        "steps": [_step_json(item, report.batch_size) for item in report.steps],
        "find_batch": None if search is None else {**asdict(search), "exact": search.exact},
        "left_out": left_out(report),
    }


def _step_json(item: StepReport, batch_size: int) -> dict[str, Any]:
    return {
        **{key: value for key, value in vars(item.step).items() if key != "hlo"},
        **asdict(item.compilation),
        "least_seconds": item.least_seconds,
        "images_per_second": batch_size / item.least_seconds if item.least_seconds else None,
        "compile_seconds": round(item.compile_seconds, 1),
    }


def print_report(report: PreflightReport) -> None:
    """Prints a report for a person."""
    tpu, chip = report.tpu, report.tpu.generation
    phase = f"phase {report.phase} ({report.blocks} of the backbone's blocks learn)"
    if report.phase is None:
        phase = f"nothing is stepped by recipe {report.recipe} (the head is solved on what the forward pass gives)"
    table = Table(box=None, pad_edge=False)
    for column in ("step", "", "HBM of a core", "FLOPs", "at least", "images/s at most"):
        table.add_column(column, justify="left" if column in ("step", "") else "right", no_wrap=True)
    for item in report.steps:
        table.add_row(*_row(item, report.batch_size))
    parts: list[RenderableType] = [
        f"[bold]{tpu.name}[/] ({chip.name}:{tpu.topology}): {tpu.chips} chips of {chip.cores_per_chip} core(s), each "
        f"{chip.core_peak_flops / 1e12:.4g} TFLOP/s (bfloat16), {chip.hbm_bytes / chip.cores_per_chip / GIB:.4g} GiB "
        "HBM",
        f"{report.image_size} px, {report.class_count:,} classes, {report.precision}, {phase}, "
        f"{report.batch_per_core} images per core, {report.batch_size:,} in a step\n",
        table,
    ]
    for item in report.steps:
        if item.compilation.reason:
            parts.append(f"\n[red]{item.step.name}[/]: {escape(item.compilation.reason)}")
            parts += [f"    {escape(line)}" for line in item.compilation.hbm_report]
    if report.search is not None:
        parts.append(f"largest batch per core: {_search_text(report.search)}")
    print_table(Group(*parts, "\nnot in these figures:", *(f"  - {escape(line)}" for line in left_out(report))))


def _row(item: StepReport, batch_size: int) -> list[str]:
    compilation, least = item.compilation, item.least_seconds
    hbm = "?" if compilation.hbm_bytes is None else f"{compilation.hbm_bytes / GIB:.2f}"
    memory = f"{hbm} of {compilation.limit_bytes / GIB:.2f} GiB"
    if not compilation.flops or not least:
        return [item.step.name, "[red]refused[/]", memory, "-", "-", "-"]
    bound = f"{_figure(compilation.flops / 1e12)} T", f"{_figure(least * 1e3)} ms", _figure(batch_size / least)
    return [item.step.name, "[green]compiled[/]", memory, *bound]


def _figure(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _search_text(search: BatchSearch) -> str:
    if search.largest is None:
        return f"none of the multiples of 8 down to {search.refused} fits"
    if search.refused is None:
        return f"at least {search.largest}"
    note = "" if search.exact else "; the search ended before it had tried those between"
    return f"{search.largest} ({search.refused} does not fit{note}; {len(search.trials)} compilations)"
