"""Fine-tuning all layers of VGG16 at 32 pixels: our step against plain Keras, and against our step without an input.

    python -m tests.benchmarks.fine_tuning [--pairs 3]

Each side is a process of its own and trains from random weights on the same images for a few epochs of which the
first, which traces, does not count. Plain Keras is the `keras` of TensorFlow 2.16 in float32; ours is the Trainer's
loop in the precision that it chooses for this machine, checkpoints and logs included. `unfed` is our step called on
one batch that stays in memory.
"""

import argparse
import json
import os
import tempfile
import time
from typing import Any

import numpy as np

from tests.benchmarks.whole_process import describe, describe_machine, run_module

CLASSES = 10
SIZE = 32


def make_data(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns uint8 images [count, 32, 32, 3] and int64 labels; their content does not matter for the speed."""
    random = np.random.default_rng(0)
    return random.integers(0, 256, [count, SIZE, SIZE, 3], np.uint8), random.integers(0, CLASSES, count)


def time_plain(batch_size: int, images: int, epochs: int) -> list[float]:
    """Returns the images/s of each epoch of plain Keras."""
    os.environ["TF_USE_LEGACY_KERAS"] = "0"
    import keras
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(make_data(images)).shuffle(images).batch(batch_size)
    inputs = keras.Input((SIZE, SIZE, 3))
    backbone = keras.applications.VGG16(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    x = backbone(keras.applications.vgg16.preprocess_input(keras.ops.cast(inputs, "float32")))
    x = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, keras.layers.Dense(CLASSES)(x))
    model.compile(keras.optimizers.Adam(1e-4), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ends = [0.0]
    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: ends.append(-time.monotonic()),
        on_epoch_end=lambda *_: ends.append(ends.pop() + time.monotonic()),
    )
    model.fit(data.prefetch(tf.data.AUTOTUNE), epochs=epochs, verbose=0, callbacks=[clock])
    return [images / seconds for seconds in ends[1:]]


def time_ours(batch_size: int, images: int, epochs: int) -> list[float]:
    """Returns the images/s of each epoch of the Trainer's loop, the evaluation of one batch counted."""
    from components.trainer.checkpoints import CheckpointDir
    from components.trainer.inputs import ArraySplit
    from components.trainer.settings import ResolvedSettings
    from components.trainer.training import train

    settings = ResolvedSettings(
        weights="none", batch_size=batch_size, head_epochs=0, fine_tune_epochs=epochs, fine_tune_blocks=5
    )
    pixels, labels = make_data(images)
    splits = [
        ArraySplit(pixels, labels, batch_size),
        ArraySplit(pixels[:batch_size], labels[:batch_size], batch_size),
    ]
    with tempfile.TemporaryDirectory() as folder:
        history, _ = train(_make_model(settings), *splits, settings, folder, CheckpointDir(f"{folder}/resume"))
    return [images / epoch.seconds for epoch in history]


def time_unfed(batch_size: int, images: int, epochs: int) -> list[float]:
    """Returns the images/s of our step alone, on one batch in memory."""
    import tensorflow as tf

    from components.trainer.learner import Learner
    from components.trainer.mixing import UNMIXED
    from components.trainer.model import set_trainable_blocks
    from components.trainer.noise import StepNoise
    from components.trainer.phases import make_phases
    from components.trainer.settings import ResolvedSettings

    settings = ResolvedSettings(
        weights="none", batch_size=batch_size, head_epochs=0, fine_tune_epochs=epochs, fine_tune_blocks=5
    )
    model = _make_model(settings)
    set_trainable_blocks(model, 5)
    learner = Learner(model, make_phases(settings)[0], settings, StepNoise(model, 0))
    pixels, labels = make_data(batch_size)
    batch = tf.constant(pixels), tf.constant(labels), tf.ones([batch_size])
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    function = learner.make_train_function(batches)
    speeds = []
    for _ in range(epochs):
        started = time.monotonic()
        steps = -(-images // batch_size)
        rates = tf.fill([steps], settings.fine_tune_learning_rate)
        function(batches, tf.constant(0, tf.int64), rates, tf.tile(UNMIXED[None], [steps, 1])).numpy()
        speeds.append(steps * batch_size / (time.monotonic() - started))
    return speeds


def _make_model(settings: Any) -> Any:
    import tf_keras

    from components.trainer.kernel_gradient import speed_up_kernel_gradients
    from components.trainer.model import make_model
    from components.trainer.precision import choose_precision
    from components.trainer.strategy import make_strategy

    tf_keras.utils.set_random_seed(0)
    precision = choose_precision(settings.precision, make_strategy())
    model = make_model(CLASSES, SIZE, settings.dropout, precision.name, learn_statistics=True)
    if precision.kernel_gradient:
        speed_up_kernel_gradients(model)
    return model


SIDES = {"ours": time_ours, "unfed": time_unfed, "plain": time_plain}


def main() -> None:
    """Prints images/s of the three and the ratios pair by pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](arguments.batch_size, arguments.images, arguments.epochs)))
        return
    speeds: dict[str, list[float]] = {side: [] for side in SIDES}
    for pair in range(arguments.pairs):
        for side in SIDES:
            options = [f"--images={arguments.images}", f"--epochs={arguments.epochs}"]
            options += [f"--batch-size={arguments.batch_size}", f"--side={side}"]
            epochs = json.loads(run_module("tests.benchmarks.fine_tuning", options).output.splitlines()[-1])
            speeds[side].append(float(np.median(epochs[1:])))
        print(f"pair {pair + 1}: " + ", ".join(f"{side} {speeds[side][-1]:.1f} images/s" for side in SIDES), flush=True)
    print(f"machine        {describe_machine()}")
    for other in ("plain", "unfed"):
        ratios = [ours / theirs for ours, theirs in zip(speeds["ours"], speeds[other], strict=True)]
        print(f"ours / {other:<7} {describe(ratios)}")


if __name__ == "__main__":
    main()
