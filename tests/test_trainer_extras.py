"""Weights and groups in training: weight 2 is the image given twice, and no fold divides a group."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.trainer.checkpoints import CheckpointDir
from components.trainer.class_weights import make_class_weights
from components.trainer.competition import Judged
from components.trainer.discriminant import fit_discriminants
from components.trainer.extras import Extras
from components.trainer.feature_cache import FeatureCache
from components.trainer.inputs import ArraySplit, Split, open_split
from components.trainer.learner import Judge, Learner
from components.trainer.logistic_regression import FOLDS, Examples, choose_strength, fit, make_folds, make_zero_head
from components.trainer.mixing import UNMIXED
from components.trainer.model import set_trainable_blocks
from components.trainer.noise import StepNoise
from components.trainer.phases import Phase
from components.trainer.prefix_cache import PrefixSplit, join_views
from components.trainer.record_split import RecordSplit
from components.trainer.solving import Features, solve_head
from components.trainer.standardisation import standardise
from components.trainer.training import train
from components.transform.features import (
    TRANSFORMED_GROUP_KEY,
    TRANSFORMED_IMAGE_KEY,
    TRANSFORMED_LABEL_KEY,
    TRANSFORMED_WEIGHT_KEY,
    pack_image,
)
from tests.tiny_training import make_model, make_points, make_settings

COUNT = 50


def weight_of(label: int) -> float:
    return 0.5 + label % 4


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two files of images whose pixels all are the label, from which weight and group follow."""
    folder = tmp_path_factory.mktemp("weighted")
    for shard in range(2):
        with tf.io.TFRecordWriter(str(folder / f"part-{shard}.gz"), options="GZIP") as writer:
            for label in range(shard, COUNT, 2):
                image = pack_image(tf.fill([32, 32, 3], tf.constant(label, tf.uint8))).numpy()
                features = {
                    TRANSFORMED_IMAGE_KEY: tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
                    TRANSFORMED_LABEL_KEY: tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                    TRANSFORMED_WEIGHT_KEY: tf.train.Feature(float_list=tf.train.FloatList(value=[weight_of(label)])),
                    TRANSFORMED_GROUP_KEY: tf.train.Feature(int64_list=tf.train.Int64List(value=[label // 3])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return str(folder / "*")


@pytest.mark.parametrize("kind", ["memory", "unpacked", "records"])
def test_the_weights_of_an_epoch_are_those_of_its_images(
    kind: str, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.trainer.room._is_in_memory", lambda *_: False)  # wherever the tests run
    if kind != "memory":
        monkeypatch.setattr("components.trainer.inputs.MEMORY_BYTES", 20 * 32 * 32 * 3)
    split: Split = open_split([pattern], 32, 16, seed=1, image_cache=kind == "unpacked")
    assert isinstance(split, RecordSplit if kind == "records" else ArraySplit)
    own = np.array([weight_of(label) for label in range(COUNT)])
    for _, labels, weights in split.epoch(0):
        np.testing.assert_allclose(weights, own[labels] / own.mean(), rtol=1e-6)
    for _, labels, weights in split.in_order(weighted=True):
        filled = np.arange(len(labels)) < (COUNT % 16 if len(set(labels.numpy())) < 16 else 16)
        np.testing.assert_allclose(weights, np.where(filled, own[labels] / own.mean(), 0.0), rtol=1e-6)
    assert {float(weight) for *_, weights in split.in_order() for weight in weights} == {0.0, 1.0}
    assert split.extras.weights is not None
    assert split.extras.groups is not None
    np.testing.assert_array_equal(split.extras.weights, own[split.labels].astype(np.float32))
    np.testing.assert_array_equal(split.extras.groups, split.labels // 3)


def make_step(points: np.ndarray, labels: np.ndarray, weights: np.ndarray | None, **values: Any) -> list[np.ndarray]:
    """Returns what one step on a whole data set changes in the model."""
    model = make_model()
    split = ArraySplit(points, labels, len(points), extras=Extras(weights))
    ((inputs, targets, drawn),) = split.epoch(0)
    settings = make_settings(optimizer="sgd", **values)
    set_trainable_blocks(model, 1)
    class_weights = make_class_weights(settings, split, 2)
    phase = Phase("fine-tune", 1, 0.1, 1)
    learner = Learner(
        model, phase, settings, StepNoise(model, 0), class_weights=class_weights, weighted=weights is not None
    )
    before = model.get_weights()
    learner.train_step(tf.constant(0, tf.int64), UNMIXED, inputs, targets, drawn)
    return [after - old for after, old in zip(model.get_weights(), before, strict=True)]


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_weight_2_is_the_image_given_twice_to_a_step(class_weights: Any) -> None:
    random = np.random.default_rng(0)
    points, labels = random.normal(size=(12, 4)).astype(np.float32), np.arange(12) % 3 % 2
    twice = np.arange(12) < 5
    weighted = make_step(points, labels, 1.0 + twice.astype(np.float32), class_weights=class_weights)
    more = np.concatenate([np.arange(12), np.flatnonzero(twice)])
    repeated = make_step(points[more], labels[more], None, class_weights=class_weights)
    plain = make_step(points, labels, None, class_weights=class_weights)
    for one, other, unlike in zip(weighted, repeated, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)  # sums of float32 in another order
        assert not one.any() or np.abs(one - unlike).max() > 1e-5


def test_twice_all_weights_change_nothing() -> None:
    random = np.random.default_rng(0)
    points, labels = random.normal(size=(12, 4)).astype(np.float32), np.arange(12) % 2
    own = random.uniform(0.5, 4.0, 12).astype(np.float32)
    for one, other in zip(make_step(points, labels, own), make_step(points, labels, 2 * own), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


def test_mixed_examples_have_mixed_weights() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, [4, 8, 8, 3]).astype(np.uint8)
    drawn = np.array([1.0, 0.75, 0.0, 0.0], np.float32)
    model = make_model()
    settings = make_settings(mixup_alpha=0.5)
    set_trainable_blocks(model, 1)

    def forward(inputs: tf.Tensor, *, training: bool) -> tf.Tensor:
        return model(tf.reduce_mean(tf.cast(inputs, tf.float32), [1, 2])[:, :1] * tf.ones([1, 4]) / 255.0)

    learner = Learner(
        model, Phase("fine-tune", 1, 0.1, 1), settings, StepNoise(model, 0), forward=forward, weighted=True
    )
    weights = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    labels = tf.constant([0, 1, 0, 1], tf.int64)
    sums = learner.train_step(tf.constant(0, tf.int64), drawn, tf.constant(images), labels, tf.constant(weights))
    assert sums.numpy()[2] == pytest.approx((0.75 * weights + 0.25 * weights[::-1]).sum())


def test_evaluation_counts_each_image_once() -> None:
    model = make_model()
    points = make_points(count=20)
    random = np.random.default_rng(0)
    weighted = make_points(count=20, extras=Extras(random.uniform(0.5, 9.0, 20).astype(np.float32)))
    judges = [Judge(model).evaluate(split.in_order()) for split in (points, weighted)]
    assert judges[0] == judges[1]


def test_what_is_computed_once_keeps_the_weights() -> None:
    own = np.random.default_rng(0).uniform(0.5, 4.0, 20).astype(np.float32)
    groups = np.arange(20) // 2
    labels = np.where(np.arange(20) == 7, -1, np.arange(20) % 2)
    images = ArraySplit(np.zeros([20, 4], np.float32), labels, 16, extras=Extras(own, groups))
    features = FeatureCache(make_model()).compute(images, "train")
    assert features is not None
    known = labels >= 0
    np.testing.assert_array_equal(features.extras.weights, own[known])
    np.testing.assert_array_equal(features.extras.groups, groups[known])
    rows = PrefixSplit(np.zeros([20, 3], np.uint8), labels, images, lambda *_: pytest.fail("not asked"))
    assert rows.extras is images.extras
    assert join_views([rows, rows]).extras is images.extras


@pytest.mark.slow
def test_training_learns_what_weighs_more(tmp_path: Path) -> None:
    """Half of the points have the wrong class, and weigh a twentieth: the way through features and through points."""
    right, wrong = make_points(count=64), make_points(count=64, flipped=True)
    points, labels = (np.concatenate(pair) for pair in ((right._inputs, wrong._inputs), (right.labels, wrong.labels)))
    own = np.repeat(np.array([1.0, 0.05], np.float32), 64)
    for number, (extras, cache) in enumerate([(Extras(own), "auto"), (Extras(own), "off"), (Extras(), "auto")]):
        split = ArraySplit(points, labels, 16, extras=extras)
        settings = make_settings(head_epochs=15, fine_tune_epochs=0, early_stopping_patience=15, feature_cache=cache)
        folder = tmp_path / str(number)
        model = make_model()
        history, _ = train(model, split, right, settings, str(folder), CheckpointDir(str(folder / "resume")))
        accuracy = history[-1].eval_accuracy
        assert accuracy > 0.8 if extras.weights is not None else accuracy < 0.7


def make_examples(count: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return (random.normal(size=(3, 8))[labels] + random.normal(size=(count, 8))).astype(np.float32), labels


def repeat(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    return np.repeat(values, times, axis=0)


def test_weight_2_is_the_image_given_twice_to_the_solver() -> None:
    rows, labels = make_examples()
    times = np.random.default_rng(1).integers(1, 4, len(labels))
    weighted = Examples(rows, labels, times.astype(np.float64))
    repeated = Examples(repeat(rows, times), repeat(labels, times), np.ones(times.sum()))
    one, other = (fit(examples, 0.01, make_zero_head(8, 3)) for examples in (weighted, repeated))
    np.testing.assert_allclose(one.kernel, other.kernel, atol=5e-3)  # as far as two starts of the solver differ
    one, other = (fit_discriminants(examples, 3, [0.01])[0] for examples in (weighted, repeated))
    np.testing.assert_allclose(one.kernel, other.kernel, rtol=1e-6, atol=1e-9)
    measured = standardise(rows, (8,), weights=times.astype(np.float32))
    expected = standardise(repeat(rows, times), (8,))
    np.testing.assert_allclose(measured.mean, expected.mean, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(measured.scale, expected.scale, rtol=1e-6)


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("learn_eval", [False, True])
def test_weight_2_is_the_image_given_twice_to_the_solved_head(views: int, learn_eval: bool) -> None:
    """With eval to choose by: folds of other examples are other folds."""
    rows, labels = make_examples(60)
    judged, judged_labels = make_examples(501, seed=2)
    shaken = [rows + np.float32(0.1 * view) * np.roll(rows, view) for view in range(views)]
    again = [judged + np.float32(0.1 * view) * np.roll(judged, view) for view in range(views)]
    times = np.random.default_rng(1).integers(1, 4, len(labels))
    extras = Extras(times.astype(np.float32)), Extras(np.full(501, 2.0, np.float32))
    weighted = Features(np.concatenate(shaken), labels, np.concatenate(again), judged_labels, (8,), *extras)
    repeated = Features(
        np.concatenate([repeat(part, times) for part in shaken]),
        repeat(labels, times),
        np.concatenate(again),
        judged_labels,
        (8,),
        eval_extras=extras[1],
    )
    one, other = (
        solve_head(
            features, 3, ("roots-1",), class_weights=np.array([1.0, 2.0, 1.0]), blend=True, learn_eval=learn_eval
        )
        for features in (weighted, repeated)
    )
    assert one.strength == other.strength
    np.testing.assert_allclose(one.eval.logits, other.eval.logits, atol=2e-2)
    assert one.choice_loss == pytest.approx(other.choice_loss, abs=1e-3)
    np.testing.assert_array_equal(one.eval.weights, 1.0)
    if learn_eval:
        assert one.of_all is not None
        assert other.of_all is not None
        np.testing.assert_allclose(one.of_all.kernel, other.of_all.kernel, atol=1e-2)


def test_no_fold_divides_a_group_and_classes_are_dealt_out_evenly() -> None:
    random = np.random.default_rng(0)
    groups = random.permutation(np.repeat(np.arange(120), random.integers(1, 9, 120)))
    labels = (groups % 3 + (random.random(len(groups)) < 0.1)) % 3
    folds = make_folds(labels, 0, groups)
    assert all(len(set(folds[groups == group])) == 1 for group in range(120))
    counts = np.array([np.bincount(labels[folds == fold], minlength=3) for fold in range(FOLDS)])
    assert counts.shape == (FOLDS, 3)
    assert counts.max(axis=0) == pytest.approx(counts.min(axis=0), abs=25)  # of 36 each; groups have up to 8
    assert not np.array_equal(folds, make_folds(labels, 1, groups))


def test_without_groups_folds_are_what_they_were() -> None:
    labels = np.arange(90) % 3
    order = np.random.default_rng([7, 5]).permutation(90)
    expected = np.empty(90, np.int64)
    expected[order[np.argsort(labels[order], kind="stable")]] = np.arange(90) % FOLDS
    np.testing.assert_array_equal(make_folds(labels, 7), expected)
    np.testing.assert_array_equal(make_folds(labels, 7, np.zeros(90, np.int64)), expected)  # nothing else to learn from


def make_copies() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Five copies of each of 40 images that hardly tell their class, and the image that each is a copy of."""
    random = np.random.default_rng(0)
    rows, labels = random.normal(size=(40, 60)).astype(np.float32), random.integers(0, 2, 40)
    rows[:, 0] += labels
    return np.tile(rows, [5, 1]), np.tile(labels, 5), np.tile(np.arange(40), 5)


def test_the_strength_is_chosen_on_folds_that_know_no_copy() -> None:
    """A head that saw four of an image's copies knows the fifth, and chooses too weak a penalty."""
    rows, labels, images = make_copies()
    whole, divided = (choose_strength(Examples(rows, labels, np.ones(200), own), 2, None) for own in (images, None))
    assert whole.strength > 10 * divided.strength
    assert divided.loss < 0.1 < whole.loss


def test_the_solved_head_hands_groups_to_its_folds() -> None:
    rows, labels, images = make_copies()
    judged = rows[:20][:, ::-1].copy(), labels[:20]
    whole, divided = (
        solve_head(Features(rows, labels, *judged, (60,), extras), 2, ("roots-1",), blend=True, learn_eval=True)
        for extras in (Extras(groups=images), Extras())
    )
    assert divided.choice_loss < 0.1 < whole.choice_loss
    assert whole.out_of_fold is not None
    assert divided.out_of_fold is not None
    losses = [
        Judged(solved.out_of_fold.logits[:200], labels, np.ones(200)).loss_and_accuracy()[0]
        for solved in (whole, divided)
        if solved.out_of_fold
    ]
    assert losses[1] < 0.1 < losses[0]
