"""What the container of a task or of the Trainer's job runs: TFX's own entry point, with the right sources, for a time.

python -m pipeline.vertex.task --lane LANE --sources-hash HASH --timeout-seconds N [--job] -- [TFX's own flags]
"""

import argparse
import os
import runpy
import sys
import threading
from collections.abc import Sequence

from components.lane import installed_lane
from pipeline.vertex.dataflow_jobs import name_job
from pipeline.vertex.sources import make_sources_hash

ENTRY_POINT = "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor"
JOB_ENTRY_POINT = "tfx.scripts.run_executor"
EXIT_REFUSED, EXIT_TIMEOUT = 2, 124


def make_command(sources_hash: str, timeout_seconds: int, *, job: bool = False) -> tuple[str, ...]:
    """Returns the command of a task, or of the Trainer's job; TFX's flags follow."""
    return (
        *("python", "-m", "pipeline.vertex.task"),
        *("--lane", installed_lane(), "--sources-hash", sources_hash, "--timeout-seconds", str(timeout_seconds)),
        *(["--job"] if job else []),
        "--",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Checks lane and sources, starts the clock and goes on as TFX's entry point.

    Returns:
        2 where one of them is another; else TFX's entry point ends the process, or the clock does, with status 124.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    cut = words.index("--")
    parser = argparse.ArgumentParser(prog="python -m pipeline.vertex.task")
    parser.add_argument("--lane", required=True)
    parser.add_argument("--sources-hash", required=True)
    parser.add_argument("--timeout-seconds", type=int, required=True)
    parser.add_argument("--job", action="store_true")
    own = parser.parse_args(words[:cut])
    if mismatch := _find_mismatch(own.lane, own.sources_hash):
        print(f"error: {mismatch}", file=sys.stderr)
        return EXIT_REFUSED
    start_clock(own.timeout_seconds, "trainer.timeout_hours" if own.job else "task_timeout_hours")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    entry_point = JOB_ENTRY_POINT if own.job else ENTRY_POINT
    given = words[cut + 1 :]
    sys.argv = [entry_point, *given, *name_job(given)]
    runpy.run_module(entry_point, run_name="__main__", alter_sys=True)
    return 0


def _find_mismatch(compiled_lane: str, compiled_sources: str) -> str | None:
    """Returns in what this image differs from what the pipeline was compiled from, and the way out."""
    lane = installed_lane()
    if lane != compiled_lane:
        return (
            f"this image is of the lane {lane}, and the pipeline was compiled in {compiled_lane}; build and push the "
            f"image with make image LANE={compiled_lane}, or compile again in an environment of {lane}"
        )
    sources = make_sources_hash()
    if sources != compiled_sources:
        return (
            f"this image holds other sources ({sources[:12]}) than those that the pipeline was compiled from "
            f"({compiled_sources[:12]}); build and push the image again, or compile again from its sources"
        )
    return None


def start_clock(timeout_seconds: int, setting: str) -> None:
    """Ends the process when the time is up, whatever it is doing: Vertex AI itself gives a task seven days.

    Args:
        timeout_seconds: from now.
        setting: what a user raises for more time.
    """

    def end() -> None:
        print(f"error: the process took longer than {timeout_seconds} s ({setting})", file=sys.stderr, flush=True)
        os._exit(EXIT_TIMEOUT)

    # A thread, not a signal: Python handles no signal while TensorFlow's own code runs.
    clock = threading.Timer(timeout_seconds, end)
    clock.daemon = True
    clock.start()


if __name__ == "__main__":
    sys.exit(main())
