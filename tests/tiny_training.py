"""A model and data on which a whole training takes a second: two dense layers, 64 points of two classes."""

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from components.trainer.inputs import ArraySplit
from components.trainer.learner import Learner
from components.trainer.mixing import UNMIXED
from components.trainer.model import ImageClassifier, set_trainable_blocks
from components.trainer.noise import StepNoise
from components.trainer.phases import Phase
from components.trainer.settings import ResolvedSettings


def make_model(dropout: float = 0.0, seed: int = 0, *, backbone: bool = False) -> ImageClassifier:
    """Two blocks and a head; `backbone` makes the blocks a model of their own, as those of images are."""
    tf_keras.utils.set_random_seed(seed)
    inputs = tf_keras.Input([4])
    features = tf_keras.layers.Dense(8, activation="tanh", name="block4_dense")(inputs)
    features = tf_keras.layers.Dense(8, activation="tanh", name="block5_dense")(features)
    if backbone:
        network, inputs = tf_keras.Model(inputs, features, name="backbone"), tf_keras.Input([4])
        features = network(inputs)
    features = tf_keras.layers.Dropout(dropout, name="dropout")(features)
    return ImageClassifier(inputs, tf_keras.layers.Dense(2, name="head")(features))


def make_points(*, flipped: bool = False, count: int = 64, batch_size: int = 16, **options: Any) -> ArraySplit:
    """Points of two classes that a plane parts; `flipped` swaps the classes."""
    points = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    return ArraySplit(points, (points[:, 0] > 0) != flipped, batch_size, **options)


def make_settings(**values: Any) -> ResolvedSettings:
    return ResolvedSettings(**{"head_epochs": 2, "fine_tune_epochs": 3, "head_learning_rate": 0.05, **values})


def take_step(
    model: ImageClassifier, images: np.ndarray, labels: np.ndarray, blocks: int, rate: float = 1e-3
) -> tf.Tensor:
    """Does the Trainer's own first step of a phase in which the last blocks learn; without tracing, which is slower."""
    set_trainable_blocks(model, blocks)
    learner = Learner(model, Phase("fine-tune", 1, rate, blocks), ResolvedSettings(), StepNoise(model, 0))
    weights = tf.ones(len(labels))
    return learner.train_step(tf.constant(0, tf.int64), UNMIXED, tf.constant(images), tf.constant(labels), weights)
