"""The solved head: standardised, chosen, folded; and what a frozen random backbone is already good for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from components.trainer.batches import WHOLE
from components.trainer.checkpoints import FEATURES_PREFIX
from components.trainer.feature_store import FeatureStore
from components.trainer.first_head import make_view
from components.trainer.inputs import ArraySplit
from components.trainer.learner import feature_model
from components.trainer.logistic_regression import Head, log_losses
from components.trainer.model import ImageClassifier, make_model, repool
from components.trainer.settings import ResolvedSettings
from components.trainer.solving import Features, depths_of, set_head, solve_head
from components.trainer.standardisation import standardise


def make_features(count: int = 120, seed: int = 0, eval_count: int = 30, views: int = 1) -> Features:
    """Two depths of 6 and 4 numbers; only the second tells the three classes apart. One number never varies."""
    random = np.random.default_rng(seed)

    def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(number) % 3
        deep = 3.0 * np.eye(3, 4)[labels] + random.normal(size=(number, 4))
        rows = np.hstack([random.normal(size=(number, 6)), deep]) * 20.0 + 50.0
        rows[:, 0] = 7.0
        return rows.astype(np.float32), labels

    train, labels = draw(count)
    return Features(np.concatenate([train] * views), labels, *draw(eval_count), (6, 4))


def test_standardised_depths_have_equal_weight_and_constants_none() -> None:
    features = make_features().train
    measured = standardise(features, (6, 4))
    rows = measured.apply(features)
    np.testing.assert_array_equal(rows[:, 0], 0.0)
    np.testing.assert_allclose(rows.mean(axis=0), 0.0, atol=1e-5)
    assert rows[:, :6].var(axis=0).sum() == pytest.approx(5 / 6, rel=1e-3)  # one of six is constant
    assert rows[:, 6:].var(axis=0).sum() == pytest.approx(1.0, rel=1e-3)


def test_a_depth_of_roots_keeps_the_proportions_of_its_features() -> None:
    features = make_features().train * np.linspace(1.0, 3.0, 10, dtype=np.float32)
    measured = standardise(features, (6, 4), as_a_whole=True)
    rows = measured.apply(features)
    np.testing.assert_array_equal(rows[:, 0], 0.0)
    for depth in (slice(1, 6), slice(6, 10)):
        assert rows[:, depth].var(axis=0).sum() == pytest.approx(1.0, rel=1e-3)
        ratios = rows[:, depth].std(axis=0) / features[:, depth].std(axis=0)
        np.testing.assert_allclose(ratios, ratios[0], rtol=1e-3)


def test_standardisation_is_folded_into_the_head() -> None:
    features, random = make_features().train, np.random.default_rng(1)
    measured = standardise(features, (6, 4))
    head = Head(random.normal(size=(10, 3)), random.normal(size=3))
    np.testing.assert_allclose(measured.fold(head).logits(features), head.logits(measured.apply(features)), atol=1e-4)
    kernel = measured.unfold(measured.fold(head).kernel)
    np.testing.assert_allclose(kernel[1:], head.kernel[1:])
    np.testing.assert_array_equal(kernel[0], 0.0)


def test_the_images_choose_what_the_head_reads() -> None:
    solved = solve_head(make_features(), 3, ("roots-1", "roots-2"))
    assert solved.pooling == "roots-1"
    assert solved.head.kernel.shape == (4, 3)
    assert set(solved.candidates) == {"roots-1", "roots-2"}
    assert solved.chosen_on == "folds"
    assert solved.out_of_fold is not None
    assert solved.solves <= 100
    assert solved.train_accuracy > 0.9


def test_from_500_images_on_eval_chooses() -> None:
    assert solve_head(make_features(eval_count=499), 3, ("roots-1",)).chosen_on == "folds"
    solved = solve_head(make_features(eval_count=500), 3, ("roots-1",))
    assert (solved.chosen_on, solved.out_of_fold) == ("eval", None)
    loss, _ = solved.eval.loss_and_accuracy()
    assert loss == pytest.approx(solved.choice_loss, abs=1e-3)


def test_class_weights_weigh_the_loss() -> None:
    features = make_features()
    alike = solve_head(features, 3, ("roots-1",))
    weighted = solve_head(features, 3, ("roots-1",), class_weights=np.array([1.0, 1.0, 20.0]))
    answers = [solved.eval.logits.argmax(1) for solved in (alike, weighted)]
    assert (answers[1] == 2).sum() > (answers[0] == 2).sum()


def test_rows_of_a_base_matter_where_images_are_few() -> None:
    many, few = make_features(600), make_features(15, seed=1, eval_count=300)
    base = solve_head(many, 3, ("roots-1",))
    alone = solve_head(few, 3, ("roots-1",))
    warm = solve_head(few, 3, ("roots-1",), base=("roots-1", base.head.kernel))
    other = solve_head(few, 3, ("roots-1",), base=("roots-2", np.zeros([10, 3])))
    losses = [solved.eval.loss_and_accuracy()[0] for solved in (alone, warm, other)]
    assert losses[1] < 0.9 * losses[0]
    assert losses[2] == losses[0]  # a base that reads something else has no rows for this head


def test_a_share_of_train_may_choose_and_all_of_it_is_learnt() -> None:
    solved = solve_head(make_features(300), 3, ("roots-1",), share=0.2)
    assert solved.out_of_fold is not None
    assert len(solved.out_of_fold.labels) == 60
    assert solved.train_accuracy > 0.9


def test_the_mean_with_a_discriminant_is_taken_where_it_is_better() -> None:
    random = np.random.default_rng(0)

    def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
        """Classes that lie apart along what hardly varies: what a discriminant sees, and a weak penalty does not."""
        labels = np.arange(number) % 3
        rows = random.normal(size=(number, 40)) * np.geomspace(5.0, 0.2, 40)
        rows[:, -3:] += 0.4 * np.eye(3)[labels]
        return rows.astype(np.float32), labels

    features = Features(*draw(150), *draw(300), (40,))
    alone, blended = (solve_head(features, 3, ("roots-1",), blend=blend) for blend in (False, True))
    assert alone.shrinkage is None
    assert blended.shrinkage is not None
    assert blended.choice_loss < alone.choice_loss
    assert blended.eval.loss_and_accuracy()[0] < alone.eval.loss_and_accuracy()[0]


def test_a_discriminant_that_mistakes_nothing_is_not_endlessly_sure() -> None:
    """By the log loss of folds without a mistake alone, the logits would be as large as is allowed."""
    solved = [solve_head(make_features(60, eval_count=2000), 3, ("roots-1",), blend=blend) for blend in (False, True)]
    spreads = [np.abs(one.eval.logits).max() for one in solved]
    assert spreads[1] < 3 * spreads[0]


def test_what_eval_has_taught_is_a_head_beside_the_one_that_eval_judges() -> None:
    few, test = make_features(12, eval_count=240), make_features(3, seed=5, eval_count=600)
    solved = solve_head(few, 3, ("roots-1",), learn_eval=True)
    alone = solve_head(few, 3, ("roots-1",))
    assert alone.of_all is None
    assert solved.of_all is not None
    assert solved.out_of_fold is not None
    assert len(solved.out_of_fold.labels) == 12 + 240  # so that the temperature is that of what has learned from both
    np.testing.assert_array_equal(solved.eval.logits, alone.eval.logits)
    np.testing.assert_array_equal(solved.head.kernel, alone.head.kernel)
    losses = [
        log_losses(head.logits(test.eval[:, 6:]), test.eval_labels).mean() for head in (solved.of_all, solved.head)
    ]
    assert losses[0] < 0.8 * losses[1]


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """300 handwritten digits to learn from and 300 to test on, uint8 [600, 32, 32, 3]."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))[:600]
    images = np.kron(found.images[order] * 255 / 16, np.ones([1, 4, 4])).astype(np.uint8)
    return np.repeat(images[..., None], 3, axis=-1), found.target[order]


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    tf_keras.utils.set_random_seed(0)
    return make_model(10, 32, 0.0, "float32", pooling="roots-3")


def test_300_digits_on_random_weights(digits: tuple[np.ndarray, np.ndarray], model: ImageClassifier) -> None:
    """What steps could not reach: a stepped head was at 0.3 here."""
    images, labels = digits
    store = FeatureStore(None, {})
    train = store.compute(model, ArraySplit(images[:300], labels[:300], 32), "train")
    test = store.compute(model, ArraySplit(images[300:], labels[300:], 32), "test")
    assert train is not None
    assert test is not None
    solved = solve_head(Features(*train, *test, depths_of(model)), 10, ("roots-1", "roots-2", "roots-3"))
    chosen = repool(model, solved.pooling)
    set_head(chosen, solved.head)
    answers = np.concatenate([chosen(images[start : start + 100], training=False) for start in (300, 400, 500)])
    assert (answers.argmax(1) == labels[300:]).mean() >= 0.9


def test_a_narrower_pooling_reads_the_last_features_of_a_wider_one(
    digits: tuple[np.ndarray, np.ndarray], model: ImageClassifier
) -> None:
    wide = feature_model(model)(digits[0][:4], training=False).numpy()
    assert depths_of(model) == (256, 512, 512)
    for pooling, width in (("roots-2", 1024), ("roots-1", 512)):
        narrow = repool(model, pooling)  # type: ignore[arg-type]
        np.testing.assert_array_equal(feature_model(narrow)(digits[0][:4], training=False), wide[:, -width:])
        assert narrow.weights[0] is model.weights[0]
    last = feature_model(repool(model, "last"))(digits[0][:4], training=False).numpy()
    np.testing.assert_allclose(wide[:, -512:] ** 2, last, atol=0.05)


def test_features_are_computed_once(
    digits: tuple[np.ndarray, np.ndarray], model: ImageClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = ArraySplit(digits[0][:70], digits[1][:70], 32)
    monkeypatch.setattr("components.trainer.feature_store._CHUNK_SECONDS", 0.0)
    asked = iter([False, True])
    assert FeatureStore(str(tmp_path), {}).compute(model, split, "train", until=lambda: next(asked)) is None
    assert len(list(tmp_path.glob(f"{FEATURES_PREFIX}*/train-*.npz"))) == 2
    whole = FeatureStore(None, {}).compute(model, split, "train")
    resumed = FeatureStore(str(tmp_path), {}).compute(model, split, "train")
    assert whole is not None
    assert resumed is not None
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one, other)

    def fail(*_: Any) -> None:
        raise AssertionError("nothing is left to compute")

    monkeypatch.setattr("components.trainer.feature_store.feature_model", fail)
    again = FeatureStore(str(tmp_path), {}).compute(model, split, "train")
    assert again is not None
    np.testing.assert_array_equal(again[0], whole[0])
    FeatureStore(str(tmp_path), {"backbone": "another"})
    assert not list(tmp_path.iterdir())


def test_views_are_mirrored_then_cropped_unless_the_settings_say_how(digits: tuple[np.ndarray, np.ndarray]) -> None:
    images, seed = tf.constant(digits[0][:8]), tf.constant([1, 2])
    first = make_view(ResolvedSettings(), 1)(images, seed, WHOLE)
    np.testing.assert_array_equal(first, images[:, :, ::-1])
    second = make_view(ResolvedSettings(), 2)(images, seed, WHOLE)
    assert not np.array_equal(second, images)
    own = make_view(ResolvedSettings(random_flip=True), 1)(images, seed, WHOLE).numpy()
    kept = [np.array_equal(one, image) for one, image in zip(own, images.numpy(), strict=True)]
    assert 0 < sum(kept) < 8
