"""Training the last blocks on what the frozen ones made of the images once is training them on the images."""

import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from components.trainer import prefix_cache
from components.trainer.backbones import BACKBONES
from components.trainer.inputs import ArraySplit, Split, count_steps, distribute
from components.trainer.learner import Judge, Learner
from components.trainer.mixing import UNMIXED
from components.trainer.model import ImageClassifier, make_model, set_trainable_blocks
from components.trainer.noise import StepNoise
from components.trainer.phases import Phase
from components.trainer.prefix import cut
from components.trainer.prefix_cache import PrefixCache, PrefixSplit, plan_prefix_cache
from components.trainer.record_split import RecordSplit
from components.trainer.room import usable_disk_bytes, usable_memory_bytes
from components.trainer.settings import ResolvedSettings, TrainerSettings
from data.errors import UserError
from tests.full_disk import full_disk
from tests.images import make_pixels
from tests.narrow_vgg import narrow_vgg, whole_vgg
from tests.tiny_training import make_model as make_tiny_model

CLASSES, SIZE, BATCH = 3, 32, 16
SETTINGS = ResolvedSettings(batch_size=BATCH)


def make(pooling: Any = "last", precision: Any = "float32", **values: Any) -> ImageClassifier:
    tf_keras.utils.set_random_seed(0)
    return make_model(CLASSES, SIZE, 0.4, precision, pooling=pooling, **values)


def make_split(count: int, **options: Any) -> ArraySplit:
    random = np.random.default_rng(count)
    labels = np.arange(count) % (CLASSES + 1) - 1 if options.pop("unknown", False) else np.arange(count) % CLASSES
    images = np.stack([make_pixels(label % CLASSES, SIZE, random) for label in labels])
    return ArraySplit(images, labels, BATCH, **options)


def make_phase(blocks: int, epochs: int = 2) -> Phase:
    return Phase("fine-tune", epochs, 1e-3, blocks)


def plan(model: ImageClassifier, blocks: int, split: Split | None = None, **values: Any) -> PrefixCache | None:
    set_trainable_blocks(model, blocks)
    done = values.pop("done_epochs", 0)
    settings = SETTINGS.model_copy(update=values)
    return plan_prefix_cache(make_phase(blocks), settings, split or make_split(20), make_split(4), model, done)


def compute(cache: PrefixCache, split: Split) -> PrefixSplit:
    rows = cache.compute(split, "images")
    assert rows is not None
    return rows


def run(model: ImageClassifier, blocks: int, cached: bool) -> tuple[list[np.ndarray], list[Any]]:
    """Trains two epochs and evaluates, as the Trainer does; returns all variables, and all losses."""
    split, eval_split, forward = make_split(24, seed=1), make_split(9, unknown=True), None
    splits: list[Split] = [split, eval_split]
    set_trainable_blocks(model, blocks)
    if cached:
        cache = plan_prefix_cache(make_phase(blocks), SETTINGS, split, eval_split, model)
        assert cache is not None
        splits, forward = [compute(cache, split), compute(cache, eval_split)], cache.forward
    learner = Learner(model, make_phase(blocks), SETTINGS, StepNoise(model, 0), forward=forward)
    judge, sums, steps, function = Judge(model, forward=forward), [], count_steps(split), None
    for epoch in range(2):
        batches = iter(distribute(learner.strategy, partial(splits[0].epoch, epoch, 0)))
        function = function or learner.make_train_function(batches)
        rates, mixings = tf.fill([steps], 1e-3), tf.repeat(UNMIXED[None], steps, axis=0)
        sums.append(function(batches, tf.constant(epoch * steps, tf.int64), rates, mixings).numpy())
    judged = judge.evaluate(distribute(learner.strategy, splits[1].in_order))
    variables = [variable.numpy() for variable in [*model.weights, *learner.optimizer.variables]]
    return variables, [*sums, judged, judge.confusion]


@pytest.mark.parametrize(
    ("pooling", "blocks", "width"),
    [
        pytest.param("last", 2, whole_vgg, marks=pytest.mark.slow),
        pytest.param("roots-3", 1, whole_vgg, marks=pytest.mark.slow),
        ("roots-3", 1, narrow_vgg),
    ],
)
def test_the_cache_changes_no_bit(pooling: str, blocks: int, width: Callable[[], Any]) -> None:
    # 24 images are a full batch and one of 8, which oneDNN computes otherwise.
    with width():
        models = make(pooling), make(pooling)
        start = models[0].get_weights()
        cached, plain = (run(model, blocks, is_cached) for model, is_cached in zip(models, (True, False), strict=True))
    for variable, expected in zip(cached[0], plain[0], strict=True):
        np.testing.assert_array_equal(variable, expected)
    for values, expected in zip(cached[1], plain[1], strict=True):
        np.testing.assert_array_equal(values, expected)
    learnt = [not np.array_equal(*pair) for pair in zip(start, models[0].get_weights(), strict=True)]
    assert sum(learnt) == 2 + 6 * blocks  # kernels and biases of the head and of three convolutions a block


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_the_parts_do_is_what_the_model_does(precision: str) -> None:
    model, images = make("roots-3", precision), make_split(2)._inputs
    parts = cut(model, 1)
    assert parts is not None
    rows = parts.read_images(tf.constant(images))
    # A map of 2 x 2 after block 4, and block 3's averages.
    assert rows.shape == (2, 2 * 2 * 512 * (4 if precision == "float32" else 2) + 256 * 4)
    assert parts.row_bytes == rows.shape[1]
    np.testing.assert_array_equal(parts.read_rows(rows, training=False), model(images, training=False))


def test_resumed_in_an_epoch_rows_are_those_of_its_other_batches() -> None:
    model, split = make(), make_split(24, seed=1)
    cache = plan(model, 1, split)
    assert cache is not None
    rows = compute(cache, split)
    whole, rest = list(rows.epoch(3)), list(compute(cache, split).epoch(3, 1))
    assert [len(batch[1]) for batch in whole] == [16, 8]
    for values, expected in zip(rest, whole[1:], strict=True):
        for value, other in zip(values, expected, strict=True):
            np.testing.assert_array_equal(value, other)
    for (_, labels, weights), (_, own_labels, own_weights) in zip(whole, split.epoch(3), strict=True):
        np.testing.assert_array_equal(labels, own_labels)
        np.testing.assert_array_equal(weights, own_weights)


def test_on_disk_they_are_the_same_and_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model, split = make(), make_split(20)
    parts = cut(model, 1)
    assert parts is not None
    in_memory, on_disk = (compute(PrefixCache(model, parts, place), split) for place in ("memory", "disk"))
    assert isinstance(on_disk._inputs, np.memmap)
    assert not isinstance(in_memory._inputs, np.memmap)
    np.testing.assert_array_equal(on_disk._inputs, in_memory._inputs)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_turns_out_too_small_is_one_line() -> None:
    model = make()
    parts = cut(model, 1)
    assert parts is not None
    message = r"^trainer\.feature_cache: /.* has no space .*\(File too large\).*TMPDIR.* to off$"
    with full_disk(1000), pytest.raises(UserError, match=message):
        PrefixCache(model, parts, "disk").compute(make_split(4), "train")


def test_a_recipe_that_cannot_go_without_the_cache_names_another_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_cache, "usable_memory_bytes", lambda: 0)
    monkeypatch.setattr(prefix_cache, "usable_disk_bytes", lambda: 2**40)
    cache = plan(make(), 1, recipe="balanced")
    assert cache is not None
    message = r"^trainer\.feature_cache: .*TMPDIR to another disk, or set trainer\.fine_tune_epochs to 0$"
    with full_disk(1000), pytest.raises(UserError, match=message):
        cache.compute(make_split(4), "train")
    TrainerSettings(recipe="balanced", fine_tune_epochs=0)  # and is not refused


def test_it_ends_when_asked() -> None:
    model = make()
    cache = plan(model, 1)
    assert cache is not None
    asked = []
    assert cache.compute(make_split(40), "train", until=lambda: bool(asked.append(1) or len(asked) == 2)) is None
    assert len(asked) == 2


def test_where_it_is_used() -> None:
    model = make()
    assert plan(model, 1)
    assert plan(model, 0) is None  # features are cached
    assert plan(model, 5) is None  # nothing is frozen
    assert plan(model, 1, done_epochs=1) is None
    assert plan(model, 1, make_split(8, augment=lambda images, *_: images)) is None
    for setting in {"feature_cache": "off"}, {"mixup_alpha": 0.2}, {"cutmix_alpha": 1.0}:
        assert plan(model, 1, **setting) is None
    assert plan(model, 1, RecordSplit([], SIZE, BATCH)) is None
    model.learn_statistics = True  # VGG16 has none
    assert plan(model, 1)
    assert plan(make_tiny_model(), 1) is None  # no backbone of ours


def test_learned_statistics_are_not_frozen() -> None:
    models = [make_model(CLASSES, SIZE, 0.0, "float32", "mobilenetv3-small", learns) for learns in (False, True)]
    assert [plan(model, 1) is not None for model in models] == [True, False]


@pytest.mark.parametrize("skips", [False, True])
def test_what_a_connection_passes_by_is_not_cut(skips: bool) -> None:
    pixels = tf_keras.Input([8, 8, 3])
    early = tf_keras.layers.Conv2D(4, 3, padding="same", name="block3_conv")(pixels)
    maps = tf_keras.layers.Conv2D(4, 3, padding="same", name="block4_conv")(early)
    maps = tf_keras.layers.Conv2D(4, 3, padding="same", name="block5_conv")(maps)
    maps = tf_keras.layers.Add(name="block5_add")([maps, early]) if skips else maps
    network = tf_keras.Model(pixels, tf_keras.layers.GlobalAveragePooling2D()(maps), name="backbone")
    images = tf_keras.Input([8, 8, 3])
    inputs = tf_keras.layers.Rescaling(1 / 255, name="preprocessing")(images)
    model = ImageClassifier(images, tf_keras.layers.Dense(2, name="head")(network(inputs)))
    assert (cut(model, 1) is None) is skips
    assert cut(model, 2) is not None


def test_tpus_compute_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    monkeypatch.setattr(prefix_cache, "is_tpu_strategy", lambda _: True)
    assert plan(model, 1) is None


def test_maps_that_save_too_little_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = make(), make_split(4)
    monkeypatch.setattr(prefix_cache, "usable_memory_bytes", lambda: 0)
    assert plan(model, 1, split)
    # From a disk the maps of 16 x 16 after block 1 would take longer to read than to compute.
    assert plan(model, 4, split) is None
    monkeypatch.setattr(prefix_cache, "usable_memory_bytes", lambda: 2**40)
    assert plan(model, 4, split)


def test_half_of_the_free_memory_or_disk_must_do(monkeypatch: pytest.MonkeyPatch) -> None:
    model, need = make(), (20 + 4) * 2 * 2 * 512 * 4
    for memory, disk, place in [(need, 0, "memory"), (need - 1, need, "disk"), (need - 1, need - 1, None)]:
        monkeypatch.setattr(prefix_cache, "usable_memory_bytes", lambda memory=memory: memory)
        monkeypatch.setattr(prefix_cache, "usable_disk_bytes", lambda disk=disk: disk)
        cache = plan(model, 1)
        assert (cache and cache._place) == place


@pytest.mark.parametrize(
    ("limit", "expected"), [("max", 500 * 1024), ("2048000", 500 * 1024), ("600000", 250_000), ("50000", 0)]
)
def test_a_container_may_have_less_than_the_machine(tmp_path: Path, limit: str, expected: int) -> None:
    paths = [tmp_path / name for name in ("meminfo", "limit", "used")]
    for path, text in zip(paths, ["MemFree: 5 kB\nMemAvailable:    1000 kB\n", limit, "100000"], strict=True):
        path.write_text(f"{text}\n")
    assert usable_memory_bytes(paths[0], ((paths[1], paths[2]),)) == expected
    assert usable_memory_bytes(tmp_path / "none") == 0


def test_half_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1001))
    assert usable_disk_bytes(tmp_path / "mounts") == 500


@pytest.mark.parametrize(
    "backbone",
    [
        "resnet50v2",
        pytest.param("efficientnetv2-b0", marks=pytest.mark.slow),
        "mobilenetv3-small",
        pytest.param("convnext-tiny", marks=pytest.mark.slow),
    ],
)
def test_each_family_of_backbones_can_be_cut(backbone: str) -> None:
    model, images = make_model(CLASSES, SIZE, 0.0, "float32", backbone), tf.constant(make_split(2)._inputs)
    expected = model(images, training=False)
    for blocks in range(1, len(BACKBONES[backbone].blocks)):
        parts = cut(model, blocks)
        assert parts is not None
        rows = parts.read_images(images)
        np.testing.assert_array_equal(parts.read_rows(rows, training=False), expected)
