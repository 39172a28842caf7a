"""The named alternative: a plain Keras script, as Keras's transfer learning guide shows it.

The `keras` that TensorFlow 2.16 brings, float32, `fit` and `evaluate`; the same model on the same images with the same
phases, batch and epochs as the digits preset. It exports, checks and compares nothing.
"""

import argparse
import os

os.environ["TF_USE_LEGACY_KERAS"] = "0"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits


def split_digits(train: int, evaluation: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns images [n, 32, 32, 3], 0..255, and labels of train, eval and test."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    grey = (digits.images[order, :, :, None] * 255 / 16).astype(np.float32)
    images = tf.image.resize(tf.image.grayscale_to_rgb(tf.constant(grey)), (32, 32), antialias=True).numpy().round()
    ends = (train, train + evaluation)
    return list(zip(np.split(images, ends), np.split(digits.target[order], ends), strict=True))


def main() -> None:
    """Trains and evaluates; prints the test accuracy."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", help="npz of <split>_images, uint8 [n, 32, 32, 3], and <split>_labels; else digits")
    parser.add_argument("--train", type=int, help="digits in train")
    parser.add_argument("--eval", type=int, help="digits in eval; the rest is test")
    parser.add_argument("--head-epochs", type=int, required=True)
    parser.add_argument("--fine-tune-epochs", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--head-learning-rate", type=float, required=True)
    parser.add_argument("--fine-tune-learning-rate", type=float, required=True)
    parser.add_argument("--dropout", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(arguments.seed)

    if arguments.data:
        with np.load(arguments.data) as stored:
            parts = [(stored[f"{split}_images"], stored[f"{split}_labels"]) for split in ("train", "eval", "test")]
    else:
        parts = split_digits(arguments.train, arguments.eval, arguments.seed)
    train, validation, test = (
        tf.data.Dataset.from_tensor_slices((images.astype(np.float32), labels)) for images, labels in parts
    )
    train = train.cache().shuffle(len(parts[0][1])).batch(arguments.batch_size).prefetch(tf.data.AUTOTUNE)
    validation, test = (part.batch(arguments.batch_size).cache() for part in (validation, test))

    backbone = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    backbone.trainable = False
    inputs = keras.Input((32, 32, 3))
    x = keras.applications.vgg16.preprocess_input(inputs)
    x = backbone(x, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(arguments.dropout)(x)
    model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))

    for epochs, learning_rate in (
        (arguments.head_epochs, arguments.head_learning_rate),
        (arguments.fine_tune_epochs, arguments.fine_tune_learning_rate),
    ):
        model.compile(
            optimizer=keras.optimizers.Adam(learning_rate),
            loss=keras.losses.SparseCategoricalCrossentropy(),
            metrics=["accuracy"],
        )
        if epochs:
            model.fit(train, validation_data=validation, epochs=epochs, verbose=2)
        backbone.trainable = True
    print("test accuracy", model.evaluate(test, verbose=0)[1])


if __name__ == "__main__":
    main()
