"""Measures the server: `python -m tests.benchmarks.serving VERSIONS PHOTOS`.

VERSIONS is a folder of numbered versions of a model (two for `--soak`), PHOTOS a folder of photographs. Each photograph
is made a JPEG of about 120 KB, or with `--megapixels 12` one of that size whose EXIF turns it. The server's CPU seconds
an image are set beside those of the bare SavedModel in the batch that the server measured best, given the same files
(`serving_default`) and given its input images (`serving_pixels`). CPU seconds hold on a machine that others use, too;
latencies and requests a second do not.
"""

import argparse
import asyncio
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from tests.benchmarks.serving_load import Outcome, run_clients, run_rate

ROOT = Path(__file__).parent.parent.parent
_BYTES = 120_000
_SOAK_TURNED = 6
_TICKS = os.sysconf("SC_CLK_TCK")

_BARE = """
import json, os, resource, sys, time
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
from pathlib import Path
import numpy as np, tensorflow as tf
from components.exported_model.loaded import LoadedModel
folder, files, batch, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
model = LoadedModel(Path(folder))
encoded = [path.read_bytes() for path in sorted(Path(files).iterdir())]
encoded = (encoded * batch)[:max(batch, len(encoded) // batch * batch)]
prepared = [model.prepare(one, 89_000_000) for one in encoded]
signatures = model._loaded.signatures
def measure(call, items):
    batches = [items[start:start + batch] for start in range(0, len(items), batch)]
    call(batches[0])
    start, before, images = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF), 0
    while time.perf_counter() - start < seconds:
        for one in batches:
            call(one)
            images += len(one)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / images
print(json.dumps({
    "files": measure(lambda items: signatures["serving_default"](image_bytes=tf.constant(items)), encoded),
    "pixels": measure(lambda items: signatures["serving_pixels"](pixels=tf.constant(np.stack(items))), prepared),
}))
"""


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--megapixels", type=float, help="make photographs of this size in place of 120 KB")
    parser.add_argument("--seconds", type=float, default=20, help="of each load")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 64])
    parser.add_argument("--rates", type=float, nargs="*", default=[], help="requests a second, open loop")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="with garbage, cut connections and two switches")
    parser.add_argument("--batch", type=int, help="of the server and of the bare SavedModel (default: as measured)")
    parser.add_argument("--server", nargs=argparse.REMAINDER, default=[], help="further flags of the server")
    arguments = parser.parse_args()
    arguments.server += ["--batch", str(arguments.batch)] if arguments.batch else []
    with tempfile.TemporaryDirectory(prefix="serving-") as root:
        files = Path(root) / "files"
        bodies = make_photographs(arguments.photos, files, arguments.pictures, arguments.megapixels)
        print(f"{len(bodies)} photographs of {sum(map(len, bodies)) / len(bodies) / 1000:.0f} KB on the average")
        if arguments.soak:
            soak(arguments, Path(root), files, bodies)
        else:
            measure(arguments, files, bodies)


def make_photographs(photos: Path, files: Path, count: int, megapixels: float | None) -> list[bytes]:
    """Writes JPEGs of about 120 KB, or of so many pixels and turned by EXIF."""
    found = sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    files.mkdir()
    bodies = []
    for path in found[:: max(1, len(found) // count)][:count]:
        with Image.open(path) as image:
            picture = image.convert("RGB")
        if megapixels:
            height = int((megapixels * 1e6 * 3 / 4) ** 0.5)
            exif = Image.Exif()
            exif[0x0112] = _SOAK_TURNED
            body = encode(picture.resize((height * 4 // 3, height), Image.Resampling.BICUBIC), 88, exif)
        else:
            picture = picture.resize((800, 600), Image.Resampling.BICUBIC)
            body = min(
                (encode(picture, quality) for quality in range(60, 100, 3)), key=lambda one: abs(len(one) - _BYTES)
            )
        bodies.append(body)
        (files / f"{len(bodies):04}.jpg").write_bytes(body)
    return bodies


def encode(picture: Image.Image, quality: int, exif: Image.Exif | None = None) -> bytes:
    """Returns a JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, **({"exif": exif} if exif else {}))
    return buffer.getvalue()


class Running:
    """A server of its own process.

    Attributes:
        port: where it answers.
        batch: that measured best.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.batch = process, 1
        assert process.stdout
        for line in process.stdout:
            print(f"  server: {line.rstrip()}")
            if found := re.match(r"batches of (\d+)", line):
                self.batch = int(found[1])
            if found := re.search(r":(\d+)/docs", line):
                self.port = int(found[1])
                return
        raise SystemExit("the server did not start")

    def cpu_seconds(self) -> float:
        """Returns what it has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_mb(self) -> float:
        """Returns the memory that it holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


@contextmanager
def serving(versions: Path, *flags: str) -> Iterator[Running]:
    """Runs `python -m pipeline.serve`."""
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        command = [sys.executable, "-m", "pipeline.serve", "--model", str(versions), "--port", "0", "--log", log.name]
        process = subprocess.Popen([*command, *flags], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            yield Running(process)
        finally:
            process.terminate()
            process.communicate(timeout=60)


def measure(arguments: argparse.Namespace, files: Path, bodies: list[bytes]) -> None:
    """Prints CPU seconds an image, requests a second and latencies."""
    newest = max(
        (path for path in arguments.versions.iterdir() if path.name.isdigit()), key=lambda path: int(path.name)
    )
    with serving(arguments.versions, *arguments.server) as server:
        loads: list[tuple[str, Any]] = [
            *(
                (f"{clients} clients", run_clients(server.port, bodies, clients, arguments.seconds))
                for clients in arguments.clients
            ),
            *(
                (f"{rate:g} requests/s", run_rate(server.port, bodies, rate, arguments.seconds))
                for rate in arguments.rates
            ),
        ]
        served: dict[str, float] = {}
        for name, load in loads:
            before = server.cpu_seconds()
            outcome: Outcome = asyncio.run(load)
            answered = outcome.statuses.get(200, 0)
            served[name] = (server.cpu_seconds() - before) / max(answered, 1)
            print(f"{name}: {outcome.tell()}; {1000 * served[name]:.1f} CPU ms an image")
        batch = arguments.batch or server.batch
    command = [sys.executable, "-c", _BARE, str(newest), str(files), str(batch), str(arguments.seconds)]
    bare = json.loads(
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    )
    for key, seconds in bare.items():
        shares = ", ".join(f"{seconds / mine:.2f} at {name}" for name, mine in served.items())
        print(
            f"bare SavedModel of {key}, batches of {batch}: {1000 * seconds:.1f} CPU ms an image; the server: {shares}"
        )


def soak(arguments: argparse.Namespace, root: Path, files: Path, bodies: list[bytes]) -> None:
    """Sends 10 % garbage, cuts 5 % of the connections, changes the version twice, and compares every answer."""
    numbers = sorted(int(path.name) for path in arguments.versions.iterdir() if path.name.isdigit())[-2:]
    paths = [str(path) for path in sorted(files.iterdir())]
    expected = {number: ask_predict(arguments.versions / str(number), paths) for number in numbers}
    shown = root / "model"
    shutil.copytree(arguments.versions / str(numbers[0]), shown / str(numbers[0]))
    garbage = [
        b"",
        b"<html>404</html>",
        bodies[0][: len(bodies[0]) // 2],
        os.urandom(5000),
        b"\x89PNG\r\n\x1a\n" + bytes(99),
    ]

    def check(number: int, version: int, answer: dict[str, Any]) -> str | None:
        wanted = expected.get(version, [{}] * len(bodies))[number]
        is_right = answer["model_version"] == version and answer["label"] == wanted.get("label")
        if is_right and abs(answer["probability"] - wanted["probability"]) < 1e-4:
            return None
        return f"version {version}: {answer}, but {wanted}"

    seconds, rate = arguments.soak * 60, (arguments.rates or [5.0])[0]
    versions: list[tuple[float, int]] = []
    memory: list[tuple[float, float]] = []

    async def run(server: Running) -> Outcome:
        load = asyncio.create_task(
            run_rate(server.port, bodies, rate, seconds, check, garbage, garbage_share=0.1, cut_share=0.05)
        )
        start, second = time.perf_counter(), shown / str(numbers[1])
        while not load.done():
            await asyncio.sleep(1)
            passed = time.perf_counter() - start
            memory.append((passed, server.resident_mb()))
            if passed > seconds / 3 and not versions:
                await asyncio.to_thread(shutil.copytree, arguments.versions / second.name, second)
                versions.append((passed, numbers[1]))
            if passed > seconds * 2 / 3 and len(versions) == 1:
                second.rename(shown / "moved-aside")
                versions.append((passed, numbers[0]))
        return await load

    with serving(shown, *arguments.server) as server:
        outcome = asyncio.run(run(server))
        print(f"{arguments.soak:g} minutes at {rate:g} requests/s, versions {versions}: {outcome.tell()}")
    print(*outcome.wrong[:5], sep="\n")
    settled = max((mb for passed, mb in memory if passed <= 120), default=0.0)
    print(
        f"memory: at most {settled:.0f} MB until minute 2, {memory[-1][1]:.0f} MB at the end, "
        f"{max(mb for _, mb in memory):.0f} MB at most"
    )


def ask_predict(version: Path, paths: list[str]) -> list[dict[str, Any]]:
    """Returns what `pipeline.predict` says of the files."""
    command = [sys.executable, "-m", "pipeline.predict", *paths, "--model", str(version), "--json"]
    return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    main()
