"""Runs TFX's Trainer on a few transformed images made in a test."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tfx.components.trainer.executor import GenericExecutor
from tfx.types import standard_artifacts
from tfx.utils import json_utils, path_utils

from tests.images import encode, make_exif_jpeg, make_pixels
from tests.transform_run import SPLITS, make_artifact, run_transform

CLASSES = ["ant", "bee", "cat", "dog", "elk", "fox"]
SETTINGS = {
    "weights": "none",
    "batch_size": 8,
    "head_epochs": 1,
    "fine_tune_epochs": 1,
    "fine_tune_blocks": 5,
    "precision": "bfloat16",
}


def make_images(count: int, seed: int) -> list[tuple[bytes, str]]:
    random = np.random.default_rng(seed)
    pixels = [
        (make_pixels(number % len(CLASSES), 40, random), CLASSES[number % len(CLASSES)]) for number in range(count)
    ]
    return [(encode(image, "JPEG" if number % 2 else "PNG"), label) for number, (image, label) in enumerate(pixels)]


def run_trainer(
    root: Path, output: Path, settings: dict[str, Any], base: Path | None = None, **custom_config: Any
) -> Path:
    """Runs TFX's Trainer executor on a `run_transform` folder and returns the SavedModel's folder."""
    GenericExecutor(GenericExecutor.Context(tmp_dir=str(output / "temporary"), unique_id="1")).Do(
        {
            "examples": [make_artifact(standard_artifacts.Examples, root / "transformed", SPLITS)],
            "transform_graph": [make_artifact(standard_artifacts.TransformGraph, root / "graph")],
            "base_model": [make_artifact(standard_artifacts.Model, base)] if base else [],
        },
        {
            "model": [make_artifact(standard_artifacts.Model, output / "model")],
            "model_run": [make_artifact(standard_artifacts.ModelRun, output / "model_run")],
        },
        {
            "run_fn": "components.trainer.run_fn.run_fn",
            "train_args": "{}",
            "eval_args": "{}",
            "custom_config": json_utils.dumps(
                {"trainer": settings, "image_size": 32, "weights_hash": None, "code_hash": "0", **custom_config}
            ),
        },
    )
    return Path(path_utils.serving_model_dir(str(output / "model")))


def transform_images(root: Path) -> None:
    """Transforms images and destroys what became of their test split: a trainer that reads it fails."""
    images = {"train": make_images(30, seed=0), "eval": make_images(12, seed=1), "test": make_images(6, seed=2)}
    images["test"].append((make_exif_jpeg(1), "ant"))
    run_transform(root, images, {"image_size": 32})
    for path in (root / "transformed" / "Split-test").iterdir():
        path.write_bytes(b"whoever reads this fails")


def read_weights(saved_model: Path) -> dict[str, np.ndarray]:
    """Returns the weights of an export by name, e.g. `head_kernel`, without loading its graphs."""
    reader = tf.train.load_checkpoint(str(saved_model / "variables" / "variables"))
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith("weights/")]
    return {name.split("/")[1]: reader.get_tensor(name) for name in names}
