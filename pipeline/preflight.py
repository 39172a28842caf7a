"""Tells whether the training step compiles for a TPU, fits into it and how fast it is at most, without a TPU.

python -m pipeline.preflight --tpu v5e:2x2 --preset photos
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.trainer.devices import check_batch
from data.errors import UserError
from pipeline.batch_search import BatchSearch, Trial, find_largest_batch
from pipeline.command_line import EXIT_DONE, EXIT_FAILED, CommandLineParser, add_config_flags, command
from pipeline.config import DataChoice, PipelineConfig, load_config
from pipeline.preflight_report import PreflightReport, StepReport, print_report, to_json
from pipeline.tpu_compiler import CompilerFault, check_environment, compile_for_tpu
from pipeline.tpu_types import GIB, TPU_TYPES, TpuType, find_tpu_type

if TYPE_CHECKING:
    from components.trainer.lowering import LoweredStep, StepName

DEFAULT_CLASSES = 1000


@command(interrupted="interrupted; a search can start from a batch that was seen to fit: --batch")
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 0 every step compiles and fits, 1 one does not or the compiler failed, 2 the user's mistake (or
        a step that cannot be lowered), 130 interrupted.
    """
    arguments = make_parser().parse_args(argv)
    tpu = find_tpu_type(arguments.tpu)
    config = load_step_config(arguments)
    if arguments.classes < 2:
        raise UserError(f"--classes {arguments.classes}: must be at least 2")
    if arguments.images is not None and arguments.images < 1:
        raise UserError(f"--images {arguments.images}: must be at least 1")
    batch = choose_batch(arguments.batch, config.trainer.batch_size, tpu)
    check_environment()
    report = run(tpu, config, arguments.classes, batch, arguments.phase, arguments.find_batch, arguments.images)
    if arguments.json:
        print(json.dumps(to_json(report), indent=2))
    else:
        print_report(report)
    return EXIT_DONE if report.passed else EXIT_FAILED


def make_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    known = ", ".join(f"{tpu.generation.name}:{tpu.topology}" for tpu in TPU_TYPES)
    parser = CommandLineParser(
        prog="python -m pipeline.preflight",
        description="Compiles the Trainer's own steps with Google's TPU compiler, on this machine and without a TPU, "
        "and tells whether they fit and how fast they are at most; images do not matter. "
        "Its environment is made by: make preflight",
        epilog="exit status: 0 every step compiles and fits, 1 one does not, 2 a mistake in the input or a step that "
        "cannot be lowered, 130 interrupted",
    )
    parser.add_argument("--tpu", required=True, metavar="TYPE", help=f"{known}, or their names: v2-8, v5e-4, ...")
    add_config_flags(parser, "photos")
    parser.add_argument(
        "--batch", type=int, metavar="N", help="images per core (default: trainer.batch_size over all cores)"
    )
    parser.add_argument(
        "--find-batch", action="store_true", help="find the largest batch per core that fits: several compilations"
    )
    parser.add_argument(
        "--classes", type=int, default=DEFAULT_CLASSES, metavar="N", help="classes of the head (%(default)s)"
    )
    parser.add_argument(
        "--phase", choices=["head", "fine-tune"], help="phase of training (default: the last, which needs most)"
    )
    parser.add_argument(
        "--images",
        type=int,
        metavar="N",
        help="images of all splits, from which the recipe follows (default: as many as make its widest step)",
    )
    parser.add_argument("--json", action="store_true", help="print an object")
    return parser


def load_step_config(arguments: argparse.Namespace) -> PipelineConfig:
    """Loads the configuration without its data: a step is the same for all images of a size."""
    overrides = [item for item in arguments.set if not item.startswith("data.")]
    no_data = DataChoice(arguments.preset, {"source": "digits", "path": None, "class_names": None})
    return load_config(arguments.preset, arguments.config, no_data, overrides)


def choose_batch(batch_per_core: int | None, batch_size: int, tpu: TpuType) -> int:
    """Returns the images per core: what is asked for, or a core's part of the settings' batch.

    Raises:
        UserError: less than one, or the settings' batch cannot be shared evenly.
    """
    if batch_per_core is not None:
        if batch_per_core < 1:
            raise UserError(f"--batch {batch_per_core}: must be at least 1")
        return batch_per_core
    check_batch(batch_size, tpu.cores, f"cores of {tpu.name}", ", or say --batch N for N images per core")
    return batch_size // tpu.cores


def run(
    tpu: TpuType,
    config: PipelineConfig,
    class_count: int,
    batch_per_core: int,
    phase_name: str | None,
    find_batch: bool,
    images: int | None = None,
) -> PreflightReport:
    """Lowers and compiles both steps; with `find_batch` for the largest batch that fits.

    What is lowered is the widest step that the recipe may take, with `images` of them over all splits; where it steps
    nothing, `test_step` alone.

    Raises:
        UserError: a step cannot be lowered, or the settings have no such phase.
        CompilerFault: the compiler gave no answer.
    """
    _note("loading TensorFlow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from pipeline.display import output_to_log

    with output_to_log(Path(os.devnull), verbose=False):  # TensorFlow greets on standard error
        from components.trainer import lowering

        image_size = config.transform.image_size
        from components.trainer.widest_plan import plan_widest

        shares = config.data.eval_share, config.data.test_share
        plan = plan_widest(config.trainer, image_size, class_count, images, shares, device="tpu")
        phase = lowering.choose_phase(plan.settings, phase_name)
        steps = lowering.make_phase_steps(plan.settings, phase, image_size, class_count)

    def attempt(step_name: Any, batch: int) -> StepReport:
        with output_to_log(Path(os.devnull), verbose=False):
            step = lowering.lower_step(steps, step_name, batch)
        return compile_step(step, tpu)

    search: BatchSearch | None = None
    reports: list[StepReport] = []
    names = lowering.STEPS if phase else lowering.STEPS[1:]
    if find_batch:
        search, reports = _search(attempt, tpu, batch_per_core, names[0])
        batch_per_core = search.largest or search.trials[-1].batch_size
    for step_name in names[len(reports) :]:
        reports.append(attempt(step_name, batch_per_core))
    precision = "bfloat16" if config.trainer.precision == "auto" else config.trainer.precision
    return PreflightReport(
        tpu,
        image_size,
        class_count,
        precision,
        config.trainer.recipe,
        phase.name if phase else None,
        phase.blocks if phase else 0,
        batch_per_core,
        tuple(reports),
        search,
    )


def compile_step(step: "LoweredStep", tpu: TpuType) -> StepReport:
    """Compiles a lowered step and bounds its speed."""
    _note(f"compiling {step.name} for {tpu.generation.name}, {step.batch_size} images per core")
    start = time.monotonic()
    compilation = compile_for_tpu(step.hlo, tpu)
    seconds = time.monotonic() - start
    least = None if compilation.flops is None else compilation.flops / tpu.generation.core_peak_flops
    used = "" if compilation.hbm_bytes is None else f": {compilation.hbm_bytes / GIB:.2f} GiB of HBM"
    _note(f"  {'compiled' if compilation.compiled else 'refused'} in {seconds:.0f} s{used}")
    return StepReport(step, compilation, least, seconds)


def _search(
    attempt: Callable[[Any, int], StepReport], tpu: TpuType, start: int, step_name: "StepName"
) -> tuple[BatchSearch, list[StepReport]]:
    """Searches with a step, of several the one that needs the most memory; returns its report for the batch found."""
    reports: dict[int, StepReport] = {}

    def try_batch(batch: int) -> Trial:
        reports[batch] = attempt(step_name, batch)
        compilation = reports[batch].compilation
        if not compilation.compiled and compilation.fits:
            raise CompilerFault(f"{step_name} does not compile for {tpu.name} at any batch: {compilation.reason}")
        return Trial(batch, compilation.compiled, compilation.hbm_bytes)

    search = find_largest_batch(try_batch, tpu.generation.program_hbm_bytes, start)
    return search, [reports[search.largest or search.trials[-1].batch_size]]


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
