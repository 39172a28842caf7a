"""Training a head: ours on stored features against plain Keras `fit` of the same frozen VGG16.

    python -m tests.benchmarks.feature_cache --data PATH [--plain-epochs 2]

PATH is an archive `tar.gz` of `train|test/<class>/*.jpg`, all of one size; `eval`, which both judge after each epoch,
is more of its train. Each side is a process of its own, timed after its imports and after the images are decoded:
building, tracing and training count, the test accuracy of the head that it ends with does not. Both start from the same
random weights, since only the head learns. `--plain-epochs` measures plain Keras for fewer epochs and extends the
mean of its epochs after the first to all (its accuracy is then that of the fewer epochs).
"""

import argparse
import io
import json
import os
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from components.trainer.phases import Phase
from tests.benchmarks.whole_process import describe_machine, run_module

BATCH_SIZE = 64
RATE = 3e-3
DROPOUT = 0.2
SPLITS = ("train", "eval", "test")


def read_images(path: str, split: str, count: int, skip: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns uint8 images [count, height, width, 3] and int64 labels, the same number of each class, after others."""
    with tarfile.open(path) as archive:
        members = [m for m in archive.getmembers() if f"{split}/" in m.name and m.name.endswith(".jpg")]
        classes = sorted({member.name.split("/")[-2] for member in members})
        taken = dict.fromkeys(classes, 0)
        images, labels = [], []
        for member in members:
            name = member.name.split("/")[-2]
            taken[name] += 1
            if skip // len(classes) < taken[name] <= (skip + count) // len(classes):
                file = archive.extractfile(member)
                assert file is not None
                images.append(np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB")))
                labels.append(classes.index(name))
    return np.stack(images), np.asarray(labels)


def train_plain(weights: str, data: Any, epochs: int, all_epochs: int) -> dict[str, Any]:
    """Plain Keras, as its transfer learning guide shows it: the `keras` of TensorFlow 2.16, float32, `fit`.

    With the Trainer's schedule of the rate, so that the accuracies can be compared.
    """
    os.environ["TF_USE_LEGACY_KERAS"] = "0"
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    started = time.monotonic()
    train, judged, test = (
        tf.data.Dataset.from_tensor_slices((data[f"{split}_images"], data[f"{split}_labels"])) for split in SPLITS
    )
    train = train.shuffle(len(data["train_labels"])).batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE)
    judged, test = (split.batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE) for split in (judged, test))
    size = data["train_images"].shape[1]
    backbone = keras.applications.VGG16(include_top=False, weights=None, input_shape=(size, size, 3))
    backbone.load_weights(weights)
    backbone.trainable = False
    inputs = keras.Input((size, size, 3))
    x = backbone(keras.applications.vgg16.preprocess_input(keras.ops.cast(inputs, "float32")), training=False)
    x = keras.layers.Dropout(DROPOUT)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, keras.layers.Dense(10)(x))
    model.compile(
        keras.optimizers.Adam(RATE),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    ends: list[float] = []
    clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.monotonic() - started))
    phase = Phase("head", all_epochs, RATE, 0)
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, _: phase.learning_rate_at(epoch, 0))
    model.fit(train, validation_data=judged, epochs=epochs, verbose=0, callbacks=[clock, schedule])
    seconds = time.monotonic() - started
    return {"seconds": seconds, "ends": ends, "accuracy": model.evaluate(test, verbose=0)[1]}


def train_ours(weights: str, data: Any, epochs: int, _: int) -> dict[str, Any]:
    """The first phase of the Trainer, checkpoints and logs included."""
    import tf_keras

    from components.trainer.checkpoints import CheckpointDir
    from components.trainer.inputs import ArraySplit, distribute
    from components.trainer.learner import Judge
    from components.trainer.model import load_weights, make_model
    from components.trainer.precision import choose_precision
    from components.trainer.settings import ResolvedSettings
    from components.trainer.strategy import make_strategy
    from components.trainer.training import train

    settings = ResolvedSettings(
        weights="none",
        batch_size=BATCH_SIZE,
        dropout=DROPOUT,
        head_epochs=epochs,
        head_learning_rate=RATE,
        fine_tune_epochs=0,
        early_stopping_patience=epochs,
    )
    tf_keras.utils.set_random_seed(0)
    started = time.monotonic()
    train_split, eval_split, test_split = (
        ArraySplit(data[f"{split}_images"], data[f"{split}_labels"], BATCH_SIZE) for split in SPLITS
    )
    model = make_model(
        10, data["train_images"].shape[1], DROPOUT, choose_precision(settings.precision, make_strategy()).name
    )
    load_weights(model, weights)
    with tempfile.TemporaryDirectory() as folder:
        train(model, train_split, eval_split, settings, folder, CheckpointDir(f"{folder}/resume"))
    seconds = time.monotonic() - started
    judged = Judge(model).evaluate(distribute(model.distribute_strategy, test_split.in_order))
    assert judged is not None
    return {"seconds": seconds, "accuracy": judged[1]}


def main() -> None:
    """Measures both and prints seconds, their ratio and the accuracies of the head on the test images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="the archive of images")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--plain-epochs", type=int, help="default: all")
    parser.add_argument("--images", type=int, default=10000)
    parser.add_argument("--eval-images", type=int, default=2000)
    parser.add_argument("--test-images", type=int, default=10000)
    parser.add_argument("--side", choices=["plain", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        with np.load(f"{arguments.folder}/images.npz") as stored:
            data = dict(stored)
        side = train_plain if arguments.side == "plain" else train_ours
        epochs = arguments.plain_epochs if arguments.side == "plain" else arguments.epochs
        print(json.dumps(side(f"{arguments.folder}/vgg16.h5", data, epochs, arguments.epochs)))
        return
    plain_epochs = arguments.plain_epochs or arguments.epochs
    with tempfile.TemporaryDirectory() as folder:
        data = {}
        parts = {
            "train": ("train", arguments.images, 0),
            "eval": ("train", arguments.eval_images, arguments.images),
            "test": ("test", arguments.test_images, 0),
        }
        for split, part in parts.items():
            data[f"{split}_images"], data[f"{split}_labels"] = read_images(arguments.data, *part)
        np.savez(f"{folder}/images.npz", **data)
        save_weights(Path(folder) / "vgg16.h5", data["train_images"].shape[1])
        results = {
            side: json.loads(
                run_module(
                    "tests.benchmarks.feature_cache",
                    [
                        f"--side={side}",
                        f"--folder={folder}",
                        f"--epochs={arguments.epochs}",
                        f"--plain-epochs={plain_epochs}",
                    ],
                ).output.splitlines()[-1]
            )
            for side in ("ours", "plain")
        }
    seconds = results["plain"]["seconds"]
    if plain_epochs < arguments.epochs:
        ends = results["plain"]["ends"]
        seconds = ends[-1] + (arguments.epochs - plain_epochs) * (ends[-1] - ends[0]) / (plain_epochs - 1)
    ours = results["ours"]
    print(f"machine            {describe_machine()}")
    counts = ", ".join(f"{len(data[f'{split}_labels'])} {split}" for split in SPLITS)
    print(f"images             {counts}")
    print(f"ours               {ours['seconds']:.1f} s, test accuracy {ours['accuracy']:.4f}")
    print(
        f"plain Keras        {seconds:.1f} s ({plain_epochs} of {arguments.epochs} epochs measured), "
        f"test accuracy {results['plain']['accuracy']:.4f}"
    )
    print(f"plain / ours       {seconds / ours['seconds']:.1f}")


def save_weights(path: Path, image_size: int) -> None:
    """Writes VGG16's random weights as a Keras 2 HDF5 file, which both sides read.

    He's initial values, which keep the size of the features through the layers: Glorot's let them fade.
    """
    import h5py

    from components.trainer.backbone_layers import backbone_shapes, make_backbone

    random = np.random.default_rng(0)
    shapes = backbone_shapes(make_backbone("vgg16", image_size))
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in shapes]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.15.0"
        for name, (shape, _) in shapes.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0".encode(), f"{name}/bias:0".encode()]
            scale = np.sqrt(2 / np.prod(shape[:-1]))
            group.create_dataset(f"{name}/kernel:0", data=random.normal(0, scale, shape).astype(np.float32))
            group.create_dataset(f"{name}/bias:0", data=np.zeros(shape[-1], np.float32))


if __name__ == "__main__":
    main()
