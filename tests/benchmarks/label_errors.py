"""Flipped labels: how many are among the first that the report doubts, and whether the loop of corrections closes.

    python -m tests.benchmarks.label_errors --data DIR --weights FILE --work-dir WORK [--set NAME] [--loop NAME]

DIR holds sets of photographs, each a folder of class folders; FILE holds ImageNet's weights of VGG16 without its head,
in Keras's HDF5. Each set's images go through the backbone once, and what was computed is kept in WORK: a benchmark that
was killed goes on. Then 2, 5 and 10 % of the labels of all splits are flipped, the head is solved on train and eval as
the Trainer does, and the doubts over all splits are compared with those that the solved head has on test alone.

`--loop NAME` runs the pipeline on one set with 5 % of its labels flipped, exports what is doubted, decides as who knows
the truth, imports, runs again, and once more on images whose listed flips were right from the start.
"""

import argparse
import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from tests.benchmarks.transfer_data import PIXELS_FILE, SPLITS, Limits, prepare_set, read_photos, read_split
from tests.benchmarks.whole_process import describe_machine

RATES = (0.02, 0.05, 0.10)
LEAST_ACCURACY = 0.9
POOLINGS = ("roots-1", "roots-2", "roots-3")
Arrays = dict[str, np.ndarray]


def compute_features(path: str, folder: Path, weights: str, size: int, limits: Limits) -> tuple[Arrays, Arrays, tuple]:
    """Returns features and labels by split, and the depths; what lies in the folder is not computed again."""
    from components.trainer.feature_store import FeatureStore
    from components.trainer.inputs import ArraySplit
    from components.trainer.model import load_weights, make_model
    from components.trainer.solving import depths_of

    prepare_set(path, folder, [size], limits)
    with np.load(folder / str(size) / PIXELS_FILE, allow_pickle=False) as saved:
        pixels = {name: saved[name] for name in saved.files}
    model = make_model(len(pixels["classes"]), size, 0.0, "float32", pooling="roots-3")
    load_weights(model, weights)
    store = FeatureStore(str(folder / "features"), {"size": size, "weights": weights, "limits": str(limits)})
    features, labels = {}, {}
    for split in SPLITS:
        computed = store.compute(model, ArraySplit(pixels[f"{split}_images"], pixels[f"{split}_labels"], 16), split)
        assert computed is not None
        features[split], labels[split] = computed
    return features, labels, depths_of(model)


def measure(features: Arrays, labels: Arrays, depths: tuple, rate: float, draw: int) -> dict[str, float]:
    """Flips labels, looks for them, and returns shares of flips among the first and among those listed."""
    from components.report_gen.doubts import find_doubts
    from components.trainer.solving import Features, solve_head

    truth = np.concatenate([labels[split] for split in SPLITS])
    classes, images = int(truth.max()) + 1, len(truth)
    random = np.random.default_rng([draw, round(1000 * rate)])
    flipped = np.zeros(images, bool)
    flipped[random.permutation(images)[: round(rate * images)]] = True
    given = np.where(flipped, (truth + random.integers(1, classes, images)) % classes, truth)
    ends = np.cumsum([len(labels[split]) for split in SPLITS])
    given_of = dict(zip(SPLITS, np.split(given, ends[:-1]), strict=True))
    solved = solve_head(
        Features(features["train"], given_of["train"], features["eval"], given_of["eval"], depths), classes, POOLINGS
    )
    used = depths[-int(solved.pooling.rpartition("-")[2]) :]
    columns = slice(sum(depths) - sum(used), None)
    stacked = np.concatenate([features[split][:, columns] for split in SPLITS]).astype(np.float16)
    doubts = find_doubts(stacked, used, given, np.arange(images), classes, solved.strength)
    ranks = doubts.probabilities[np.arange(images), given]
    test = np.arange(images) >= ends[1]
    answers = softmax(solved.head.logits(features["test"][:, columns]), axis=1)
    today = answers[np.arange(len(answers)), given[test]]
    return {
        "accuracy": float((doubts.probabilities.argmax(axis=1) == truth).mean()),
        "first": among_first(ranks, flipped),
        "test": among_first(ranks[test], flipped[test]),
        "test_today": among_first(today, flipped[test]),
        "listed": len(doubts.labels) / max(1, flipped.sum()),
        "listed_right": float(flipped[doubts.labels].mean()) if len(doubts.labels) else float("nan"),
        "flips_listed": float(flipped[doubts.labels].sum() / max(1, flipped.sum())),
    }


def among_first(ranks: np.ndarray, flipped: np.ndarray) -> float:
    """Returns the share of flips among as many of the lowest ranks; NaN without flips."""
    count = int(flipped.sum())
    return float(flipped[np.argsort(ranks, kind="stable")[:count]].mean()) if count else float("nan")


def run_sets(arguments: argparse.Namespace, work: Path) -> None:
    """Measures all sets, and prints a line for each and their means."""
    limits = Limits(arguments.train_images, arguments.eval_images, arguments.test_images)
    names = arguments.set or sorted(
        path.name
        for path in Path(arguments.data).iterdir()
        if path.is_dir() and any(one.is_dir() for one in path.iterdir())
    )
    rows: dict[float, list[dict[str, float]]] = {rate: [] for rate in RATES}
    for name in names:
        folder = work / name
        done = folder / f"found-{arguments.size}-{arguments.draws}.json"
        if not done.exists():
            try:
                found = compute_features(
                    str(Path(arguments.data, name)), folder, arguments.weights, arguments.size, limits
                )
            except FileNotFoundError:
                print(f"{name}: left out, {(read_split(folder) or {}).get('left_out')}")
                continue
            clean = measure(*found, 0.0, 0)["accuracy"]
            rates = {str(rate): [measure(*found, rate, draw) for draw in range(arguments.draws)] for rate in RATES}
            done.write_text(json.dumps({"clean": clean, "rates": rates}, indent=1), encoding="utf-8")
        result = json.loads(done.read_text(encoding="utf-8"))
        for rate in RATES:
            draws = result["rates"][str(rate)]
            means = {key: float(np.nanmean([draw[key] for draw in draws])) for key in draws[0]}
            if result["clean"] >= LEAST_ACCURACY:
                rows[rate].append(means)
            print(f"{name:14} {rate:4.0%}  regression {result['clean']:.3f}  {describe(means)}", flush=True)
    for rate in RATES:
        if rows[rate]:
            means = {key: float(np.mean([row[key] for row in rows[rate]])) for key in rows[rate][0]}
            print(f"{len(rows[rate])} sets >= 0.9   {rate:4.0%}  {describe(means)}", flush=True)


def describe(means: dict[str, float]) -> str:
    """Returns one line."""
    return (
        f"flips among the first: {means['first']:.2f}; on test {means['test']:.2f}, by the head alone "
        f"{means['test_today']:.2f}; listed {means['listed']:.2f} times as many, of them flips "
        f"{means['listed_right']:.2f}, of the flips listed {means['flips_listed']:.2f}"
    )


def run_loop(arguments: argparse.Namespace, work: Path) -> None:
    """Closes the loop on one set, and prints what came of it."""
    folder = work / f"loop-{arguments.loop}"
    shutil.rmtree(folder, ignore_errors=True)
    photos, _ = read_photos(str(Path(arguments.data, arguments.loop)))
    contents = {photo.sha256: photo for photo in photos}
    truth = {sha256: photo.label for sha256, photo in sorted(contents.items())}
    classes = sorted(set(truth.values()))
    random = np.random.default_rng(5)
    flipped = set(random.permutation(list(truth))[: round(0.05 * len(truth))].tolist())
    given = {
        one: classes[(classes.index(label) + int(random.integers(1, len(classes)))) % len(classes)]
        if one in flipped
        else label
        for one, label in truth.items()
    }

    def lay_out(name: str, labels: dict[str, str]) -> Path:
        for sha256, label in labels.items():
            source = Path(arguments.data, arguments.loop, contents[sha256].name)
            target = folder / name / label / f"{sha256[:16]}{source.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        return folder / name

    flips = lay_out("images", given)
    first = run_pipeline(arguments, flips, folder / "first")
    spreadsheet, corrections = folder / "doubtful.csv", folder / "corrections.csv"
    run("pipeline.labels", "export", str(folder / "first"), "--output", str(spreadsheet))
    rows = list(csv.DictReader(io.StringIO(spreadsheet.read_text(encoding="utf-8-sig"))))
    with spreadsheet.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows({**row, "new_label": truth[row["content_sha256"]]} for row in rows)
    run("pipeline.labels", "import", str(spreadsheet), "--to", str(corrections), "--who", "the truth")
    second = run_pipeline(arguments, flips, folder / "second", f"data.corrections={corrections}")
    listed = {row["content_sha256"] for row in rows} & flipped
    known = {one: truth[one] if one in listed else label for one, label in given.items()}
    third = run_pipeline(arguments, lay_out("known", known), folder / "third")
    labels = read_labels(folder / "second")
    back = sum(labels.get(one) == truth[one] for one in listed)
    same = sum(labels.get(one) == label for one, label in known.items())
    accuracies = [summary["metrics"]["accuracy"] for summary in (first, second, third)]
    images = sum(third["data"]["counts"]["test"].values())
    error = float(np.sqrt(accuracies[2] * (1 - accuracies[2]) / images))
    print(
        f"loop on {arguments.loop}: {len(flipped)} of {len(truth)} labels flipped, {len(rows)} images listed, "
        f"{len(listed)} of them flips; {back} of these are back, and {same} of {len(known)} labels as without them"
    )
    before, after, without = accuracies
    print(
        f"accuracy on {images} test images {before:.3f} before, {after:.3f} after, {without:.3f} without these flips "
        f"(standard error {error:.3f})"
    )
    print(second["data"]["corrections"])
    if back != len(listed) or abs(accuracies[1] - accuracies[2]) > error:
        sys.exit("the loop does not close")


def run_pipeline(arguments: argparse.Namespace, images: Path, output: Path, *settings: str) -> dict[str, Any]:
    """Runs the pipeline, small and quick, and returns its summary."""
    run(
        "pipeline.run_local",
        *("--preset", "photos", "--data", str(images), "--output-dir", str(output)),
        *("--set", f"trainer.weights={arguments.weights}", f"transform.image_size={arguments.loop_size}"),
        *("trainer.recipe=quick", "data.test_share=0.25", "data.eval_share=0.15", *settings),
    )
    summary: dict[str, Any] = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    return summary


def run(module: str, *arguments: str) -> None:
    """Runs a command of the project, whose last lines are shown where it fails."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        sys.exit(f"{module} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")


def read_labels(output: Path) -> dict[str, str]:
    """Returns content hash -> label of the examples of an output folder's newest run."""
    import tensorflow as tf

    from data.features import CONTENT_HASH_KEY, LABEL_KEY

    examples = max((output / "pipeline_root" / "ImageExampleGen" / "examples").iterdir(), key=lambda one: int(one.name))
    spec = {key: tf.io.FixedLenFeature([], tf.string) for key in (CONTENT_HASH_KEY, LABEL_KEY)}
    labels = {}
    for record in tf.data.TFRecordDataset(sorted(map(str, examples.glob("Split-*/*"))), "GZIP"):
        row = {key: value.numpy().decode() for key, value in tf.io.parse_single_example(record, spec).items()}
        labels[row[CONTENT_HASH_KEY]] = row[LABEL_KEY]
    return labels


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--work-dir", required=True)
    parser.add_argument("--set", action="append", help="one of the sets (default: all)")
    parser.add_argument("--size", type=int, default=224, help="pixels (%(default)s)")
    parser.add_argument("--draws", type=int, default=3, help="of flips at each rate (%(default)s)")
    for split, count in (("train", 300), ("eval", 80), ("test", 200)):
        parser.add_argument(f"--{split}-images", type=int, default=count, help="at most (%(default)s)")
    parser.add_argument("--loop", metavar="NAME", help="close the loop on this set, in place of the measuring")
    parser.add_argument("--loop-size", type=int, default=96, help="pixels (%(default)s)")
    arguments = parser.parse_args()
    arguments.weights = str(Path(arguments.weights).resolve())
    work = Path(arguments.work_dir).resolve()
    work.mkdir(parents=True, exist_ok=True)
    print(describe_machine())
    if arguments.loop:
        run_loop(arguments, work)
    else:
        run_sets(arguments, work)


if __name__ == "__main__":
    main()
