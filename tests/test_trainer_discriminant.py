"""The discriminant: scikit-learn's is the referee where nothing is shrunk."""

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from components.trainer.discriminant import choose_discriminant, fit_discriminants
from components.trainer.logistic_regression import Examples, InterruptedSolveError


def draw(count: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 [count, width] of three classes, the last of them rare, and their labels."""
    random = np.random.default_rng(seed)
    labels = np.minimum(np.arange(count) % 5, 3) % 3
    rows = random.normal(size=(count, width)) @ random.normal(size=(width, width)) / width**0.5
    return (rows + np.eye(3, width)[labels]).astype(np.float32), labels


def test_without_shrinkage_it_is_scikit_learn_s() -> None:
    rows, labels = draw(200, 6)
    (head,) = fit_discriminants(Examples(rows, labels, np.ones(200)), 3, [1e-9])
    exact = rows.astype(np.float64)
    referee = LinearDiscriminantAnalysis(solver="lsqr").fit(exact, labels)
    np.testing.assert_allclose(log_softmax(head.logits(exact), axis=1), referee.predict_log_proba(exact), 1e-4, 1e-4)


def test_fewer_images_than_features_are_solved_the_short_way_alike() -> None:
    rows, labels = draw(40, 60)
    (head,) = fit_discriminants(Examples(rows, labels, np.ones(40)), 3, [0.1])
    exact = rows.astype(np.float64)
    means = np.stack([exact[labels == label].mean(axis=0) for label in range(3)])
    apart = exact - means[labels]
    covariance = apart.T @ apart / 40 + 0.1 * np.eye(60)
    kernel = np.linalg.solve(covariance, means.T)
    scores = exact @ kernel - 0.5 * np.sum(means.T * kernel, axis=0) + np.log(np.bincount(labels) / 40)
    np.testing.assert_allclose(log_softmax(head.logits(rows), axis=1), log_softmax(scores, axis=1), atol=1e-3)


def test_weights_are_repetitions_and_views_share_them() -> None:
    rows, labels = draw(60, 5)
    weights = np.where(np.arange(60) < 20, 2.0, 1.0)
    twice = np.concatenate([rows, rows[:20]]), np.concatenate([labels, labels[:20]])
    (weighted,) = fit_discriminants(Examples(rows, labels, weights), 3, [0.01])
    (repeated,) = fit_discriminants(Examples(*twice, np.ones(80)), 3, [0.01])
    (viewed,) = fit_discriminants(Examples(np.concatenate([rows, rows]), labels, weights), 3, [0.01])
    np.testing.assert_allclose(weighted.kernel, repeated.kernel, atol=1e-6)
    np.testing.assert_allclose(viewed.kernel, weighted.kernel, atol=1e-6)


def test_a_class_that_train_lacks_is_as_likely_as_half_an_example() -> None:
    rows, labels = draw(60, 5)
    (head,) = fit_discriminants(Examples(rows, labels, np.ones(60)), 4, [0.01])
    np.testing.assert_array_equal(head.kernel[:, 3], 0.0)
    assert head.bias[3] == np.log(0.5 / 60)


def test_the_images_choose_the_shrinkage() -> None:
    """Many features of noise ask for more of it than a few that tell the classes apart."""
    chosen = []
    for width in (3, 120):
        rows, labels = draw(100, width, seed=1)
        rows = rows / np.float32(width**0.5)
        found = choose_discriminant(Examples(rows, labels, np.ones(100)), 3, None, np.zeros([100, 3]) + rows[:, :3])
        assert found.logits.shape == (100, 3)
        chosen.append(found.shrinkage)
    assert chosen[0] < chosen[1]


def test_it_stops_between_two_folds() -> None:
    rows, labels = draw(60, 5)
    asked = iter([False, False, True])
    with pytest.raises(InterruptedSolveError):
        choose_discriminant(Examples(rows, labels, np.ones(60)), 3, None, rows[:, :3], stop=lambda: next(asked))
