"""What TFX's Trainer calls, by import path: transformed examples in, a SavedModel and a record of the training out.

The Trainer reloads this module: it holds functions and constants only.
"""

import csv
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tf_keras
from tensorflow.python.framework.config import disable_op_determinism
from tfx.components.trainer.fn_args_utils import FnArgs

from components.progress import report_progress
from components.trainer.assembly import Assembly
from components.trainer.augmentation import make_augment
from components.trainer.checkpoints import CheckpointDir, open_checkpoint_dir
from components.trainer.export import export_model
from components.trainer.hyperparameters import apply_hyperparameters, changed_settings
from components.trainer.inputs import open_split
from components.trainer.model import load_weights, make_model
from components.trainer.phases import EpochResult
from components.trainer.settings import TrainerSettings
from components.trainer.strategy import choose_precision, describe_strategy, make_strategy, needs_static_shapes
from components.trainer.training import train
from components.trainer.weights import resolve_weights
from components.transform.features import LABEL_VOCABULARY
from data.errors import UserError

TRAINING_FILE = "training.json"
"""In the `model_run` artifact: epochs, the best one, weights, strategy, precision and versions."""

HISTORY_FILE = "history.csv"
"""In the `model_run` artifact: a row an epoch, with the columns of `EpochResult`."""


def run_fn(fn_args: FnArgs) -> None:
    """Trains a classifier and exports it.

    Args:
        fn_args: TFX's. `custom_config` holds `trainer`, the dump of `TrainerSettings` whose `weights` are `imagenet`,
            `none` or a path, and `image_size` in pixels; `checkpoint_dir`, if it is there, is the
            folder in which a killed run leaves its state; the other keys only mark the cache. `train_files` fit the
            weights and `eval_files` choose among them; no other split is read. `hyperparameters`, where a Tuner ran,
            takes the place of the settings that it chose.

    Raises:
        UserError: the weights cannot be had or are not the backbone's, the batch does not fit the devices, or the
            training diverges.
    """
    settings = TrainerSettings.model_validate(fn_args.custom_config["trainer"])
    if fn_args.hyperparameters:
        untuned, settings = settings, apply_hyperparameters(settings, fn_args.hyperparameters["values"])
        chosen = ", ".join(f"{name} {value}" for name, value in changed_settings(untuned, settings).items())
        report_progress(f"from the Tuner: {chosen or 'the settings as they are'}", lasting=True)
    with seeded(settings):
        _train_and_export(settings, fn_args.custom_config["image_size"], fn_args)


@contextmanager
def seeded(settings: TrainerSettings) -> Iterator[None]:
    """Inside it, random numbers follow from the seed, and sums from a fixed order if wanted; clears Keras after it."""
    tf_keras.utils.set_random_seed(settings.seed)
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        tf_keras.backend.clear_session()
        if settings.deterministic:
            # TensorFlow has no public way back, and what runs in this process after us did not ask for it.
            disable_op_determinism()


def assemble(settings: TrainerSettings, image_size: int, fn_args: FnArgs, strategy: tf.distribute.Strategy) -> Assembly:
    """Makes the model in a strategy's scope, with the weights that it starts from, and opens train and eval.

    Args:
        settings: with `weights` as `imagenet`, `none` or a path.
        image_size: height and width in pixels.
        fn_args: TFX's, of the Trainer or the Tuner: the transform's output and the files of train and eval.
        strategy: where the training runs.

    Raises:
        UserError: the weights cannot be had or are not the backbone's, or the batch does not fit the devices.
    """
    weights = resolve_weights(settings.weights, settings.backbone, check_layers=False)
    precision = choose_precision(settings.precision, strategy)
    _check_batch(settings.batch_size, strategy.num_replicas_in_sync)
    transform_output = tft.TFTransformOutput(fn_args.transform_graph_path)
    class_count = len(transform_output.vocabulary_by_name(LABEL_VOCABULARY))
    report_progress(f"training on {describe_strategy(strategy)} in {precision}, weights {weights.kind}", lasting=True)

    with strategy.scope():
        model = make_model(
            class_count,
            image_size,
            settings.dropout,
            precision,
            settings.backbone,
            learn_statistics=weights.path is None,
        )
        if weights.path is not None and load_weights(model, weights.path, settings.weights_head):
            report_progress("starting with the head in the file of weights", lasting=True)
    train_split = open_split(
        fn_args.train_files,
        image_size,
        settings.batch_size,
        seed=settings.seed,
        drop_remainder=needs_static_shapes(strategy),
        augment=make_augment(settings),
    )
    eval_split = open_split(fn_args.eval_files, image_size, settings.batch_size)
    return Assembly(model, train_split, eval_split, weights, precision, transform_output)


def _train_and_export(settings: TrainerSettings, image_size: int, fn_args: FnArgs) -> None:
    strategy = make_strategy(settings.strategy, settings.tpu)
    made = assemble(settings, image_size, fn_args, strategy)
    if root := fn_args.custom_config.get("checkpoint_dir"):
        files = [*fn_args.train_files, *fn_args.eval_files]
        config = {**fn_args.custom_config, "trainer": settings.model_dump()}  # with what a Tuner chose
        checkpoint_dir = open_checkpoint_dir(root, config, files)
    else:
        checkpoint_dir = CheckpointDir(os.path.join(fn_args.model_run_dir, "resume"))
    history, best = train(
        made.model, made.train_split, made.eval_split, settings, fn_args.model_run_dir, checkpoint_dir
    )

    report_progress("exporting the model")
    export_model(made.model, made.transform_output, image_size, fn_args.serving_model_dir)
    _write_record(
        os.path.join(fn_args.model_run_dir, TRAINING_FILE),
        {
            "settings": settings.model_dump(),
            "hyperparameters": (fn_args.hyperparameters or {}).get("values"),
            "weights": {"kind": made.weights.kind, "sha256": made.weights.sha256},
            "strategy": describe_strategy(strategy),
            "replicas": strategy.num_replicas_in_sync,
            "precision": made.precision,
            "best_by": "eval_loss",
            "best": asdict(best),
            "history": [asdict(epoch) for epoch in history],
            "versions": {
                "python": platform.python_version(),
                "tensorflow": tf.__version__,
                "tf_keras": tf_keras.__version__,
                "tensorflow_transform": tft.__version__,
                "numpy": np.__version__,
            },
        },
    )
    _write_csv(os.path.join(fn_args.model_run_dir, HISTORY_FILE), history)
    checkpoint_dir.remove()


def _check_batch(batch_size: int, replicas: int) -> None:
    """Refuses a batch that cannot be shared evenly.

    Raises:
        UserError: the batch is not a multiple of the replicas.
    """
    if batch_size % replicas:
        below, above = batch_size // replicas * replicas, -(-batch_size // replicas) * replicas
        allowed = f"{below} or {above}" if below else f"{above}"
        raise UserError(f"trainer.batch_size is {batch_size}, not a multiple of the {replicas} replicas; use {allowed}")


def _write_record(path: str, record: dict[str, Any]) -> None:
    """Writes JSON to a local or `gs://` path."""
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(json.dumps(record, indent=2) + "\n")


def _write_csv(path: str, history: list[EpochResult]) -> None:
    """Writes a row an epoch to a local or `gs://` path."""
    with tf.io.gfile.GFile(path, "w") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(EpochResult)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(epoch) for epoch in history)
