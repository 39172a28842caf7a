"""What TFX's Trainer calls, by import path: transformed examples in, a SavedModel and a record of the training out.

The Trainer reloads this module: it holds functions and constants only.
"""

import csv
import json
import os
import platform
import tempfile
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tf_keras
from tensorflow.python.framework.config import disable_op_determinism
from tfx.components.trainer.fn_args_utils import FnArgs

from components.progress import report_progress
from components.trainer.augmentation import make_augment
from components.trainer.checkpoints import CheckpointDir, open_checkpoint_dir
from components.trainer.export import export_model
from components.trainer.inputs import open_split
from components.trainer.model import load_weights, make_model
from components.trainer.phases import EpochResult
from components.trainer.settings import TrainerSettings
from components.trainer.strategy import choose_precision, describe_strategy, make_strategy, needs_static_shapes
from components.trainer.training import train
from components.trainer.warm_start import Origin, load_base, plan_warm_start, report_warm_start, write_origin
from components.trainer.weights import resolve_weights
from components.trainer.workers import Workers
from components.transform.features import LABEL_VOCABULARY
from data.errors import UserError
from data.image_statistics import copy_image_statistics

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
            weights and `eval_files` choose among them; no other split is read. `base_model`, if it is there, is what
            a warm start goes on from. With several workers, all of them call this with the same arguments, on folders
            that all of them see, and the chief alone writes.

    Raises:
        UserError: the weights cannot be had or are not the backbone's, the batch does not fit the devices, or the
            training diverges.
    """
    settings = TrainerSettings.model_validate(fn_args.custom_config["trainer"])
    tf_keras.utils.set_random_seed(settings.seed)
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    try:
        with tempfile.TemporaryDirectory(prefix="trainer-") as scratch:
            _train_and_export(settings, fn_args.custom_config["image_size"], fn_args, scratch)
    finally:
        tf_keras.backend.clear_session()
        if settings.deterministic:
            # TensorFlow has no public way back, and what runs in this process after us did not ask for it.
            disable_op_determinism()


def _train_and_export(settings: TrainerSettings, image_size: int, fn_args: FnArgs, scratch: str) -> None:
    weights = resolve_weights(settings.weights, settings.backbone, check_layers=False)
    strategy = make_strategy(settings.strategy, settings.tpu)
    precision = choose_precision(settings.precision, strategy)
    replicas = strategy.num_replicas_in_sync
    _check_batch(settings.batch_size, replicas)
    workers = Workers(strategy)
    run_dir, export_dir = fn_args.model_run_dir, fn_args.serving_model_dir
    if not workers.is_chief:
        # All workers write together, for some variables are read by all together; only the chief's is kept.
        run_dir, export_dir = os.path.join(scratch, "run"), os.path.join(scratch, "model")
    unkept = None if workers.is_chief else os.path.join(scratch, "checkpoints")
    transform_output = tft.TFTransformOutput(fn_args.transform_output)
    class_names = [name.decode() for name in transform_output.vocabulary_by_name(LABEL_VOCABULARY)]
    examples_uri = os.path.dirname(os.path.dirname(fn_args.train_files[0]))  # <examples>/Split-train/*
    base_model = fn_args.base_model if settings.warm_start == "blessed" else None
    warm_start = plan_warm_start(base_model, examples_uri, settings.backbone, class_names)
    start = "the base's" if warm_start.applies else weights.kind
    report_progress(f"training on {describe_strategy(strategy)} in {precision}, weights {start}", lasting=True)
    if settings.warm_start != "none":
        report_warm_start(warm_start, weights.kind)
    learn_statistics = warm_start.learn_statistics if warm_start.applies else weights.path is None

    with strategy.scope():
        model = make_model(
            len(class_names),
            image_size,
            settings.dropout,
            precision,
            settings.backbone,
            learn_statistics=learn_statistics,
        )
        if base_model is not None and warm_start.applies:
            load_base(model, base_model, class_names)
        elif weights.path is not None and load_weights(model, weights.path, settings.weights_head):
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
    if root := fn_args.custom_config.get("checkpoint_dir"):
        files = [*fn_args.train_files, *fn_args.eval_files]
        checkpoint_dir = open_checkpoint_dir(root, {**fn_args.custom_config, "base": base_model}, files, unkept)
    else:
        checkpoint_dir = CheckpointDir(os.path.join(fn_args.model_run_dir, "resume"), unkept)
    history, best = train(model, train_split, eval_split, settings, run_dir, checkpoint_dir)

    report_progress("exporting the model")
    export_model(model, transform_output, image_size, export_dir)
    origin = Origin(settings.backbone, learn_statistics)
    write_origin(os.path.dirname(export_dir), origin, examples_uri, warm_start)
    copy_image_statistics(examples_uri, os.path.dirname(export_dir))
    _write_record(
        os.path.join(run_dir, TRAINING_FILE),
        {
            "settings": settings.model_dump(),
            "weights": {"kind": weights.kind, "sha256": weights.sha256},
            "warm_start": warm_start.to_record() if settings.warm_start != "none" else None,
            "strategy": describe_strategy(strategy),
            "replicas": replicas,
            "precision": precision,
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
    _write_csv(os.path.join(run_dir, HISTORY_FILE), history)
    workers.wait()  # until the chief has written, and nobody reads its checkpoints any more
    checkpoint_dir.remove()
    if not tf.io.gfile.exists(fn_args.serving_model_dir):
        raise UserError(
            f"trainer.strategy is multi_worker and this worker is not the chief, whose model is not in "
            f"{fn_args.serving_model_dir}; run the pipeline on the chief alone, and call its Trainer on the other "
            "workers with the chief's arguments, on a folder that all of them see"
        )


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
