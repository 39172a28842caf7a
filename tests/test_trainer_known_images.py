"""What tells unknown images is the difference of two Mahalanobis distances, and bears whatever train holds."""

import numpy as np
import pytest
import tensorflow as tf

from components.trainer.known_images import (
    DIRECTIONS,
    SHRINKAGE,
    KnownFit,
    fit_known_images,
    score_in_graph,
)
from components.trainer.standardisation import standardise

CLASSES, FEATURES = 4, 12


def draw(images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns embeddings around the means of four classes, and labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(images) % CLASSES
    means = 3.0 * np.eye(CLASSES, FEATURES)
    return (means[labels] + random.normal(size=(images, FEATURES))).astype(np.float32), labels


def fit(train: tuple[np.ndarray, np.ndarray], judged: np.ndarray, classes: int = CLASSES) -> KnownFit:
    found = fit_known_images(train, judged, classes, [FEATURES], roots=False)
    assert found is not None
    return found


def test_the_distances_are_the_nearest_class_with_and_without_that_of_all_images_less() -> None:
    train, judged = draw(80), draw(600, 1)[0]
    found = fit(train, judged).clouds.distances(judged[:20])
    measured = standardise(train[0], [FEATURES])
    rows, asked = measured.apply(train[0]).astype(np.float64), measured.apply(judged[:20]).astype(np.float64)
    means = np.stack([rows[train[1] == label].mean(axis=0) for label in range(CLASSES)])
    within = np.cov((rows - means[train[1]]).T, bias=True) + SHRINKAGE * np.eye(FEATURES)
    between = np.cov(means.T, bias=True)

    def distance(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        apart = asked - mean
        return np.sum(apart @ np.linalg.inv(covariance) * apart, axis=1)

    nearest = np.min([distance(mean, within) for mean in means], axis=0)
    expected = nearest - distance(rows.mean(axis=0), within + between)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found[:, 1], nearest, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("eval_images", [600, 40])
def test_the_stated_share_of_images_like_those_of_eval_is_unknown(eval_images: int) -> None:
    known = fit(draw(200), draw(eval_images, 1)[0]).scaled(0.05)
    # Two quantiles, 0.04 and 0.01 of 240 or 600 images, have deviations of 0.013 and 0.006; clouds of folds are wider.
    assert 0.005 < (known.score(draw(2000, 2)[0]) > 1.0).mean() < 0.1


def test_images_of_a_class_that_train_lacks_are_mostly_unknown() -> None:
    known = fit(draw(200), draw(600, 1)[0]).scaled(0.05)
    assert (known.score(2 * draw(200, 3)[0][:, ::-1]) > 1.0).mean() > 0.8


def test_the_graph_gives_the_same_scores() -> None:
    known = fit(draw(200), draw(40, 1)[0]).scaled(0.05)
    images = draw(50, 2)[0]
    parts = {name: tf.Variable(part) for name, part in known.arrays().items()}
    np.testing.assert_allclose(score_in_graph(parts, tf.constant(images)), known.score(images), rtol=1e-3, atol=1e-3)
    assert sum(part.nbytes for part in known.arrays().values()) == 4 * (
        FEATURES * (2 + CLASSES + DIRECTIONS) + CLASSES * (1 + CLASSES) + 4
    )


def test_a_lone_image_a_missing_class_and_a_feature_that_never_varies_do_no_harm() -> None:
    features, labels = draw(60)
    kept = np.flatnonzero((labels != 3) | (np.arange(60) == 3))
    features[:, 5] = 2.0
    known = fit((features[kept], labels[kept]), draw(20, 1)[0], classes=6).scaled(0.05)
    scores = known.score(draw(100, 2)[0])
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()


def test_of_one_class_or_of_what_is_no_number_nothing_is_known() -> None:
    features, labels = draw(40)
    assert fit_known_images((features, np.zeros(40, int)), features, 1, [FEATURES], roots=False) is None
    features[3, 4] = np.nan
    assert fit_known_images((features, labels), features[:0], CLASSES, [FEATURES], roots=False) is None
