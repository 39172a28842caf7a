"""Memory and speed of every node with many photographs: `python -m tests.benchmarks.many_images --data DIR --images N`.

Makes crops of the photographs in DIR, encoded anew as JPEGs of 120 KB, runs the pipeline on them at 64 px (random
weights, one epoch of the head, no fine-tuning), and prints of every node its time, its images a second and the most
anonymous memory that the run's processes held together while it ran, sampled five times a second. With `--speed`: what
a second core gains ImageExampleGen, beside what it gains where files are decoded and nothing else.
"""

import argparse
import contextlib
import io
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks.whole_process import ROOT, describe_machine

_SUFFIXES = (".jpg", ".jpeg", ".png")
_FILE_BYTES = 120_000
_QUALITY = 88
_SAMPLES_PER_SECOND = 5
_SETTINGS = (
    "transform.image_size=64",
    "trainer.recipe=manual",
    "trainer.weights=none",
    "trainer.head_epochs=1",
    "trainer.fine_tune_epochs=0",
)
_NODE = re.compile(r"^ (\S) (\w+) +(\d+\.\d) s")


@dataclass
class NodeUse:
    """What a node took.

    Attributes:
        name: of the node.
        seconds: wall time.
        peak_gib: the most anonymous memory of the process tree.
        start_gib: that of its first sample: what earlier nodes left.
        cores: CPU time by wall time.
    """

    name: str
    seconds: float
    peak_gib: float
    start_gib: float
    cores: float


@dataclass
class Sample:
    """What the process tree holds and has used at a time.

    Attributes:
        at: by the monotonic clock, seconds.
        gib: anonymous memory: what no file backs, so that it needs memory.
        cpu_seconds: since the start, processes that have ended included.
    """

    at: float
    gib: float
    cpu_seconds: float


def make_photographs(data_dir: Path, folder: Path, count: int) -> None:
    """Writes `count` JPEGs of about 120 KB as `folder/<class>/NNNNN.jpg`; a photograph's folder is its class.

    Goes on where an earlier call ended: the first N are the same for every count.
    """
    photographs = sorted(path for path in data_dir.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not photographs:
        raise SystemExit(f"{data_dir} holds no photographs ({', '.join(_SUFFIXES)})")
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = ((photographs[i % len(photographs)], folder, i) for i in range(count))
        for done, _ in enumerate(pool.map(_make_crop, jobs, chunksize=64), 1):
            if done % 1000 == 0:
                print(f"{done:,} photographs", file=sys.stderr)


def _make_crop(job: tuple[Path, Path, int]) -> None:
    path, folder, number = job
    target = folder / path.parent.name / f"{number:06}.jpg"
    if target.exists():
        return
    random = np.random.default_rng(number)
    with Image.open(path) as opened:
        photograph = opened.convert("RGB")
    share = random.uniform(0.5, 1.0)
    width, height = round(photograph.width * share), round(photograph.height * share)
    left, top = (int(random.integers(0, most + 1)) for most in (photograph.width - width, photograph.height - height))
    crop = photograph.crop((left, top, left + width, top + height))
    if random.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    encoded = _encode(crop)
    side = 1.0
    for _ in range(3):  # How well it compresses shows only then.
        if 0.9 < len(encoded) / _FILE_BYTES < 1.1:
            break
        side *= (_FILE_BYTES / len(encoded)) ** 0.7
        encoded = _encode(crop.resize((max(round(crop.width * side), 32), max(round(crop.height * side), 32))))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.write_bytes(encoded)
    partial.rename(target)


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def run_pipeline(data_dir: Path, output_dir: Path, settings: Sequence[str]) -> list[NodeUse]:
    """Runs the pipeline and watches it.

    Raises:
        RuntimeError: it ended with another status than 0 (pushed) or 3 (not blessed).
    """
    arguments = ["--data", str(data_dir), "--output-dir", str(output_dir), "--no-cache"]
    for setting in (*_SETTINGS, *settings):
        arguments += ["--set", setting]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "pipeline.run_local", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    samples: list[Sample] = []
    sampler = threading.Thread(target=_sample, args=(process, samples), daemon=True)
    sampler.start()
    ends: list[tuple[str, float, float]] = []
    output = []
    assert process.stdout is not None
    for line in process.stdout:
        output.append(line)
        print(line, end="", file=sys.stderr)
        if match := _NODE.match(line):
            ends.append((match[2], time.monotonic(), float(match[3])))
    status = process.wait()
    sampler.join()
    if status not in (0, 3):
        raise RuntimeError(f"the run failed:\n{''.join(output)[-3000:]}")
    used = []
    for name, end, seconds in ends:
        held = [sample for sample in samples if end - seconds <= sample.at <= end]
        if len(held) > 1:
            cores = (held[-1].cpu_seconds - held[0].cpu_seconds) / (held[-1].at - held[0].at)
            used.append(NodeUse(name, seconds, max(sample.gib for sample in held), held[0].gib, cores))
    whole = samples[-2].at - samples[0].at
    peak = max(sample.gib for sample in samples)
    return [*used, NodeUse("whole run", whole, peak, 0.0, max(sample.cpu_seconds for sample in samples) / whole)]


def _sample(process: subprocess.Popen, samples: list[Sample]) -> None:
    while process.poll() is None:
        samples.append(_look_at_tree(process.pid))
        time.sleep(1 / _SAMPLES_PER_SECOND)


def _look_at_tree(root: int) -> Sample:
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            fields = stat.rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(entry))
            ticks[int(entry)] = sum(map(int, fields[11:15]))
    kib, cpu, waiting = 0, 0, [root]
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        cpu += ticks.get(pid, 0)
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
        except OSError:
            continue
        kib += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Anonymous:"))
    return Sample(time.monotonic(), kib / 2**20, cpu / os.sysconf("SC_CLK_TCK"))


def measure_decoding(data_dir: Path, processes: int) -> float:
    """Returns images/s of processes, each on a core, that read and decode files and do nothing else."""
    files = sorted(data_dir.rglob("*.jpg"))
    with _cores(processes), ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_decode, [files[:16]] * processes))
        # A share each, at once: this process would take its part of the one core if it handed out files.
        spans = list(pool.map(_decode, [files[number::processes] for number in range(processes)]))
        return len(files) / (max(end for _, end in spans) - min(start for start, _ in spans))


def _decode(files: Sequence[Path]) -> tuple[float, float]:
    started = time.monotonic()
    for path in files:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
    return started, time.monotonic()


def measure_example_gen(data_dir: Path, cores: int) -> float:
    """Returns images/s of ImageExampleGen, which checks and writes in as many threads as it has cores."""
    count = len(list(data_dir.rglob("*.jpg")))
    with _cores(cores), ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return count / pool.submit(_generate_examples, str(data_dir)).result()


def _generate_examples(data_dir: str) -> float:
    # Here: whoever makes or decodes photographs does without.
    from tfx.types import standard_artifacts

    from components.image_example_gen.component import ImageExampleGen
    from components.image_example_gen.executor import ImageExampleGenExecutor
    from data.settings import DataSettings
    from data.sources import make_source
    from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS

    settings = DataSettings(source="image_folder", path=data_dir)
    with tempfile.TemporaryDirectory() as folder:
        artifact = standard_artifacts.Examples()
        artifact.uri = os.path.join(folder, "examples")
        component = ImageExampleGen(settings, make_source(settings).fingerprint(), code_hash="")
        context = ImageExampleGenExecutor.Context(
            beam_pipeline_args=list(IN_PROCESS_BEAM_ARGS), tmp_dir=folder, unique_id="1"
        )
        started = time.monotonic()
        ImageExampleGenExecutor(context).Do({}, {"examples": [artifact]}, dict(component.exec_properties))
        return time.monotonic() - started


@contextlib.contextmanager
def _cores(count: int) -> Iterator[None]:
    """Inside it, this process and those that it starts have so many cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def compare_with_decoding(folder: Path) -> None:
    """Prints how much faster two cores make ImageExampleGen, and processes that only decode."""
    decoding = {cores: measure_decoding(folder, cores) for cores in (1, 2)}
    generating = {cores: measure_example_gen(folder, cores) for cores in (1, 2)}
    gained = {name: speeds[2] / speeds[1] for name, speeds in (("decoding", decoding), ("generating", generating))}
    print(f"decoding alone: {decoding[1]:.1f} images/s on one core, {decoding[2]:.1f} on two: {gained['decoding']:.2f}")
    print(f"ImageExampleGen: {generating[1]:.1f} on one, {generating[2]:.1f} on two: {gained['generating']:.2f}, of")
    print(f"what decoding gains {gained['generating'] / gained['decoding']:.2f}")


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder with photographs; each one's folder is its class"
    )
    parser.add_argument("--images", type=int, default=5000, help="photographs to make and train on (5000)")
    parser.add_argument("--work", type=Path, help="where they are made and kept; else a temporary folder")
    parser.add_argument("--speed", action="store_true", help="only compare ImageExampleGen with decoding alone")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="further settings of the run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        folder = work / f"photographs-{arguments.images}"
        make_photographs(arguments.data, folder, arguments.images)
        sizes = [path.stat().st_size for path in folder.rglob("*.jpg")]
        print(f"{len(sizes):,} JPEGs, {np.mean(sizes) / 1000:.0f} KB on average; {describe_machine()}")
        if arguments.speed:
            return compare_with_decoding(folder)
        uses = run_pipeline(folder, work / "output", arguments.set)
        print(f"{'node':<20}{'seconds':>9}{'images/s':>10}{'cores':>8}{'peak GiB':>10}{'at start':>10}")
        for use in uses:
            rate = arguments.images / max(use.seconds, 0.05)
            print(
                f"{use.name:<20}{use.seconds:9.1f}{rate:10.0f}{use.cores:8.2f}{use.peak_gib:10.2f}{use.start_gib:10.2f}"
            )


if __name__ == "__main__":
    main()
