"""What a training is made of: a model with the weights that it starts from, and its images."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tf_keras
from tensorflow.python.framework.config import disable_op_determinism
from tfx.components.trainer.fn_args_utils import FnArgs

from components.progress import report_progress
from components.trainer.augmentation import make_augment
from components.trainer.backbones import Pooling, count_features, forward_operations
from components.trainer.devices import check_batch
from components.trainer.inputs import Split, open_split
from components.trainer.kernel_gradient import speed_up_kernel_gradients
from components.trainer.logistic_regression import make_zero_head
from components.trainer.model import ImageClassifier, load_weights, make_model, repool
from components.trainer.precision import PrecisionChoice, choose_precision
from components.trainer.precision_trial import PrecisionTrial, measure_flops_per_second, plan_work
from components.trainer.recipes import Facts, KnownWeights, Plan, resolve_recipe
from components.trainer.settings import ResolvedSettings, TrainerSettings
from components.trainer.solving import set_head
from components.trainer.strategy import (
    count_hosts,
    describe_strategy,
    is_tpu_strategy,
    needs_static_shapes,
    runs_on_cpu,
)
from components.trainer.warm_start import (
    WarmStart,
    load_base,
    plan_warm_start,
    read_base_kernel,
    report_warm_start,
)
from components.trainer.weights import WEIGHTS_DIR_KEY, ResolvedWeights, kept_imagenet, resolve_weights
from components.transform.features import LABEL_VOCABULARY
from data.errors import UserError

# What VGG16 reaches of a product of matrices: 0.65 to 0.75 on 2 cores of an EPYC, at 128 and 224 pixels.
_OF_PEAK = 0.7


@dataclass(frozen=True)
class Assembly:
    """All that `train` needs, and what it was made from.

    Attributes:
        settings: what the recipe came to.
        plan: how.
        learn_statistics: whether BatchNorm's statistics are learned where blocks learn (see `make_model`).
        examples_uri: folder of the transformed examples' artifact.
        file_head: whether the model has the head of a file of weights.
        base_head: of a warm start whose head will be solved: what the base's reads, and its kernel [features, classes]
            for our classes, 0 for new ones.
    """

    settings: ResolvedSettings
    plan: Plan
    model: ImageClassifier
    train_split: Split
    eval_split: Split
    weights: ResolvedWeights
    warm_start: WarmStart
    learn_statistics: bool
    precision: PrecisionChoice
    transform_output: tft.TFTransformOutput
    examples_uri: str
    file_head: bool = False
    base_head: tuple[Pooling, np.ndarray] | None = None

    @property
    def started_from(self) -> tuple[str, str | None]:
        """The `weights` and the `weights_sha256` of the model's manifest."""
        if self.warm_start.applies:
            return "warm start", None
        return self.weights.kind if self.weights.kind in ("imagenet", "none") else "file", self.weights.sha256

    @property
    def poolings(self) -> tuple[Pooling, ...]:
        """What a solved head may read: what the base's does, so that its rows count, or that of a file's head."""
        if self.file_head:
            return ("last",)
        if self.base_head is not None and self.base_head[0] in self.plan.poolings:
            return (self.base_head[0],)
        return self.plan.poolings


def assemble(
    asked: TrainerSettings,
    image_size: int,
    fn_args: FnArgs,
    strategy: tf.distribute.Strategy,
    saved_precision: PrecisionChoice | None = None,
) -> Assembly:
    """Resolves the recipe, opens train and eval, and makes the model in a strategy's scope with its first weights.

    Args:
        asked: with `weights` as `imagenet`, `none` or a path.
        image_size: height and width in pixels.
        fn_args: TFX's, of the Trainer or the Tuner: the transform's output, the files of train and eval, the base of a
            warm start, and in `custom_config` a folder that may hold ImageNet's weights, where this machine has none.
        strategy: where the training runs.
        saved_precision: of the run that was killed and that this one goes on for.

    Raises:
        UserError: the weights cannot be had or are not the backbone's, the batch does not fit the devices, or weights
            are to be averaged whose norms' statistics are learned.
    """
    mirror = kept_imagenet(asked.backbone, (fn_args.custom_config or {}).get(WEIGHTS_DIR_KEY))
    weights = resolve_weights(asked.weights, asked.backbone, check_layers=False, mirror=mirror)
    check_batch(asked.batch_size, strategy.num_replicas_in_sync)
    transform_output = tft.TFTransformOutput(fn_args.transform_graph_path)
    class_names = [name.decode() for name in transform_output.vocabulary_by_name(LABEL_VOCABULARY)]
    examples_uri = os.path.dirname(os.path.dirname(fn_args.train_files[0]))  # <examples>/Split-train/*
    base_model = fn_args.base_model if asked.warm_start == "blessed" else None
    warm_start = plan_warm_start(base_model, examples_uri, asked.backbone, class_names)
    train_split = open_split(
        fn_args.train_files,
        image_size,
        asked.batch_size,
        seed=asked.seed,
        drop_remainder=needs_static_shapes(strategy),
        image_cache=asked.image_cache == "auto",
        name="train",
    )
    eval_split = open_split(
        fn_args.eval_files, image_size, asked.batch_size, image_cache=asked.image_cache == "auto", name="eval"
    )
    counts = train_split.count_labels(len(class_names)), eval_split.count_labels(len(class_names))
    plan = resolve_recipe(asked, _find_facts(asked, image_size, strategy, weights, warm_start, counts))
    settings = plan.settings
    train_split.augment_with(make_augment(settings))
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
    for reason in plan.reasons:
        report_progress(reason, lasting=True)
    if plan.passes and runs_on_cpu(strategy):
        operations = plan.passes * forward_operations(settings.backbone, image_size)
        report_progress(f"about {_in_words(operations / (_OF_PEAK * measure_flops_per_second()))}", lasting=True)
    learn_statistics = warm_start.learn_statistics if warm_start.applies else weights.path is None
    solved = settings.head == "solved"

    def make(pooling: Pooling) -> ImageClassifier:
        return make_model(
            len(class_names),
            image_size,
            settings.dropout,
            precision.name,
            settings.backbone,
            learn_statistics=learn_statistics,
            pooling=pooling,
        )

    file_head, base_head = False, None
    with strategy.scope():
        model = make(settings.pooling)
        if settings.head == "standardised":  # a penalty draws it to what it starts from: of new classes, to 0
            set_head(model, make_zero_head(*model.get_layer("head").kernel.shape))
        if base_model is not None and warm_start.applies:
            load_base(model, base_model, class_names, pooling=warm_start.pooling)
            if solved:
                base_head = warm_start.pooling, read_base_kernel(base_model, class_names)
        elif weights.path is not None:
            if solved and settings.weights_head == "load" and asked.pooling in (None, "last"):
                last = model if settings.pooling == "last" else repool(model, "last")
                file_head = load_weights(last, weights.path, "load")
                model = last if file_head else model
            elif load_weights(model, weights.path, settings.weights_head):
                report_progress("starting with the head in the file of weights", lasting=True)
    if learn_statistics and settings.fine_tune_epochs:
        check_averages(settings, model)
    if precision.kernel_gradient:
        speed_up_kernel_gradients(model)
    return Assembly(
        settings,
        plan,
        model,
        train_split,
        eval_split,
        weights,
        warm_start,
        learn_statistics,
        precision,
        transform_output,
        examples_uri,
        file_head,
        base_head,
    )


def _in_words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _find_facts(
    asked: TrainerSettings,
    image_size: int,
    strategy: tf.distribute.Strategy,
    weights: ResolvedWeights,
    warm_start: WarmStart,
    counts: tuple[np.ndarray, np.ndarray],
) -> Facts:
    """Collects what the recipe decides from; `counts` are the images of train and eval by class."""
    known: KnownWeights = "warm start" if warm_start.applies else "none"
    if not warm_start.applies and weights.path is not None:
        known = "imagenet" if weights.kind == "imagenet" else "file"
    device: Literal["cpu", "gpu", "tpu"] = "cpu" if runs_on_cpu(strategy) else "gpu"
    return Facts(
        train_counts=tuple(counts[0].tolist()),
        eval_counts=tuple(counts[1].tolist()),
        image_size=image_size,
        device="tpu" if is_tpu_strategy(strategy) else device,
        hosts=count_hosts(strategy),
        backbone=asked.backbone,
        weights=known,
        features=count_features(asked.backbone, asked.pooling),
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


def check_averages(settings: ResolvedSettings, model: ImageClassifier) -> None:
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
