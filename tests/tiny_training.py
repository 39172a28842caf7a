"""A model and data on which a whole training takes a second: two dense layers, 64 points of two classes."""

from typing import Any

import numpy as np
import tf_keras

from components.trainer.inputs import ArraySplit
from components.trainer.model import ImageClassifier
from components.trainer.settings import TrainerSettings


def make_model(dropout: float = 0.0, seed: int = 0) -> ImageClassifier:
    tf_keras.utils.set_random_seed(seed)
    inputs = tf_keras.Input([4])
    features = tf_keras.layers.Dense(8, activation="tanh", name="block4_dense")(inputs)
    features = tf_keras.layers.Dense(8, activation="tanh", name="block5_dense")(features)
    features = tf_keras.layers.Dropout(dropout, name="dropout")(features)
    return ImageClassifier(inputs, tf_keras.layers.Dense(2, name="head")(features))


def make_points(*, flipped: bool = False, count: int = 64, batch_size: int = 16, **options: Any) -> ArraySplit:
    """Points of two classes that a plane parts; `flipped` swaps the classes."""
    points = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    return ArraySplit(points, (points[:, 0] > 0) != flipped, batch_size, **options)


def make_settings(**values: Any) -> TrainerSettings:
    return TrainerSettings(**{"head_epochs": 2, "fine_tune_epochs": 3, "head_learning_rate": 0.05, **values})
