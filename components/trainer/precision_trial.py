"""Times the real model's step in float32 and bfloat16, as long as that is a small part of the training."""

import gc
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import tensorflow as tf
import tf_keras

from components.trainer.backbones import BACKBONES, forward_operations
from components.trainer.kernel_gradient import speed_up_kernel_gradients
from components.trainer.learner import Learner, feature_model
from components.trainer.mixing import UNMIXED
from components.trainer.model import make_model, set_trainable_blocks
from components.trainer.noise import StepNoise
from components.trainer.phases import Phase
from components.trainer.precision import Precision, PrecisionChoice, Rates
from components.trainer.settings import ResolvedSettings

_CLASSES = 10  # the head is next to nothing

# A gradient of the inputs and one of the kernels: each costs what a forward pass does.
_TRAINED_COST = 3.0

# Building and running each of both once took 3 s (VGG16 at 32 px) to 11 s (MobileNetV3-Large, most of it Keras's own
# work) on a busy machine of 2 cores: whoever cannot spend this much need not begin.
_LEAST_SECONDS = 3.0

_STEP_SECONDS = 0.5  # of the timed step, by arithmetic: at 224 px a batch of 32 is 3 s long, and 8 images tell as much
_LEAST_BATCH = 8
_LEAST_STEPS = 4  # one that traces and one that is timed, of each
_ROUNDS = 3
_LEAST_TIMED = 2


@dataclass(frozen=True)
class Work:
    """What a training will compute.

    Attributes:
        forward_images: images that pass the frozen backbone, or are evaluated, over all epochs and views.
        trained_images: images that blocks of the backbone learn from, over all epochs.
        blocks: of the backbone that learn then.
    """

    forward_images: int
    trained_images: int
    blocks: int = 0

    @property
    def kind(self) -> Literal["forward", "train"]:
        """What takes the most time: steps that pass forward alone, or that train."""
        return "train" if self.forward_images < _TRAINED_COST * self.trained_images else "forward"

    def expect_seconds(self, seconds_per_image: float) -> float:
        """Returns the time of all, from that of one image in a step of the kind."""
        if self.kind == "forward":
            return seconds_per_image * (self.forward_images + _TRAINED_COST * self.trained_images)
        return seconds_per_image * (self.forward_images / _TRAINED_COST + self.trained_images)


def plan_work(settings: ResolvedSettings, train_images: int, eval_images: int) -> Work:
    """Returns what the settings' phases compute, if no patience ends them early.

    Args:
        settings: phases, and whether features are computed once.
        train_images: images of train.
        eval_images: images of eval.
    """
    mixes = settings.mixup_alpha > 0 or settings.cutmix_alpha > 0
    views = settings.feature_cache_views
    cached = settings.feature_cache == "auto" and not mixes and (views > 0 or not settings.augments)
    passes = min(settings.head_epochs, max(1, views)) if cached else settings.head_epochs
    evaluations = (min(settings.head_epochs, 1) if cached else settings.head_epochs) + settings.fine_tune_epochs
    trained = train_images * settings.fine_tune_epochs
    if settings.head != "stepped":  # each image and view once
        passes, evaluations = 1 + views, 1 + settings.fine_tune_epochs
    return Work(train_images * passes + eval_images * evaluations, trained, settings.fine_tune_blocks if trained else 0)


@dataclass(frozen=True)
class Budget:
    """What measuring may cost: a share of the expected training time, and seconds."""

    share: float = 0.03
    seconds: float = 10.0

    def within(self, expected_seconds: float) -> float:
        """Returns the seconds that it may take."""
        return min(self.share * expected_seconds, self.seconds)


Step = Callable[[], None]


class PrecisionTrial:
    """A step of the kind that a training mostly does, timed in each arithmetic; see `precision.Timing`."""

    def __init__(
        self,
        settings: ResolvedSettings,
        image_size: int,
        work: Work,
        *,
        replicas: int = 1,
        budget: Budget | None = Budget(),
        clock: Callable[[], float] = time.monotonic,
        make_step: Callable[[Precision, bool, int], Step] | None = None,
        flops_per_second: float | None = None,
    ) -> None:
        """Builds nothing yet.

        Args:
            settings: backbone, batch, optimizer and seed of the training.
            image_size: height and width in pixels.
            work: of the whole training, from which its time is expected.
            replicas: among which a batch is shared; one of them is timed.
            budget: None measures whatever it costs, on every device.
            clock: in seconds.
            make_step: (precision, kernel gradients by taps, images) -> the step; by default that of the real model.
            flops_per_second: of the device in float32; by default that of a product of matrices is measured.
        """
        self._settings, self._image_size, self._work, self._budget = settings, image_size, work, budget
        self._replica_batch = settings.batch_size // replicas
        self._clock, self._make_step = clock, make_step or self._make_real_step
        self._flops_per_second = flops_per_second

    @property
    def forced(self) -> bool:
        """See `Timing`."""
        return self._budget is None

    @property
    def key(self) -> dict[str, Any]:
        """See `Timing`."""
        return {
            "cores": os.cpu_count(),
            "backbone": self._settings.backbone,
            "image_size": self._image_size,
            "batch": self._replica_batch,
            "step": self._work.kind,
            "blocks": self._work.blocks if self._work.kind == "train" else 0,
        }

    def run(self) -> tuple[Rates | None, float]:
        """See `Timing`; random numbers start anew from the seed after it, as if nothing had been built."""
        started = self._clock()
        # Never slower than by arithmetic: what is too short even so is not worth building a model for.
        speed = self._flops_per_second or measure_flops_per_second()
        flops = forward_operations(self._settings.backbone, self._image_size)
        all_learn = self._work.blocks == len(BACKBONES[self._settings.backbone].blocks)
        cost = _TRAINED_COST if all_learn else 1.0
        shortest = flops / speed * (self._work.forward_images + cost * self._work.trained_images)
        step_flops = flops * (_TRAINED_COST if self._work.kind == "train" else 1.0)
        images = min(self._replica_batch, max(_LEAST_BATCH, int(_STEP_SECONDS * speed / step_flops)))
        least = max(_LEAST_SECONDS, _LEAST_STEPS * images * step_flops / speed)
        if self._budget is not None and self._budget.within(shortest) < least:
            return None, self._clock() - started
        try:
            return self._time(images, started), self._clock() - started
        finally:
            tf_keras.utils.set_random_seed(self._settings.seed)
            gc.collect()  # a model and its graphs hold each other

    def time_image(self, choice: PrecisionChoice, least_seconds: float = 1.0) -> float:
        """Returns the seconds of one image in the step that the training mostly does, whatever measuring costs.

        Args:
            choice: of the arithmetic.
            least_seconds: for which it is timed, after the step that traces it.
        """
        images = min(self._replica_batch, _LEAST_BATCH)
        step = self._make_step(choice.name, choice.kernel_gradient, images)
        step()
        times: list[float] = []
        while sum(times) < least_seconds or len(times) < _LEAST_TIMED:
            before = self._clock()
            step()
            times.append(self._clock() - before)
        return min(times) / images

    def _time(self, images: int, started: float) -> Rates | None:
        def spend(step: Step) -> float:
            before = self._clock()
            step()
            return self._clock() - before

        plain = self._make_step("float32", False, images)
        spend(plain)  # traces it
        if self._budget and 2 * (self._clock() - started) > self._budget.seconds:
            return None
        times = {"float32": [spend(plain)]}
        expected = self._work.expect_seconds(times["float32"][0] / images)
        left = (self._budget.within(expected) if self._budget else math.inf) + started
        # bfloat16 costs what float32 did, or half as much again where it is slower.
        cost = 1.5 * (self._clock() - started)
        if self._clock() + cost > left:
            return None
        steps = {"float32": plain}
        for name, by_taps in {"bfloat16": False, **({"by_taps": True} if self._tries_taps() else {})}.items():
            if by_taps and self._clock() + cost > left:
                break
            steps[name] = self._make_step("bfloat16", by_taps, images)
            spend(steps[name])
            times[name] = [spend(steps[name])]
        # In turns, so that what else the machine does hits all; the least is what the step takes when left alone.
        for _ in range(_ROUNDS - 1):
            if self._clock() + sum(map(min, times.values())) > left:
                break
            for name, step in steps.items():
                times[name].append(spend(step))
        return Rates(**{name: images / min(seconds) for name, seconds in times.items()})

    def _tries_taps(self) -> bool:
        return self._work.kind == "train" and not tf.config.list_physical_devices("GPU")

    def _make_real_step(self, precision: Precision, by_taps: bool, images: int) -> Step:
        settings, trains = self._settings, self._work.kind == "train"
        model = make_model(
            _CLASSES, self._image_size, settings.dropout, precision, settings.backbone, settings.weights == "none"
        )
        if by_taps:
            speed_up_kernel_gradients(model)
        pixels = tf.cast(
            tf.random.stateless_uniform([images, self._image_size, self._image_size, 3], [0, 0]) * 255, tf.uint8
        )
        if not trains:
            features = feature_model(model)
            forward = tf.function(lambda: tf.reduce_sum(features(pixels, training=False)), autograph=False)
            return lambda: forward().numpy()
        set_trainable_blocks(model, self._work.blocks)
        learner = Learner(model, Phase("trial", 1, 1e-6, self._work.blocks), settings, StepNoise(model, settings.seed))
        batch = pixels, tf.zeros([images], tf.int64), tf.ones([images])
        train = tf.function(lambda: learner.train_step(tf.constant(0, tf.int64), UNMIXED, *batch), autograph=False)
        return lambda: train().numpy()


def measure_flops_per_second() -> float:
    """Returns what products of float32 matrices reach here: more than any model does."""
    matrix = tf.random.stateless_uniform([1024, 1024], [0, 0])
    times = []
    for _ in range(4):  # the first one starts threads
        before = time.monotonic()
        tf.linalg.matmul(matrix, matrix).numpy()
        times.append(time.monotonic() - before)
    return 2 * 1024**3 / min(times)
