"""The solved head against the one that is stepped on standardised features, on small images: accuracy and calibration.

    python -m tests.benchmarks.solved_head --data PATH --weights FILE [--train 8000] [--eval 1000] [--test 10000]

PATH is an archive `tar.gz` of `train|test/<class>/*.jpg`, all of one size, e.g. CIFAR-10's; FILE holds ImageNet's
weights of VGG16 without its head, in Keras's HDF5. Both heads learn from the same train images; `eval` is more of its
train. The backbone's rate is that of a bare forward step on batches that are there already, after tracing.
"""

import argparse
import tempfile
import time

import numpy as np
from scipy.special import softmax

from components.trainer.recipes import HEAD_RATE, HEAD_STEPS
from tests.benchmarks.feature_cache import read_images
from tests.benchmarks.whole_process import describe_machine


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Returns the mean gap between confidence and accuracy, 0..1, over bins of equal width (Guo et al. 2017)."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs((confidence - right)[bin_of == one].sum()) for one in range(bins)]
    return float(sum(gaps) / len(labels))


def main() -> None:
    """Runs both and prints what they come to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    for split, count in (("train", 8000), ("eval", 1000), ("test", 10000)):
        parser.add_argument(f"--{split}", type=int, default=count)
    parser.add_argument("--steps", type=int, default=HEAD_STEPS, help="of the stepped head (%(default)s)")
    arguments = parser.parse_args()

    import tensorflow as tf

    from components.trainer.checkpoints import CheckpointDir
    from components.trainer.competition import Competition
    from components.trainer.feature_store import FeatureStore
    from components.trainer.inputs import ArraySplit
    from components.trainer.learner import feature_model
    from components.trainer.model import load_weights, make_model
    from components.trainer.settings import ResolvedSettings
    from components.trainer.solving import Features, depths_of, narrow, read_head, set_head, solve_head, widen
    from components.trainer.training import train

    images, labels = {}, {}
    for split, source, count, skip in (
        ("train", "train", arguments.train, 0),
        ("eval", "train", arguments.eval, arguments.train),
        ("test", "test", arguments.test, 0),
    ):
        images[split], labels[split] = read_images(arguments.data, source, count, skip)
    size = images["train"].shape[1]
    model = make_model(10, size, 0.0, "float32", pooling="roots-3")
    load_weights(model, arguments.weights)

    bare = tf.function(lambda batch: feature_model(model)(batch, training=False), autograph=False)
    batches = [tf.constant(images["train"][start : start + 64]) for start in range(0, 1280, 64)]
    bare(batches[0])
    started = time.monotonic()
    for batch in batches:
        bare(batch).numpy()
    rate = 1280 / (time.monotonic() - started)

    found, store = {}, FeatureStore(None, {})
    store.compute(model, ArraySplit(images["eval"][:64], labels["eval"][:64], 64), "warm-up")
    for split in ("train", "eval", "test"):
        started = time.monotonic()
        computed = store.compute(model, ArraySplit(images[split], labels[split], 64), split)
        assert computed is not None
        found[split] = computed
        if split == "train":
            pass_rate = arguments.train / (time.monotonic() - started)
    print(describe_machine())
    print(f"feature pass, tracing included: {pass_rate:.0f} images/s, {pass_rate / rate:.2f} of the bare step")

    started = time.monotonic()
    features = Features(*found["train"], *found["eval"], depths_of(model))
    solved = solve_head(features, 10, ("roots-1", "roots-2", "roots-3"))
    seconds = time.monotonic() - started
    print(f"solved in {seconds:.1f} s, {solved.solves} solves, reads {solved.pooling}, strength {solved.strength:.1e}")
    known = Competition(solved.eval, solved.out_of_fold).judge_of_temperature()
    assert known is not None
    head = widen(solved.head, found["test"][0].shape[1])
    test, test_labels = found["test"]
    report("solved", head.logits(test), test_labels)
    report(f"solved, T {known.temperature:.2f}", head.scaled(1 / known.temperature).logits(test), test_labels)

    started = time.monotonic()
    epochs = max(1, round(arguments.steps / -(-arguments.train // 32)))
    settings = ResolvedSettings(
        recipe="quick",
        head="standardised",
        head_epochs=epochs,
        head_learning_rate=HEAD_RATE,
        early_stopping_patience=epochs,
        fine_tune_epochs=0,
        fine_tune_blocks=0,
        dropout=0.0,
    )
    stepped = narrow(model, solved.pooling)
    set_head(stepped, type(solved.head)(solved.head.kernel * 0.0, solved.head.bias * 0.0))
    splits = [ArraySplit(images[split], labels[split], 32) for split in ("train", "eval")]
    with tempfile.TemporaryDirectory() as folder:
        train(stepped, *splits, settings, folder, CheckpointDir(f"{folder}/resume"))
    columns = test[:, -len(read_head(stepped).kernel) :]
    report(f"stepped, {time.monotonic() - started:.0f} s", read_head(stepped).logits(columns), test_labels)


def report(name: str, logits: np.ndarray, labels: np.ndarray) -> None:
    """Prints accuracy, log loss and calibration error of logits on the test images."""
    probabilities = softmax(logits, axis=1)
    loss = float(-np.log(probabilities[np.arange(len(labels)), labels] + 1e-30).mean())
    accuracy = float((logits.argmax(axis=1) == labels).mean())
    error = expected_calibration_error(probabilities, labels)
    print(
        f"{name:16} accuracy {accuracy:.4f}, log loss {loss:.4f}, ECE {error:.4f}, {len(labels):,} images", flush=True
    )


if __name__ == "__main__":
    main()
