"""The default run against a plain Keras script: `python -m tests.benchmarks.default_run`.

Pairs of whole processes in turn, cold cache, imports counted on both sides, a seed for each pair, and the ratio pair by
pair. The images are the same in all pairs; what a seed changes is the weights and the order of training.
"""

import argparse
import json
import tempfile
from pathlib import Path

from tests.benchmarks.whole_process import describe, describe_machine, run_module

PLAIN_OPTIONS = [
    "--head-epochs=1",
    "--fine-tune-epochs=4",
    "--batch-size=32",
    "--head-learning-rate=0.003",
    "--fine-tune-learning-rate=0.0001",
    "--dropout=0.2",
]
"""How the plain script trains, whatever the preset does."""


def main() -> None:
    """Prints seconds of both, their ratio, the cached run's seconds and the peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    pairs = parser.parse_args().pairs
    ours, plain, cached, ratios, peaks = [], [], [], [], []
    for pair in range(1, pairs + 1):
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["--output-dir", folder, "--set", "trainer.weights=none", f"trainer.seed={pair}"]
            cold = run_module("pipeline.run_local", arguments)
            summary = json.loads((Path(folder) / "summary.json").read_text(encoding="utf-8"))
            cached.append(run_module("pipeline.run_local", arguments).seconds)
        counts = {split: sum(by_class.values()) for split, by_class in summary["data"]["counts"].items()}
        keras = run_module(
            "tests.benchmarks.plain_keras",
            [f"--train={counts['train']}", f"--eval={counts['eval']}", f"--seed={pair}", *PLAIN_OPTIONS],
        )
        ours.append(cold.seconds)
        plain.append(keras.seconds)
        ratios.append(cold.seconds / keras.seconds)
        peaks.append(cold.peak_mib)
        print(
            f"pair {pair}: pipeline {cold.seconds:.1f} s (accuracy {summary['metrics']['accuracy']:.4f}), "
            f"plain Keras {keras.seconds:.1f} s ({keras.output.splitlines()[-1]}), cached {cached[-1]:.1f} s",
            flush=True,
        )
    print(f"machine            {describe_machine()}")
    print(f"pipeline, cold     {describe(ours)} s, peak {max(peaks):.0f} MiB")
    print(f"plain Keras        {describe(plain)} s")
    print(f"pipeline / plain   {describe(ratios)}")
    print(f"pipeline, cached   {describe(cached)} s")


if __name__ == "__main__":
    main()
