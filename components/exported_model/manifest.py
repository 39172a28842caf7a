"""What an exported model says of itself, in a file that each copy of it takes along."""

import os
from typing import TYPE_CHECKING

import tensorflow as tf
from pydantic import BaseModel, ConfigDict

from components.exported_model.decision import DecisionRule
from components.transform.features import LABEL_VOCABULARY
from data import gfile
from data.bit_depth import WHOLE
from data.files import read_bytes
from data.json_files import find_json, write_json

if TYPE_CHECKING:
    from tfx.types import Artifact

PROJECT_VERSION = "0.1.0"
"""The project's; `pyproject.toml` reads it here, since an image holds our sources and no installed package."""

MANIFEST_FILE = "assets.extra/manifest.json"
"""In a SavedModel: a `Manifest`. TensorFlow keeps that folder for others and serves nothing from it."""

_ORIGIN_FILE = "origin.json"


class Origin(BaseModel):
    """What must be known of a model to go on from it.

    Attributes:
        backbone: a key of `BACKBONES`.
        learn_statistics: whether its backbone began with random weights, so that BatchNorm's statistics are learned
            where blocks learn (see `make_model`). What goes on from such a model must go on so: a block that was
            frozen in it has learned none yet. What began with ImageNet's keeps those, over all warm starts.
        pooling: what its head reads, a `Pooling` of `components.trainer.backbones`.
    """

    model_config = ConfigDict(frozen=True)

    backbone: str
    learn_statistics: bool
    pooling: str = "last"


class Manifest(Origin):
    """What a model is. Nothing in it names a place or a time: the same training writes the same bytes.

    Attributes:
        image_size: height and width of its input in pixels.
        aspect: how a picture becomes square, of `TransformSettings`.
        resize_method: how its pixels are interpolated, of the same; always anti-aliased.
        classes: their names, in the order of the probabilities.
        weights: what training started from: `imagenet`, `none`, `file` or `warm start`.
        weights_sha256: hexadecimal, of ImageNet's or the user's file; None for the others.
        bit_depth: how many of 16 bits a channel its examples used, one of `BIT_DEPTHS`: clients convert so, too.
        decision: when it answers by itself; None in a model that decides nothing.
        versions: of the project, the lane and the packages that wrote it.
    """

    image_size: int
    aspect: str = "stretch"
    resize_method: str = "bilinear"
    classes: tuple[str, ...]
    weights: str = "none"
    weights_sha256: str | None = None
    bit_depth: int = WHOLE
    decision: DecisionRule | None = None
    versions: dict[str, str]


def saved_model_path(model: "Artifact") -> str:
    """Returns the folder of the SavedModel in a `model` artifact."""
    # Who reads a model that was pushed needs no TFX, whose import takes seconds.
    from tfx.utils import path_utils

    return path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))


def artifact_folder(saved_model_path: str) -> str:
    """Returns the folder of a SavedModel's artifact, which holds what is not pushed with it."""
    return os.path.dirname(saved_model_path.rstrip("/"))


def write_manifest(saved_model_path: str, manifest: Manifest) -> None:
    """Writes a manifest into a SavedModel, local or remote."""
    write_json(os.path.join(saved_model_path, MANIFEST_FILE), manifest.model_dump())


def read_manifest(saved_model_path: str) -> Manifest | None:
    """Returns the manifest of a SavedModel, or None in one of before there was any."""
    content = find_json(os.path.join(saved_model_path, MANIFEST_FILE))
    return None if content is None else Manifest.model_validate(content)


def read_origin(saved_model_path: str) -> Origin | None:
    """Returns what must be known to go on from a model, or None where it is not recorded.

    Before there was a manifest it was in a file of its own, beside the SavedModel.
    """
    if manifest := read_manifest(saved_model_path):
        return manifest
    content = find_json(os.path.join(artifact_folder(saved_model_path), _ORIGIN_FILE))
    return None if content is None else Origin.model_validate(content)


def read_classes(saved_model_path: str) -> list[str]:
    """Returns the class names of a SavedModel, local or remote, in the order of its probabilities, without loading it.

    Neither their number nor their names need be known before a run, so the pipeline itself holds nothing of the kind.

    Raises:
        ValueError: it has neither a manifest nor a vocabulary.
    """
    manifest = read_manifest(saved_model_path)
    classes = list(manifest.classes) if manifest else read_vocabulary(saved_model_path)
    if not classes:
        raise ValueError(f"{saved_model_path} has no asset {LABEL_VOCABULARY!r}, which would name its classes")
    return classes


def read_vocabulary(saved_model_path: str) -> list[str]:
    """Returns the class names in the vocabulary of Transform's graph, an asset, one name a line; none without it."""
    path = os.path.join(saved_model_path, tf.saved_model.ASSETS_DIRECTORY, LABEL_VOCABULARY)
    return read_bytes(path).decode().removesuffix("\n").split("\n") if gfile.exists(path) else []
