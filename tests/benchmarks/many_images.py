"""Memory and speed of every node with many photographs: `python -m tests.benchmarks.many_images --data DIR --images N`.

Makes crops of the photographs in DIR, encoded anew as JPEGs of 120 KB, runs the pipeline on them at 64 px (random
weights, one epoch of the head, no fine-tuning), and prints of every node its time, its images a second and the most
anonymous memory that the run's processes held together while it ran, sampled five times a second. Beside it what one
process and two make of the same files when they do nothing but decode.
"""

import argparse
import io
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
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
    """

    name: str
    seconds: float
    peak_gib: float
    start_gib: float


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
    # Encoded twice, since how well it compresses is known only then.
    scale = (_FILE_BYTES / len(_encode(crop))) ** 0.6
    encoded = _encode(crop.resize((round(crop.width * scale), round(crop.height * scale))))
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
    samples: list[tuple[float, float]] = []
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
        held = [gib for at, gib in samples if end - seconds <= at <= end]
        if held:
            used.append(NodeUse(name, seconds, max(held), held[0]))
    used.append(NodeUse("whole run", sum(use.seconds for use in used), max(gib for _, gib in samples), 0.0))
    return used


def _sample(process: subprocess.Popen, samples: list[tuple[float, float]]) -> None:
    while process.poll() is None:
        samples.append((time.monotonic(), _anonymous_gib(process.pid)))
        time.sleep(1 / _SAMPLES_PER_SECOND)


def _anonymous_gib(root: int) -> float:
    """Returns the anonymous memory of a process and all below it, GiB: what no file backs, so that it needs memory."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        waiting += parents.get(pid, [])
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Anonymous:"))
    return total / 2**20


def measure_decoding(data_dir: Path, most: int = 2000) -> tuple[float, float]:
    """Returns images/s of one process and of two that read, hash and decode files, and do nothing else."""
    files = sorted(data_dir.rglob("*.jpg"))[:most]
    speeds = []
    for count in (1, 2):
        with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
            list(pool.map(_decode, files[:64], chunksize=8))
            started = time.monotonic()
            list(pool.map(_decode, files, chunksize=32))
            speeds.append(len(files) / (time.monotonic() - started))
    return speeds[0], speeds[1]


def _decode(path: Path) -> int:
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        image.load()
        return image.width


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder with photographs; each one's folder is its class"
    )
    parser.add_argument("--images", type=int, default=5000, help="photographs to make and train on (5000)")
    parser.add_argument("--work", type=Path, help="where they are made and kept; else a temporary folder")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="further settings of the run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        folder = work / f"photographs-{arguments.images}"
        make_photographs(arguments.data, folder, arguments.images)
        sizes = [path.stat().st_size for path in folder.rglob("*.jpg")]
        print(f"{len(sizes):,} JPEGs, {np.mean(sizes) / 1000:.0f} KB on average; {describe_machine()}")
        one, two = measure_decoding(folder)
        print(f"decoding alone: {one:.0f} images/s in one process, {two:.0f} in two ({two / one:.2f} times)")
        uses = run_pipeline(folder, work / "output", arguments.set)
        print(f"{'node':<20}{'seconds':>9}{'images/s':>10}{'peak GiB':>10}{'at start':>10}")
        for use in uses:
            rate = arguments.images / max(use.seconds, 0.05)
            print(f"{use.name:<20}{use.seconds:9.1f}{rate:10.0f}{use.peak_gib:10.2f}{use.start_gib:10.2f}")


if __name__ == "__main__":
    main()
