"""Decisions on photographs: is the target kept on test, and does `unknown_score` find a class that train lacks?

    python -m tests.benchmarks.decision --data DIR --weights FILE [--work-dir WORK] [--only SET] [--size 128]

DIR holds sets of photographs, each a folder of class folders; FILE holds ImageNet's weights of VGG16 without its head,
in Keras's HDF5. Each set's images go through the backbone once, and what was computed is kept in WORK. Then, with the
Trainer's own functions:

- 20 random splits: half of the images choose the threshold and tell unknown images, a fifth of these as `eval`, as the
  Trainer does it (out of folds); the other half is test. Reached is a precision of `--target` on the images of test
  that are decided; a split in which the target cannot be shown decides nothing, and breaks no promise.
- each class left out of train in turn: the AUROC of `unknown_score` for its images against the known ones of test,
  beside that of 1 - the largest probability.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from scipy.special import softmax
from scipy.stats import rankdata

from tests.benchmarks.label_errors import compute_features
from tests.benchmarks.transfer_data import Limits
from tests.benchmarks.whole_process import describe_machine

SETS = ("cats-dogs", "fruits4", "trashnet", "intel-scenes", "neu-steel", "clothing10")
LIMITS = Limits(180, 80, 180)
SPLITS = 20


def auroc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Returns the share of (positive, negative) pairs that the scores order rightly, ties counting half."""
    count, others = int(positive.sum()), int((~positive).sum())
    return float((rankdata(scores)[positive].sum() - count * (count + 1) / 2) / (count * others))


class Solved:
    """A head on some of the images, with what it knows of them; the pooling is `roots-3`."""

    def __init__(self, features: np.ndarray, labels: np.ndarray, depths: tuple[int, ...], seed: int) -> None:
        """Solves it on four fifths, and on all, as the `balanced` recipe does of a small eval."""
        from components.trainer.competition import Judged
        from components.trainer.known_images import fit_known_images
        from components.trainer.solving import Features, solve_head

        classes, cut = int(labels.max()) + 1, len(labels) * 4 // 5
        parts = Features(features[:cut], labels[:cut], features[cut:], labels[cut:], depths)
        found = solve_head(parts, classes, ("roots-3",), learn_eval=True, seed=seed)
        assert found.out_of_fold is not None
        assert found.of_all is not None
        self.temperature = found.out_of_fold.temperature
        self.judged = Judged(
            found.out_of_fold.logits / self.temperature, found.out_of_fold.labels, found.out_of_fold.weights
        )
        self.head = found.of_all
        self.fit = fit_known_images(
            (parts.train, parts.train_labels), parts.eval, classes, depths, roots=True, seed=seed
        )

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Returns the shipped head's."""
        return softmax(self.head.logits(features) / self.temperature, axis=1)


def measure_targets(features: np.ndarray, labels: np.ndarray, depths: tuple[int, ...], target: float) -> list[str]:
    """Returns the outcome of each split: `shown`, `missed by N points`, or `not shown`; and prints them."""
    from components.trainer.deciding import decide
    from components.trainer.decision_settings import DecisionSettings

    outcomes, coverages = [], []
    for split in range(SPLITS):
        order = np.random.default_rng([split, 1]).permutation(len(labels))
        own, test = np.split(order, [len(order) // 2])
        solved = Solved(features[own], labels[own], depths, split)
        names = [str(number) for number in range(int(labels.max()) + 1)]
        settings = DecisionSettings(target_precision=target)
        found = decide(settings, names, solved.judged, solved.fit)
        probabilities = solved.probabilities(features[test])
        scores = found.known.score(features[test]) if found.known else np.zeros(len(test))
        decided = found.rule.decides(probabilities, scores)
        coverages.append(float(decided.mean()))
        if not decided.any():
            outcomes.append("not shown")
            continue
        precision = float((probabilities.argmax(axis=1) == labels[test])[decided].mean())
        missed = 100 * (target - precision)
        outcomes.append("reached" if missed <= 0 else f"missed by {missed:.1f} points")
    print(f"  target {target:g}: {dict(zip(*np.unique(outcomes, return_counts=True), strict=True))}", flush=True)
    print(f"  decided of test: {np.mean(coverages):.2f} ({min(coverages):.2f} to {max(coverages):.2f})", flush=True)
    return outcomes


def measure_unknown(features: np.ndarray, labels: np.ndarray, depths: tuple[int, ...]) -> tuple[float, float]:
    """Returns the mean AUROC over the classes left out: of `unknown_score`, and of 1 - the largest probability."""
    found = []
    for left_out in range(int(labels.max()) + 1):
        known = np.random.default_rng([left_out, 2]).permutation(np.flatnonzero(labels != left_out))
        own, rest = np.split(known, [len(known) * 6 // 10])
        renamed = np.where(labels > left_out, labels - 1, labels)
        solved = Solved(features[own], renamed[own], depths, left_out)
        test = np.concatenate([rest, np.flatnonzero(labels == left_out)])
        assert solved.fit is not None
        scores = solved.fit.scaled(0.05).score(features[test])
        sureness = solved.probabilities(features[test]).max(axis=1)
        unknown = labels[test] == left_out
        found.append((auroc(unknown, scores), auroc(unknown, 1 - sureness), float((scores[~unknown] > 1).mean())))
    mine, theirs, alarms = np.mean(found, axis=0)
    print(f"  left out: unknown_score {mine:.3f}, 1 - largest probability {theirs:.3f}; known above 1: {alarms:.3f}")
    return float(mine), float(theirs)


def main() -> None:
    """Measures all sets and prints what they come to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--work-dir", default=str(Path(tempfile.gettempdir(), "decision-benchmark")))
    parser.add_argument("--only", action="append", choices=SETS)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--target", type=float, default=0.9)
    parser.add_argument("--skip", choices=("targets", "unknown"))
    arguments = parser.parse_args()
    print(describe_machine(), flush=True)
    aurocs = []
    for name in arguments.only or SETS:
        folder = Path(arguments.work_dir, name)
        parts, labels, depths = compute_features(
            str(Path(arguments.data, name)), folder, arguments.weights, arguments.size, LIMITS
        )
        features, all_labels = (np.concatenate(list(found.values())) for found in (parts, labels))
        print(f"{name}: {len(all_labels)} images, {all_labels.max() + 1} classes", flush=True)
        if arguments.skip != "targets":
            measure_targets(features, all_labels, depths, arguments.target)
        if arguments.skip != "unknown" and all_labels.max() > 1:
            aurocs.append(measure_unknown(features, all_labels, depths))
    if aurocs:
        mine, theirs = np.mean(aurocs, axis=0)
        print(f"mean AUROC over {len(aurocs)} sets: unknown_score {mine:.4f}, 1 - largest probability {theirs:.4f}")


if __name__ == "__main__":
    main()
