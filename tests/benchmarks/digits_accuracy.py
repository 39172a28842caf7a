"""The digits preset from random weights against plain Keras: `python -m tests.benchmarks.digits_accuracy`.

Test accuracies, seed by seed on the same images in the same splits. The plain script (`plain_keras.py`) trains VGG16 as
Keras's guide does, one epoch of the head and four of all layers in float32.
"""

import argparse
import json
import math
import statistics
import tempfile
from pathlib import Path

import numpy as np

from pipeline.config import load_config
from tests.benchmarks.default_run import PLAIN_OPTIONS
from tests.benchmarks.whole_process import describe_machine, run_module


def save_splits(output_dir: Path, image_size: int, path: Path) -> None:
    """Writes the transformed images and labels of a run as an npz file, for the plain script."""
    from components.trainer.inputs import open_split

    arrays = {}
    for split in ("train", "eval", "test"):
        files = output_dir.glob(f"pipeline_root/Transform/transformed_examples/*/Split-{split}/*")
        batches = list(open_split(sorted(map(str, files)), image_size, 64).in_order())
        kept = np.concatenate([weights for _, _, weights in batches]) > 0
        arrays[f"{split}_images"] = np.concatenate([images for images, _, _ in batches])[kept]
        arrays[f"{split}_labels"] = np.concatenate([labels for _, labels, _ in batches])[kept]
    np.savez(path, **arrays)


def main() -> None:
    """Prints both accuracies of each seed and their paired difference; all runs share the nodes before the Trainer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    config = load_config("digits")
    ours, plain = [], []
    with tempfile.TemporaryDirectory() as name:
        output_dir, splits = Path(name) / "output", Path(name) / "splits.npz"
        for seed in range(1, parser.parse_args().seeds + 1):
            settings = ["trainer.weights=none", f"trainer.seed={seed}"]
            run_module("pipeline.run_local", ["--output-dir", str(output_dir), "--set", *settings])
            summary = json.loads((output_dir / "summary.json").read_text(encoding="utf-8"))
            if seed == 1:
                save_splits(output_dir, config.transform.image_size, splits)
            ours.append(summary["metrics"]["accuracy"])
            keras = run_module(
                "tests.benchmarks.plain_keras",
                [f"--data={splits}", f"--seed={seed}", *PLAIN_OPTIONS],
            )
            plain.append(float(keras.output.split()[-1]))
            print(f"seed {seed}: pipeline {ours[-1]:.4f}, plain Keras {plain[-1]:.4f}", flush=True)
    print(f"machine      {describe_machine()}")
    for label, values in (("pipeline", ours), ("plain Keras", plain)):
        print(
            f"{label:<12} median {statistics.median(values):.4f}, lowest {min(values):.4f}, highest {max(values):.4f}"
        )
    differences = [a - b for a, b in zip(ours, plain, strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
    print(f"difference   mean {statistics.mean(differences):+.4f}, standard error {error:.4f}")


if __name__ == "__main__":
    main()
