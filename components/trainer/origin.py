"""What must be known of a model beside its weights and classes, in its artifact."""

import json
import os
from dataclasses import asdict, dataclass

import tensorflow as tf

from components.trainer.backbones import Pooling

ORIGIN_FILE = "origin.json"
"""In a `model` artifact: an `Origin`."""


@dataclass(frozen=True)
class Origin:
    """What a model is.

    Attributes:
        backbone: a key of `BACKBONES`.
        learn_statistics: whether its backbone began with random weights, so that BatchNorm's statistics are learned
            where blocks learn (see `make_model`). What goes on from such a model must go on so: a block that was
            frozen in it has learned none yet. What began with ImageNet's keeps those, over all warm starts.
        pooling: what its head reads.
    """

    backbone: str
    learn_statistics: bool
    pooling: Pooling = "last"


def write_model_origin(model_uri: str, origin: Origin) -> None:
    """Writes the origin into a `model` artifact."""
    with tf.io.gfile.GFile(os.path.join(model_uri, ORIGIN_FILE), "w") as file:
        file.write(json.dumps(asdict(origin)) + "\n")


def read_model_origin(model_uri: str) -> Origin | None:
    """Returns the origin of a `model` artifact, or None where it holds none."""
    path = os.path.join(model_uri, ORIGIN_FILE)
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path, "r") as file:
        return Origin(**json.loads(file.read()))


def read_pooling(saved_model_path: str) -> Pooling:
    """Returns what the head of a `model` artifact's SavedModel reads."""
    origin = read_model_origin(os.path.dirname(saved_model_path.rstrip("/")))
    return origin.pooling if origin else "last"
