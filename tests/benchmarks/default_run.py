"""The default run against a plain Keras script: `python -m tests.benchmarks.default_run`.

Pairs of whole processes in turn, cold cache, imports counted on both sides, a seed for each pair, and the ratio pair by
pair. The images are the same in all pairs; what a seed changes is the weights and the order of training.
"""

import argparse
import json
import re
import statistics
import tempfile
from pathlib import Path

from components.trainer.settings import TrainerSettings
from pipeline.config import load_config
from tests.benchmarks.whole_process import describe, describe_machine, run_module


def plain_options(trainer: TrainerSettings) -> list[str]:
    """Returns the options that have the plain script train as these settings say."""
    return [
        f"--head-epochs={trainer.head_epochs}",
        f"--fine-tune-epochs={trainer.fine_tune_epochs}",
        f"--batch-size={trainer.batch_size}",
        f"--head-learning-rate={trainer.head_learning_rate}",
        f"--fine-tune-learning-rate={trainer.fine_tune_learning_rate}",
        f"--dropout={trainer.dropout}",
    ]


def main() -> None:
    """Prints seconds of both, their ratio, the cached run's seconds and the peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    pairs = parser.parse_args().pairs
    trainer = load_config("digits").trainer
    ours, plain, cached, ratios, peaks = [], [], [], [], []
    accuracies: dict[str, list[float]] = {"pipeline": [], "plain Keras": []}
    for pair in range(1, pairs + 1):
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["--output-dir", folder, "--set", "trainer.weights=none", f"trainer.seed={pair}"]
            cold = run_module("pipeline.run_local", arguments)
            summary = json.loads((Path(folder) / "summary.json").read_text(encoding="utf-8"))
            cached.append(run_module("pipeline.run_local", arguments).seconds)
        counts = {split: sum(by_class.values()) for split, by_class in summary["data"]["counts"].items()}
        keras = run_module(
            "tests.benchmarks.plain_keras",
            [f"--train={counts['train']}", f"--eval={counts['eval']}", f"--seed={pair}", *plain_options(trainer)],
        )
        accuracies["pipeline"].append(summary["metrics"]["accuracy"])
        accuracies["plain Keras"].append(float(re.findall(r"[0-9.]+", keras.output.splitlines()[-1])[-1]))
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
    for name, values in accuracies.items():
        print(f"{name:<18} median accuracy {statistics.median(values):.4f} ({min(values):.4f} to {max(values):.4f})")


if __name__ == "__main__":
    main()
