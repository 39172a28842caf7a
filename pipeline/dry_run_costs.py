"""What a run will take: seconds, bytes on the disk and memory, from a few measurements on this machine."""

import time
from dataclasses import dataclass

import tensorflow as tf

from components.trainer.backbone_layers import make_backbone
from components.trainer.backbones import BACKBONES, count_features
from components.trainer.inputs import MEMORY_BYTES
from components.trainer.precision import choose_precision
from components.trainer.precision_trial import PrecisionTrial, plan_work
from components.trainer.recipes import Plan
from components.trainer.settings import ResolvedSettings
from components.trainer.strategy import make_strategy
from data.survey import Survey
from pipeline.config import PipelineConfig

# Seconds that a node takes whatever its images are: digits at 32 px, in five runs on 2 cores of an EPYC, less what its
# images took. Nearly all of it is Python that builds graphs, so that `_measure_overhead` tells how fast it is here.
_FIXED_SECONDS = {
    "start": 9.0,
    "ImageExampleGen": 3.5,
    "StatisticsGen": 8.5,
    "SchemaGen": 0.2,
    "ExampleValidator": 0.2,
    "Transform": 8.0,
    "Trainer": 9.0,
    "ModelResolver": 0.1,
    "DriftValidator": 0.1,
    "ServingValidator": 8.5,
    "Evaluator": 8.5,
    "Pusher": 0.2,
    "Predictor": 0.7,
    "ReportGen": 3.2,
}
_FORMAT_SECONDS = 20.0  # to load a model, convert it and start its client
_OVERHEAD_SECONDS = 0.85  # of `_measure_overhead` there: CPU time, measured while the machine was busy
_BEAM_SECONDS = 0.0008  # an image through one of Beam's steps there
# Forward passes of the serving check for each image that it sends: four signatures and the reference, and in turns.
_SERVING_PASSES = 5.5
_EXPLAINED_IMAGES, _GRAD_CAM_PASSES = 36, 2.6
_HEAD_STEP_SECONDS = 0.001
_BASE_BYTES = 1.3 * 2**30  # what TFX, TensorFlow, Beam and TFMA fill by the end of a run on 48 tiny images
# Bytes for each number of a batch's images, VGG16's: two outputs of its first block in a forward pass, and in a step
# that trains all that lies between image and head, with its gradients.
_FORWARD_BYTES, _TRAINED_BYTES = 170.0, 800.0
_FIXED_DISK_BYTES = 3 * 2**20


@dataclass(frozen=True)
class Costs:
    """What was estimated.

    Attributes:
        seconds: by node, `start` among them.
        disk_bytes: that the output folder grows by, if nothing is served from cache.
        memory_bytes: of all processes of the run together, at the peak.
        images_per_second: through the step that the training mostly does.
        step: `forward` or `train`.
        precision: in which that was timed.
    """

    seconds: dict[str, float]
    disk_bytes: float
    memory_bytes: float
    images_per_second: float
    step: str
    precision: str


def estimate_costs(
    config: PipelineConfig, survey: Survey, plan: Plan, counts: dict[str, int], *, has_baseline: bool
) -> Costs:
    """Times the machine for some seconds, and reckons.

    Args:
        config: of the run.
        survey: of its images.
        plan: of its training.
        counts: images of each split.
        has_baseline: whether an earlier model is evaluated, too.
    """
    settings, size = plan.settings, config.transform.image_size
    work = plan_work(settings, counts["train"], counts["eval"])
    strategy = make_strategy(config.trainer.strategy, config.trainer.tpu)
    choice = choose_precision(settings.precision, strategy)
    trial = PrecisionTrial(settings, size, work, replicas=strategy.num_replicas_in_sync, budget=None)
    per_image = trial.time_image(choice)
    forward = per_image if work.kind == "forward" else per_image / 3
    slower = _measure_overhead() / _OVERHEAD_SECONDS
    seconds = {node: fixed * slower for node, fixed in _FIXED_SECONDS.items()}
    images, test = survey.images, counts["test"]
    beam = _BEAM_SECONDS * slower
    models = 2 if has_baseline else 1
    seconds["ImageExampleGen"] += images * (survey.check_seconds + survey.write_seconds + 2 * beam)
    seconds["StatisticsGen"] += images * beam
    seconds["Transform"] += images * (survey.transform_seconds + beam)
    seconds["Trainer"] += work.expect_seconds(per_image) + _head_seconds(settings, counts["train"], slower)
    if config.tuner.enabled:
        seconds["Tuner"] = config.tuner.max_trials * work.expect_seconds(per_image)
    if formats := len(config.export.formats):
        # The calibration of whole numbers is as slow as some of these.
        seconds["ModelConverter"] = formats * (_FORMAT_SECONDS * slower + test * forward)
    seconds["ServingValidator"] += _SERVING_PASSES * config.serving_validator.images * forward
    seconds["Evaluator"] += test * (models * forward + beam)
    seconds["Predictor"] += test * models * forward
    seconds["ReportGen"] += min(test, _EXPLAINED_IMAGES) * _GRAD_CAM_PASSES * forward
    return Costs(
        seconds,
        _disk_bytes(config, survey, plan, counts),
        _memory_bytes(config, survey, plan),
        1 / per_image,
        work.kind,
        choice.name,
    )


def _head_seconds(settings: ResolvedSettings, train_images: int, slower: float) -> float:
    """Returns what is left of a head that is trained on kept features; one that is solved takes seconds."""
    steps = settings.head_epochs * max(1, -(-train_images // settings.batch_size))
    return steps * _HEAD_STEP_SECONDS * slower if settings.head == "standardised" else 0.0


def _disk_bytes(config: PipelineConfig, survey: Survey, plan: Plan, counts: dict[str, int]) -> float:
    """Returns what a run leaves: examples, transformed images, features and four copies of the weights."""
    backbone, views = plan.settings.backbone, plan.settings.feature_cache_views
    weights = 4 * make_backbone(backbone, BACKBONES[backbone].min_image_size).count_params()
    features = 4 * count_features(backbone, config.trainer.pooling)
    kept = 0 if plan.settings.head == "stepped" else (1 + views) * counts["train"] + counts["eval"]
    images = survey.images * (survey.stored_bytes + survey.transformed_bytes)
    # The model, the training's best weights, and what is pushed, in the archive and where it is served.
    formats = 2 * len(config.export.formats) * weights
    return images + formats + 4 * weights + kept * features + counts["test"] * features + _FIXED_DISK_BYTES


def _memory_bytes(config: PipelineConfig, survey: Survey, plan: Plan) -> float:
    """Returns what all processes need at the peak: what is loaded, a batch's step, the images that are held."""
    settings, pixels = plan.settings, 3.0 * config.transform.image_size**2
    shares = BACKBONES[settings.backbone].block_shares
    learning = sum(shares[-settings.fine_tune_blocks :]) if settings.fine_tune_epochs else 0.0
    step = pixels * max(_FORWARD_BYTES, _TRAINED_BYTES * learning)
    # Train and eval are held up to a bound each; of what Beam reads, no more than batches.
    return _BASE_BYTES + settings.batch_size * step + min(survey.images * pixels, 2 * MEMORY_BYTES)


def _measure_overhead() -> float:
    """Returns the seconds that Python takes to build a graph, most of what nodes do that have few images."""

    def chain(value: tf.Tensor) -> tf.Tensor:
        for number in range(200):
            value = value * 2.0 + float(number)
        return value

    times = []
    for _ in range(3):
        before = time.monotonic()
        tf.function(chain, [tf.TensorSpec([None], tf.float32)], autograph=False).get_concrete_function()
        times.append(time.monotonic() - before)
    return min(times)
