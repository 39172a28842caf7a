"""What TFX's Trainer calls, by import path: transformed examples in, a SavedModel and a record of the training out.

The Trainer reloads this module: it holds functions and constants only.
"""

import csv
import os
import platform
import tempfile
from dataclasses import asdict, fields, replace
from functools import partial

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tf_keras
from tfx.components.trainer.fn_args_utils import FnArgs

from components.exported_model.manifest import artifact_folder
from components.progress import report_progress
from components.trainer import TRAINING_FILE
from components.trainer.assembly import Assembly, assemble, seeded
from components.trainer.attempts import open_checkpoint_dir
from components.trainer.checkpoints import CheckpointDir
from components.trainer.competition import Judged
from components.trainer.deciding import Decided, check_targets, compute_fit, decide
from components.trainer.decision_settings import DecisionSettings
from components.trainer.export import export_model
from components.trainer.feature_store import FeatureStore
from components.trainer.first_head import SOLVE, learn_from_eval, mark_features, solve_first_head
from components.trainer.frozen_features import keep_weights, write_frozen_features, write_frozen_weights
from components.trainer.hyperparameters import apply_hyperparameters, changed_settings
from components.trainer.model import ImageClassifier
from components.trainer.phases import EpochResult
from components.trainer.precision import PrecisionChoice
from components.trainer.settings import TrainerSettings
from components.trainer.solving import narrow, read_head, set_head
from components.trainer.start import Start
from components.trainer.strategy import describe_strategy, make_strategy
from components.trainer.training import train
from components.trainer.warm_start import write_training_images
from components.trainer.workers import Workers
from components.transform.features import LABEL_VOCABULARY
from components.transform.settings import read_transform_settings
from data.bit_depth import read_bit_depth
from data.errors import UserError
from data.image_statistics import copy_image_statistics
from data.json_files import without_numbers_beyond_json, write_json

HISTORY_FILE = "history.csv"
"""In the `model_run` artifact: a row an epoch, with the columns of `EpochResult`."""


def run_fn(fn_args: FnArgs) -> None:
    """Trains a classifier and exports it.

    Args:
        fn_args: TFX's. `custom_config` holds `trainer`, the dump of `TrainerSettings` whose `weights` are `imagenet`,
            `none` or a path, and `image_size` in pixels; `checkpoint_dir`, if it is there, is the
            folder in which a killed run leaves its state; the other keys only mark the cache. `train_files` fit the
            weights and `eval_files` choose among them; no other split is read. `base_model`, if it is there, is what
            a warm start goes on from; `hyperparameters`, where a Tuner ran, takes the place of the settings that it
            chose. With several workers, all of them call this with the same arguments, on folders that all of them
            see, and the chief alone writes.

    Raises:
        UserError: the weights cannot be had or are not the backbone's, the batch does not fit the devices, or the
            training diverges.
    """
    settings = TrainerSettings.model_validate(fn_args.custom_config["trainer"])
    if fn_args.hyperparameters:
        untuned, settings = settings, apply_hyperparameters(settings, fn_args.hyperparameters["values"])
        chosen = ", ".join(f"{name} {value}" for name, value in changed_settings(untuned, settings).items())
        report_progress(f"from the Tuner: {chosen or 'the settings as they are'}", lasting=True)
    with seeded(settings), tempfile.TemporaryDirectory(prefix="trainer-") as scratch:
        _train_and_export(settings, fn_args.custom_config["image_size"], fn_args, scratch)


def _train_and_export(settings: TrainerSettings, image_size: int, fn_args: FnArgs, scratch: str) -> None:
    decision = DecisionSettings.model_validate(fn_args.custom_config.get("decision") or {})
    strategy = make_strategy(settings.strategy, settings.tpu)
    workers = Workers(strategy)
    base = fn_args.base_model if settings.warm_start == "blessed" else None
    root, files = fn_args.custom_config.get("checkpoint_dir"), [*fn_args.train_files, *fn_args.eval_files]
    config = {
        **fn_args.custom_config,
        "trainer": settings.model_dump(),  # with what a Tuner chose
        "base": artifact_folder(base) if base else None,
        # Not the machine, but what of it changes the result: replicas mix within their own part of the batch and drop
        # a partial one. The arithmetic that `auto` came to is in the folder: who goes on keeps it.
        "devices": describe_strategy(strategy),
    }
    run_dir, export_dir, unkept = fn_args.model_run_dir, fn_args.serving_model_dir, None
    if not workers.is_chief:
        # All workers write together, for some variables are read by all together; only the chief's is kept.
        run_dir, export_dir, unkept = (os.path.join(scratch, name) for name in ("run", "model", "checkpoints"))
    if root:
        checkpoint_dir = open_checkpoint_dir(root, config, files, fn_args.model_run_dir, unkept)
    else:
        checkpoint_dir = CheckpointDir(os.path.join(fn_args.model_run_dir, "resume"), unkept)
    workers.wait()  # until the chief has taken over what a killed attempt left
    saved = PrecisionChoice.from_record(checkpoint_dir.load_choices().get("precision"), "saved")
    made = assemble(settings, image_size, fn_args, strategy, saved)
    checkpoint_dir.save_choices({"precision": made.precision.to_record()})
    classes = [name.decode() for name in made.transform_output.vocabulary_by_name(LABEL_VOCABULARY)]
    check_targets(decision, classes)
    if decision.target_precision is not None and workers.several:
        raise UserError(
            "decision.target_precision is set and trainer.strategy is multi_worker, where no threshold is chosen; "
            "train on one machine, or set it to null"
        )
    model, start, solved, store, kept = made.model, None, None, None, {}
    if made.settings.head != "stepped" and not workers.several:
        store = FeatureStore(root, mark_features(made, files, base=config["base"], code=config.get("code_hash")))
    if made.settings.head == "solved" and store is not None:
        # Of a warm start they have learned these labels: they would find them right.
        own_files = fn_args.train_files, fn_args.eval_files
        leave = None if made.warm_start.applies else partial(write_frozen_features, run_dir, files=own_files)
        kept = keep_weights(model) if leave and made.settings.fine_tune_epochs else {}
        start, solved = solve_first_head(made, store, leave)
    splits = made.train_split, made.eval_split
    history, best = train(model, *splits, made.settings, run_dir, checkpoint_dir, start=start, store=store)
    if kept and best.phase != SOLVE:
        write_frozen_weights(run_dir, kept, model)
    learned_eval = start is not None and solved is not None and learn_from_eval(model, start, solved)
    temperature = _fold_temperature(model, start)
    if solved is not None:
        model = narrow(model, solved.pooling)
    decided = _decide(decision, classes, made, model, start, best.phase == SOLVE, temperature, learned_eval)

    report_progress("exporting the model")
    bit_depth = read_bit_depth(made.examples_uri)
    transform = read_transform_settings(made.examples_uri)
    export_model(
        model, made.transform_output, transform, export_dir, *made.started_from, bit_depth, decided.rule, decided.known
    )
    write_training_images(artifact_folder(export_dir), made.examples_uri, made.warm_start)
    copy_image_statistics(made.examples_uri, artifact_folder(export_dir))
    write_json(
        os.path.join(run_dir, TRAINING_FILE),
        without_numbers_beyond_json(
            {
                "settings": settings.model_dump(),
                "resolved": made.settings.model_dump(),
                "recipe": {"reasons": made.plan.reasons, "solved": solved.to_record() if solved else None},
                "temperature": temperature,
                "learned_from_eval": learned_eval,
                "decision": decided.to_record(),
                "shipped": best.phase,
                "offers": start.competition.offers if start else [],
                "hyperparameters": (fn_args.hyperparameters or {}).get("values"),
                "weights": {"kind": made.weights.kind, "sha256": made.weights.sha256},
                "warm_start": made.warm_start.to_record() if settings.warm_start != "none" else None,
                "image_size": image_size,
                "pooling": model.pooling,
                "strategy": describe_strategy(strategy),
                "replicas": strategy.num_replicas_in_sync,
                "precision": made.precision.name,
                "precision_choice": made.precision.to_record(),
                "best_by": "eval_loss"
                if start is None
                else "eval_loss at its best temperature, by more than its noise",
                "best": asdict(best),
                "history": [asdict(epoch) for epoch in history],
                "versions": {
                    "python": platform.python_version(),
                    "tensorflow": tf.__version__,
                    "tf_keras": tf_keras.__version__,
                    "tensorflow_transform": tft.__version__,
                    "numpy": np.__version__,
                },
            }
        ),
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


def _fold_temperature(model: ImageClassifier, start: Start | None) -> float:
    """Divides the head by the temperature of what is shipped, and returns it; 1 where no head was solved."""
    judged = start.competition.judge_of_temperature() if start else None
    if judged is None or not len(judged.labels):
        return 1.0
    temperature = judged.temperature
    set_head(model, read_head(model).scaled(1.0 / temperature))
    return temperature


def _decide(
    settings: DecisionSettings,
    classes: list[str],
    made: Assembly,
    model: ImageClassifier,
    start: Start | None,
    solved_is_shipped: bool,
    temperature: float,
    learned_eval: bool,
) -> Decided:
    """Returns when the model as it is shipped decides, by images that it did not learn from; see `decide`."""
    if Workers(made.model.distribute_strategy).several:
        nothing = Judged(np.zeros([0, len(classes)]), np.zeros(0, np.int64), np.zeros(0))
        return decide(settings, classes, nothing, None, remark="with several workers nothing tells unknown images")
    judged = start.competition.judge_of_temperature() if start else None
    if start is not None and solved_is_shipped:
        fit = start.known
    else:
        fit, at_the_end = compute_fit(model, made.train_split, made.eval_split, made.settings.seed)
        judged = judged or replace(at_the_end, logits=at_the_end.logits * temperature)
    assert judged is not None, "a start has a competition"
    of_eval = judged.images == "eval" and not learned_eval
    return decide(
        settings,
        classes,
        replace(judged, logits=judged.logits / temperature),
        fit,
        images="eval" if of_eval else "folds",
        remark="" if fit else "train's images tell nothing of unknown ones: every image counts as known",
    )


def _write_csv(path: str, history: list[EpochResult]) -> None:
    """Writes a row an epoch to a local or `gs://` path."""
    with tf.io.gfile.GFile(path, "w") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(EpochResult)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(epoch) for epoch in history)
