"""What a training is made of: a model with the weights that it starts from, and its images."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import tensorflow as tf
import tensorflow_transform as tft
import tf_keras
from tensorflow.python.framework.config import disable_op_determinism
from tfx.components.trainer.fn_args_utils import FnArgs

from components.progress import report_progress
from components.trainer.augmentation import make_augment
from components.trainer.inputs import Split, open_split
from components.trainer.kernel_gradient import speed_up_kernel_gradients
from components.trainer.model import ImageClassifier, load_weights, make_model
from components.trainer.precision import PrecisionChoice, choose_precision
from components.trainer.precision_trial import PrecisionTrial, plan_work
from components.trainer.settings import TrainerSettings
from components.trainer.strategy import describe_strategy, needs_static_shapes
from components.trainer.warm_start import WarmStart, load_base, plan_warm_start, report_warm_start
from components.trainer.weights import WEIGHTS_DIR_KEY, ResolvedWeights, kept_imagenet, resolve_weights
from components.transform.features import LABEL_VOCABULARY
from data.errors import UserError


@dataclass(frozen=True)
class Assembly:
    """All that `train` needs, and what it was made from.

    Attributes:
        learn_statistics: whether BatchNorm's statistics are learned where blocks learn (see `make_model`).
        examples_uri: folder of the transformed examples' artifact.
    """

    model: ImageClassifier
    train_split: Split
    eval_split: Split
    weights: ResolvedWeights
    warm_start: WarmStart
    learn_statistics: bool
    precision: PrecisionChoice
    transform_output: tft.TFTransformOutput
    examples_uri: str


def assemble(
    settings: TrainerSettings,
    image_size: int,
    fn_args: FnArgs,
    strategy: tf.distribute.Strategy,
    saved_precision: PrecisionChoice | None = None,
) -> Assembly:
    """Makes the model in a strategy's scope, with the weights that it starts from, and opens train and eval.

    Args:
        settings: with `weights` as `imagenet`, `none` or a path.
        image_size: height and width in pixels.
        fn_args: TFX's, of the Trainer or the Tuner: the transform's output, the files of train and eval, the base of a
            warm start, and in `custom_config` a folder that may hold ImageNet's weights, where this machine has none.
        strategy: where the training runs.
        saved_precision: of the run that was killed and that this one goes on for.

    Raises:
        UserError: the weights cannot be had or are not the backbone's, the batch does not fit the devices, or weights
            are to be averaged whose norms' statistics are learned.
    """
    mirror = kept_imagenet(settings.backbone, (fn_args.custom_config or {}).get(WEIGHTS_DIR_KEY))
    weights = resolve_weights(settings.weights, settings.backbone, check_layers=False, mirror=mirror)
    check_batch(settings.batch_size, strategy.num_replicas_in_sync)
    transform_output = tft.TFTransformOutput(fn_args.transform_graph_path)
    class_names = [name.decode() for name in transform_output.vocabulary_by_name(LABEL_VOCABULARY)]
    examples_uri = os.path.dirname(os.path.dirname(fn_args.train_files[0]))  # <examples>/Split-train/*
    base_model = fn_args.base_model if settings.warm_start == "blessed" else None
    warm_start = plan_warm_start(base_model, examples_uri, settings.backbone, class_names)
    train_split = open_split(
        fn_args.train_files,
        image_size,
        settings.batch_size,
        seed=settings.seed,
        drop_remainder=needs_static_shapes(strategy),
        augment=make_augment(settings),
        image_cache=settings.image_cache == "auto",
        name="train",
    )
    eval_split = open_split(
        fn_args.eval_files, image_size, settings.batch_size, image_cache=settings.image_cache == "auto", name="eval"
    )
    trial = PrecisionTrial(
        settings,
        image_size,
        plan_work(settings, train_split.count, eval_split.count),
        replicas=strategy.num_replicas_in_sync,
    )
    precision = choose_precision(
        settings.precision, strategy, trial, saved=saved_precision, deterministic=settings.deterministic
    )
    start = "the base's" if warm_start.applies else weights.kind
    report_progress(f"training on {describe_strategy(strategy)} in {precision.name}, weights {start}", lasting=True)
    if settings.warm_start != "none":
        report_warm_start(warm_start, weights.kind)
    learn_statistics = warm_start.learn_statistics if warm_start.applies else weights.path is None

    with strategy.scope():
        model = make_model(
            len(class_names),
            image_size,
            settings.dropout,
            precision.name,
            settings.backbone,
            learn_statistics=learn_statistics,
        )
        if base_model is not None and warm_start.applies:
            load_base(model, base_model, class_names)
        elif weights.path is not None and load_weights(model, weights.path, settings.weights_head):
            report_progress("starting with the head in the file of weights", lasting=True)
    if learn_statistics and settings.fine_tune_epochs:
        check_averages(settings, model)
    if precision.kernel_gradient:
        speed_up_kernel_gradients(model)
    return Assembly(
        model,
        train_split,
        eval_split,
        weights,
        warm_start,
        learn_statistics,
        precision,
        transform_output,
        examples_uri,
    )


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


def check_batch(batch_size: int, replicas: int) -> None:
    """Refuses a batch that cannot be shared evenly.

    Raises:
        UserError: the batch is not a multiple of the replicas.
    """
    if batch_size % replicas:
        below, above = batch_size // replicas * replicas, -(-batch_size // replicas) * replicas
        allowed = f"{below} or {above}" if below else f"{above}"
        raise UserError(f"trainer.batch_size is {batch_size}, not a multiple of the {replicas} replicas; use {allowed}")


def check_averages(settings: TrainerSettings, model: ImageClassifier) -> None:
    """Refuses a moving average of weights next to statistics that belong to the weights as they are.

    With statistics averaged at the same pace it was measured to answer at random for long, with those of the weights
    as they are, much worse than either (MobileNetV3 on digits).

    Raises:
        UserError: `ema_momentum` is set, and the model learns BatchNorm's statistics.
    """
    layers = model._flatten_layers(include_self=False, recursive=True)
    if settings.ema_momentum is not None and any(isinstance(la, tf_keras.layers.BatchNormalization) for la in layers):
        raise UserError(
            f"trainer.ema_momentum is {settings.ema_momentum:g}, but {settings.backbone} started from random weights "
            "and learns the statistics of its batch norms, which would not be those of the averaged weights; set "
            "ema_momentum to null, or start from a file of weights"
        )
