"""Transfer learning on real photographs: this project's recipes against a regression and against Keras's guide.

    python -m tests.benchmarks.transfer --data DIR --weights FILE [--only SET] [--output FILE.json]

DIR holds sets, each a folder of class folders, or of `train|val|test` folders above them; FILE holds ImageNet's
weights of VGG16 without its head, in Keras's HDF5. Each contender on each set is a cell: a process of its own, whose
result is kept as soon as it is there, so that a second start goes on where the first was ended. What a cell's seconds
and memory are is said in `transfer_contenders`; how the images are split, in `transfer_data`.

- `regression`: logistic regression on VGG16's pooled last block, standardised, strength by 5 folds of train.
- `guide-frozen`, `guide-128`: Keras's transfer learning guide without augmentation: its frozen phase, at 224 pixels;
  and frozen phase and fine-tuning, at 128 pixels.
- `quick`, `balanced` at 224 pixels, `quick-128`, `balanced-128` at 128: the Trainer with this `trainer.recipe`.
- `best`, `quick-32`, `balanced-32`, `best-32`, only where `--contenders` names them: the last three for CIFAR-10.

Rows and requirements are computed from the probabilities on the test images, which lie in FILE.npz beside FILE.json.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.transfer_contenders import CONTENDERS, FINE_TUNE_EPOCHS, FURTHER
from tests.benchmarks.transfer_data import SPLITS, Limits, read_split
from tests.benchmarks.whole_process import describe_machine, run_module

# Not at the top: `transfer_scores` imports TensorFlow, whose memory would count in the peak of every process that is
# started from here (the kernel hands it on through fork), and the cells have processes of their own for their peak.

FORWARD_IMAGES_PER_SECOND = 6.0
"""VGG16 in float32 at 224 pixels on a busy machine of 2 cores; issue 11 measured 10 on a quiet Xeon."""

SIZES = CONTENDERS | FURTHER
"""Contender to image size."""

_START_SECONDS, _TRAINER_START_SECONDS = 15.0, 40.0
"""Imports and tracing; the Trainer's export, and the loading of what it exported, with them."""


class Results:
    """The JSON of all cells and the npz of their probabilities, both replaced as a whole."""

    def __init__(self, path: Path) -> None:
        """Reads what an earlier start left at `path`."""
        self.path, self._arrays_path = path, path.with_suffix(".npz")
        self.record: dict[str, Any] = {"facts": {}, "sets": {}, "left_out": {}, "cells": {}}
        self.arrays: dict[str, np.ndarray] = {}
        if path.exists():
            self.record = json.loads(path.read_text(encoding="utf-8"))
        if self._arrays_path.exists():
            with np.load(self._arrays_path) as stored:
                self.arrays = {key: stored[key] for key in stored.files}

    def has(self, name: str, contender: str) -> bool:
        """Says whether a cell is done; the npz is written before the JSON names the cell."""
        return f"{name}/{contender}" in self.record["cells"]

    def add(self, name: str, contender: str, facts: dict[str, Any], probabilities: np.ndarray) -> None:
        """Keeps a cell."""
        self.arrays[f"{name}/{contender}"] = probabilities
        self.record["cells"][f"{name}/{contender}"] = facts
        self.write()

    def write(self) -> None:
        """Replaces both files."""
        unfinished = self.path.with_name(f"unfinished-{self._arrays_path.name}")
        np.savez(unfinished, **self.arrays)
        unfinished.replace(self._arrays_path)
        unfinished = self.path.with_name(f"unfinished-{self.path.name}")
        unfinished.write_text(json.dumps(self.record, indent=1) + "\n", encoding="utf-8")
        unfinished.replace(self.path)

    def agree(self, section: str, values: dict[str, Any]) -> None:
        """Keeps values, or ends where an earlier start had others: rows of one file must be comparable."""
        for key, value in values.items():
            known = self.record[section].setdefault(key, value)
            if known != value:
                what = f"split of {key}" if section == "sets" else key
                raise SystemExit(
                    f"{self.path} holds results of another {what} ({known!s:.80}, now {value!s:.80}); give another "
                    "--output, or start as before"
                )


def estimate_seconds(contender: str, counts: dict[str, int], images_per_second: float) -> float:
    """Returns how long a cell takes, roughly.

    Args:
        contender: of `SIZES`.
        counts: split to images.
        images_per_second: of VGG16 forward at 224 pixels; a step that trains all layers costs three times as much.
    """
    train, judged, test = (counts[split] for split in SPLITS)
    passes = {
        "regression": train + test,
        "guide-frozen": train + judged,  # takes its features of test from the regression
        "guide-128": train + judged + test + FINE_TUNE_EPOCHS * (3 * train + judged),
        "quick": train + judged + test,
        "balanced": 3 * (train + judged) + test,
        "best": 30 * (train + judged) + test,
    }
    name = contender if contender in passes else contender.partition("-")[0]
    start = _TRAINER_START_SECONDS if contender.startswith(("quick", "balanced", "best")) else _START_SECONDS
    return start + passes[name] * (SIZES[contender] / 224) ** 2 / images_per_second


def prepare(results: Results, arguments: argparse.Namespace, sets: Sequence[str], work_dir: Path) -> list[str]:
    """Splits and transforms sets in a process of its own; returns those that have class folders."""
    sizes = sorted({SIZES[contender] for contender in arguments.contenders})
    options = [f"--data={arguments.data}", f"--work-dir={work_dir}"]
    options += [f"--set={name}" for name in sets] + [f"--size={size}" for size in sizes]
    options += [f"--{split}-images={getattr(arguments, f'{split}_images')}" for split in SPLITS]
    seconds = run_module("tests.benchmarks.transfer_data", options).seconds
    print(f"images of {len(sets)} sets ready after {seconds:.0f} s", flush=True)
    usable = []
    for name in sets:
        split = read_split(work_dir / name)
        assert split is not None
        if reason := split.get("left_out"):
            results.record["left_out"][name] = reason
            print(f"{name} is left out: {reason}", flush=True)
            continue
        for image, reason in split["unusable"].items():
            print(f"{name}/{image} is left out: {reason}", flush=True)
        usable.append(name)
        results.agree("sets", {name: {key: split[key] for key in ("counts", "classes", "digest")}})
        for size in sizes:
            with np.load(work_dir / name / str(size) / "pixels.npz") as stored:
                results.arrays[f"{name}/labels"] = stored["test_labels"]
    results.write()
    return usable


def run_cell(arguments: argparse.Namespace, root: Path, contender: str) -> tuple[dict[str, Any], np.ndarray]:
    """Runs one contender on one prepared set; returns its facts and its probabilities.

    Raises:
        RuntimeError: it failed.
    """
    with tempfile.TemporaryDirectory(dir=root) as folder:
        options = [f"--root={root}", f"--contender={contender}", f"--weights={arguments.weights}"]
        options += [f"--result={folder}", f"--trainer={arguments.trainer}", f"--started={time.time()}"]
        options += [] if arguments.full else ["--short-guide"]
        measured = run_module("tests.benchmarks.transfer_contenders", options)
        facts = json.loads(Path(folder, "cell.json").read_text(encoding="utf-8"))
        return {**facts, "process_seconds": measured.seconds}, np.load(Path(folder, "probabilities.npy"))


def run_cells(results: Results, arguments: argparse.Namespace, sets: Sequence[str], work_dir: Path) -> int:
    """Runs the cells that are not done yet, set by set; returns how many failed."""
    pending = [(name, contender) for name in sets for contender in arguments.contenders]
    pending = [cell for cell in pending if arguments.again or not results.has(*cell)]
    counts = {name: results.record["sets"][name]["counts"] for name in sets}
    seconds = sum(estimate_seconds(cell, counts[name], FORWARD_IMAGES_PER_SECOND) for name, cell in pending)
    print(
        f"{len(pending)} cells, about {seconds / 60:.0f} minutes at {FORWARD_IMAGES_PER_SECOND:g} images/s", flush=True
    )
    failed = 0
    started = time.monotonic()
    for number, (name, contender) in enumerate(pending, start=1):
        load = os.getloadavg()[0]
        try:
            facts, probabilities = run_cell(arguments, work_dir / name / str(SIZES[contender]), contender)
        except RuntimeError as error:
            failed += 1
            print(f"{name}/{contender} failed: {error}", flush=True)
            continue
        results.add(name, contender, {**facts, "machine": describe_machine(), "load": load}, probabilities)
        accuracy = (probabilities.argmax(axis=1) == results.arrays[f"{name}/labels"]).mean()
        print(
            f"{time.strftime('%H:%M:%S')} {number}/{len(pending)} {name}/{contender}: accuracy {accuracy:.3f}, "
            f"{facts['seconds']:.1f} s, process {facts['process_seconds']:.1f} s, {facts['peak_gib']:.2f} GiB, "
            f"load before {load:.1f}; "
            f"{(time.monotonic() - started) / 60:.1f} minutes so far",
            flush=True,
        )
    return failed


def print_account(results: Results) -> None:
    """Prints rows, pooled figures and requirements from what is stored."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")
    from tests.benchmarks.transfer_scores import Judged, describe

    cells: dict[str, dict[str, Judged]] = {contender: {} for contender in SIZES}
    for key, facts in results.record["cells"].items():
        name, contender = key.split("/")
        cells[contender][name] = Judged(
            results.arrays[f"{name}/labels"],
            results.arrays[key],
            facts["seconds"],
            facts["peak_gib"],
            facts.get("record", {}).get("temperature"),
            facts.get("whole", True),
        )
    for name, reason in results.record["left_out"].items():
        print(f"{name} is left out: {reason}")
    if len({facts["code"] for facts in results.record["cells"].values() if "code" in facts}) > 1:
        print("the Trainer's code changed between its cells: --again measures those of --contenders once more")
    print("\n".join(describe(cells)))


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder of sets")
    parser.add_argument("--weights", required=True, help="vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5")
    parser.add_argument("--only", action="append", metavar="SET", help="only this set; may be repeated")
    parser.add_argument("--contenders", nargs="+", choices=SIZES, default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--output", type=Path, default=Path("transfer.json"), help="results, kept and gone on with")
    parser.add_argument("--work-dir", type=Path, help="prepared images, kept; else beside the output, and removed")
    parser.add_argument("--list", action="store_true", help="prints what is done, and runs nothing")
    parser.add_argument("--again", action="store_true", help="runs cells that are done once more")
    parser.add_argument("--full", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--trainer",
        default="{}",
        metavar="JSON",
        help="further settings of the Trainer, to try them; null leaves one out",
    )
    for field in dataclasses.fields(Limits):
        parser.add_argument(f"--{field.name}-images", type=int, default=field.default, help="the most of a set")
    return parser


def main() -> None:
    """Runs the cells that are missing and prints the account."""
    arguments = make_parser().parse_args()
    found = sorted(path.name for path in Path(arguments.data).iterdir() if path.is_dir())
    if unknown := set(arguments.only or ()) - set(found):
        raise SystemExit(f"--only {min(unknown)}: {arguments.data} holds {', '.join(found)}")
    sets = [name for name in found if not arguments.only or name in arguments.only]
    results = Results(arguments.output)
    if arguments.list:
        for name in sets:
            for contender in arguments.contenders:
                print(f"{name}/{contender}: {'done' if results.has(name, contender) else 'missing'}")
        return
    facts = {"weights": hashlib.sha256(Path(arguments.weights).read_bytes()).hexdigest(), "full": arguments.full}
    results.agree("facts", {**facts, "trainer": arguments.trainer})
    print(f"machine  {describe_machine()}", flush=True)
    missing = [
        name
        for name in sets
        if name not in results.record["left_out"]
        and (arguments.again or not all(results.has(name, contender) for contender in arguments.contenders))
    ]
    failed = 0
    if missing:
        work_dir = arguments.work_dir or arguments.output.with_suffix(".work")
        failed = run_cells(results, arguments, prepare(results, arguments, missing, work_dir), work_dir)
        if not arguments.work_dir and not failed:
            shutil.rmtree(work_dir)
    print_account(results)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
