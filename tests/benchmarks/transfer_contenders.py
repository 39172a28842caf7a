"""One cell of the transfer benchmark, in a process of its own: one contender on one set.

Writes `probabilities.npy`, float32 [test images, classes], and `cell.json`:

- `seconds`: from the images in memory (the Trainer: from the transformed examples on disk) to a model that is ready,
  after the imports and without the pass over test. `regression`: one pass over train, then the folds and the fit.
  `guide-*`: building and tracing, then 20 times one measured pass of the backbone over train and eval, which is what
  an epoch of the frozen phase does (the head's own steps, which Keras hides in it, are not counted), and for
  `guide-128` the measured epochs of fine-tuning. This project: `run_fn`, its export counted.
- `seconds_with_start`: the same from the start of the process, so with the imports.
- `peak_gib`: the largest resident set of the process until the model was ready.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CONTENDERS = {
    "regression": 224,
    "guide-frozen": 224,
    "guide-128": 128,
    "quick": 224,
    "balanced": 224,
    "quick-128": 128,
    "balanced-128": 128,
}
"""Name to image size."""

FURTHER = {"best": 224, "quick-32": 32, "balanced-32": 32, "best-32": 32}
"""Contenders that run only where they are asked for."""

BATCH_SIZE = 32
FROZEN_EPOCHS, FROZEN_RATE = 20, 1e-3
FINE_TUNE_EPOCHS, FINE_TUNE_RATE = 10, 1e-5
"""Of Keras's guide to transfer learning and fine-tuning, https://keras.io/guides/transfer_learning/."""

DROPOUT = 0.2
SHORT_EPOCHS = 2
STRENGTHS = np.logspace(-4, 1, 11)
"""`C` of scikit-learn among which the folds choose."""

TEST_FEATURES_FILE = "test-features.npy"
Result = tuple[np.ndarray, dict[str, Any]]


class Clock:
    """Measures from its making; `facts` are of the moment in which they are asked for."""

    def __init__(self, process_started: float) -> None:
        """Starts; `process_started` is `time.time()` of the process."""
        self._started, self._with_start = time.monotonic(), process_started

    def facts(self) -> dict[str, float]:
        """Returns seconds, seconds with the start of the process, and the peak memory so far in GiB."""
        return {
            "seconds": time.monotonic() - self._started,
            "seconds_with_start": time.time() - self._with_start,
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }


class Guide:
    """Keras's guide without augmentation: the `keras` of TensorFlow 2.16, in float32, on VGG16."""

    def __init__(self, data: Any, weights: str) -> None:
        """Builds the frozen backbone under its pooling and traces it; `data` is a `PIXELS_FILE`."""
        import keras
        import tensorflow as tf

        self._keras, self._tf, self._data = keras, tf, data
        keras.utils.set_random_seed(1)
        self._size = int(data["train_images"].shape[1])
        self._classes = len(data["classes"])
        shape = (self._size, self._size, 3)
        self.backbone = keras.applications.VGG16(include_top=False, weights=None, input_shape=shape)
        self.backbone.load_weights(weights)
        self.backbone.trainable = False
        self._inputs = keras.Input(shape)
        x = keras.applications.vgg16.preprocess_input(keras.ops.cast(self._inputs, "float32"))
        self._pooled = keras.layers.GlobalAveragePooling2D()(self.backbone(x, training=False))
        self._pooler = keras.Model(self._inputs, self._pooled)
        self._head = keras.Sequential([keras.layers.Dropout(DROPOUT), keras.layers.Dense(self._classes)])
        self.pool(data["train_images"][:BATCH_SIZE])

    def pool(self, images: np.ndarray) -> np.ndarray:
        """Returns the pooled last block, float32 [n, 512], of images."""
        return self._pooler.predict(images, batch_size=BATCH_SIZE, verbose=0)

    def train_head(self, features: np.ndarray, eval_features: np.ndarray) -> None:
        """Trains the head for the epochs of the frozen phase, on features [n, 512] of train."""
        inputs = self._keras.Input(features.shape[1:])
        model = self._keras.Model(inputs, self._head(inputs))
        self._fit(model, features, eval_features, FROZEN_EPOCHS, FROZEN_RATE)

    def fine_tune(self, epochs: int) -> list[float]:
        """Trains all layers; returns the seconds of each epoch, tracing counted in the first."""
        self.backbone.trainable = True
        model = self._keras.Model(self._inputs, self._head(self._pooled))
        return self._fit(model, self._data["train_images"], self._data["eval_images"], epochs, FINE_TUNE_RATE)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Returns the head's probabilities [n, classes] of features."""
        return self._keras.ops.softmax(self._head(features, training=False)).numpy()

    def _fit(self, model: Any, train: np.ndarray, judged: np.ndarray, epochs: int, rate: float) -> list[float]:
        model.compile(
            self._keras.optimizers.Adam(rate),
            self._keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        tensors = self._tf.data.Dataset.from_tensor_slices
        train_set = tensors((train, self._data["train_labels"])).shuffle(len(train), seed=1).batch(BATCH_SIZE)
        eval_set = tensors((judged, self._data["eval_labels"])).batch(BATCH_SIZE)
        marks = [time.monotonic()]
        clock = self._keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: marks.append(time.monotonic()))
        prefetch = self._tf.data.AUTOTUNE
        model.fit(
            train_set.prefetch(prefetch),
            validation_data=eval_set.prefetch(prefetch),
            epochs=epochs,
            verbose=0,
            callbacks=[clock],
        )
        return np.diff(marks).tolist()


def pool_test(guide: Guide, data: Any, root: Path) -> np.ndarray:
    """Returns the pooled features of test, which the two contenders that never change them share."""
    file = root / TEST_FEATURES_FILE
    if not file.exists():
        np.save(root / f"unfinished-{file.name}", guide.pool(data["test_images"]))
        (root / f"unfinished-{file.name}").replace(file)
    return np.load(file)


def run_regression(root: Path, data: Any, arguments: argparse.Namespace) -> Result:
    """Logistic regression on the pooled last block of train, its strength by the log loss of 5 folds."""
    import keras  # noqa: F401  imported before the clock starts
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    clock = Clock(arguments.started)
    guide = Guide(data, arguments.weights)
    features, labels = guide.pool(data["train_images"]), data["train_labels"]
    folds = StratifiedKFold(min(5, int(np.bincount(labels).min())), shuffle=True, random_state=0)

    def make(strength: float) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))

    def judge(strength: float) -> float:
        found = cross_val_predict(make(strength), features, labels, cv=folds, method="predict_proba")
        return log_loss(labels, found, labels=np.arange(len(data["classes"])))

    losses = [judge(strength) for strength in STRENGTHS]
    model = make(float(STRENGTHS[np.argmin(losses)])).fit(features, labels)
    facts = {**clock.facts(), "strength": float(STRENGTHS[np.argmin(losses)]), "fold_log_loss": min(losses)}
    return model.predict_proba(pool_test(guide, data, root)).astype(np.float32), facts


def run_guide(root: Path, data: Any, arguments: argparse.Namespace) -> Result:
    """The guide's frozen phase and, at 128 px, its fine-tuning of all layers."""
    import keras  # noqa: F401  imported before the clock starts

    clock = Clock(arguments.started)
    guide = Guide(data, arguments.weights)
    built = time.monotonic()
    features, eval_features = guide.pool(data["train_images"]), guide.pool(data["eval_images"])
    epoch = time.monotonic() - built
    guide.train_head(features, eval_features)
    head = time.monotonic() - built - epoch
    epochs: list[float] = []
    if arguments.contender != "guide-frozen":
        epochs = guide.fine_tune(SHORT_EPOCHS if arguments.short_guide else FINE_TUNE_EPOCHS)
        if arguments.short_guide:
            epochs += epochs[-1:] * (FINE_TUNE_EPOCHS - SHORT_EPOCHS)
    facts: dict[str, Any] = clock.facts()
    # The clock saw one epoch of the frozen phase, the head's steps, and the epochs of fine-tuning that were trained.
    trained = min(len(epochs), SHORT_EPOCHS if arguments.short_guide else FINE_TUNE_EPOCHS)
    more = (FROZEN_EPOCHS - 1) * epoch - head + sum(epochs[trained:])
    facts.update(seconds=facts["seconds"] + more, seconds_with_start=facts["seconds_with_start"] + more)
    facts.update(
        frozen_epoch_seconds=epoch,
        fine_tune_epoch_seconds=epochs[:trained],
        timed=f"{FROZEN_EPOCHS} times one measured epoch of the frozen phase, {trained} measured of {len(epochs)} "
        "epochs of fine-tuning",
        whole=not arguments.short_guide or not epochs,
    )
    frozen = arguments.contender == "guide-frozen"
    return guide.probabilities(pool_test(guide, data, root) if frozen else guide.pool(data["test_images"])), facts


def run_recipe(root: Path, data: Any, arguments: argparse.Namespace) -> Result:
    """This project's Trainer as TFX runs it on the transformed examples, judged by what it exports, from raw bytes."""
    import tensorflow as tf

    from components.code_hash import make_code_hash
    from components.trainer import TRAINING_FILE
    from data.features import LABEL_KEY
    from tests.trainer_run import run_trainer

    recipe = arguments.contender.partition("-")[0]
    settings = {"recipe": recipe, "weights": arguments.weights, **json.loads(arguments.trainer)}
    settings = {name: value for name, value in settings.items() if value is not None}
    output = Path(arguments.result, "trainer")
    clock = Clock(arguments.started)
    export = run_trainer(root, output, settings, image_size=int(root.name))
    facts: dict[str, Any] = clock.facts()
    record = json.loads((output / "model_run" / TRAINING_FILE).read_text(encoding="utf-8"))
    facts["record"] = {key: value for key, value in record.items() if key not in ("history", "versions")}
    facts["code"] = make_code_hash("components.trainer.run_fn")
    predict = tf.saved_model.load(str(export)).signatures["serving_examples"]
    files = sorted(str(path) for path in (root / "examples" / "Split-test").iterdir())
    examples = tf.data.TFRecordDataset(files, compression_type="GZIP")
    spec = {LABEL_KEY: tf.io.FixedLenFeature([], tf.string)}
    names = [tf.io.parse_single_example(one, spec)[LABEL_KEY].numpy().decode() for one in examples]
    if names != data["classes"][data["test_labels"]].tolist():
        raise RuntimeError(f"{root}: the examples of test are not in the order of the other contenders' pixels")
    batches = [predict(examples=batch)["probabilities"].numpy() for batch in examples.batch(BATCH_SIZE)]
    return np.concatenate(batches), facts


RUNS: dict[str, Callable[[Path, Any, argparse.Namespace], Result]] = {
    "regression": run_regression,
    "guide": run_guide,
    "quick": run_recipe,
    "balanced": run_recipe,
    "best": run_recipe,
}


def main() -> None:
    """Runs one contender on one prepared set and writes what came of it to `--result`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--root", required=True, help="a set of one size in the work folder")
    parser.add_argument("--contender", required=True, choices=CONTENDERS | FURTHER)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--result", required=True)
    parser.add_argument("--started", type=float, required=True, help="time.time() when the process was started")
    parser.add_argument("--trainer", default="{}", help="further settings, JSON; null leaves one out")
    parser.add_argument("--short-guide", action="store_true")
    arguments = parser.parse_args()
    from tests.benchmarks.transfer_data import PIXELS_FILE

    root = Path(arguments.root)
    with np.load(root / PIXELS_FILE) as stored:
        data = {key: stored[key] for key in stored.files}
    probabilities, facts = RUNS[arguments.contender.partition("-")[0]](root, data, arguments)
    if probabilities.shape != (len(data["test_labels"]), len(data["classes"])):
        raise RuntimeError(f"probabilities have the shape {probabilities.shape}")
    np.save(Path(arguments.result, "probabilities.npy"), probabilities.astype(np.float32))
    Path(arguments.result, "cell.json").write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
