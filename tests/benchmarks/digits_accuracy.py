"""Test accuracy of the digits preset from random weights over seeds: `python -m tests.benchmarks.digits_accuracy`."""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from tests.benchmarks.whole_process import describe_machine, run_module


def main() -> None:
    """Prints the test accuracy of each seed and their median; all runs share the nodes before the Trainer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    accuracies = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1, parser.parse_args().seeds + 1):
            settings = ["trainer.weights=none", f"trainer.seed={seed}"]
            run_module("pipeline.run_local", ["--output-dir", folder, "--set", *settings])
            summary = json.loads((Path(folder) / "summary.json").read_text(encoding="utf-8"))
            accuracies.append(summary["metrics"]["accuracy"])
            print(f"seed {seed}: test accuracy {accuracies[-1]:.4f}", flush=True)
    print(f"machine  {describe_machine()}")
    print(f"median   {statistics.median(accuracies):.4f}, lowest {min(accuracies):.4f}, highest {max(accuracies):.4f}")


if __name__ == "__main__":
    main()
