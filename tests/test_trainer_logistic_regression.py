"""The head's solver, with scikit-learn as the referee."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from components.trainer.logistic_regression import (
    FOLDS,
    MOST_SOLVES,
    Examples,
    Head,
    InterruptedSolveError,
    choose_strength,
    fit,
    log_losses,
    make_folds,
    make_zero_head,
)


def make_examples(classes: int = 3, count: int = 90, views: int = 1, seed: int = 0) -> Examples:
    """Overlapping clouds of 8 features; later views are the first, shaken."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    clouds = random.normal(size=(classes, 8))[labels] + random.normal(size=(count, 8))
    rows = [clouds + 0.3 * view * random.normal(size=clouds.shape) for view in range(views)]
    return Examples(np.concatenate(rows).astype(np.float32), labels, np.ones(count))


def solve(examples: Examples, strength: float, classes: int = 3, **options: object) -> Head:
    zero = make_zero_head(examples.features.shape[1], classes)
    return fit(examples, strength, zero, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("classes", [2, 3])
def test_the_optimum_is_scikit_learns(classes: int) -> None:
    examples = make_examples(classes)
    strength = 0.01
    weights = 1.0 + (examples.labels == 1)
    head = solve(Examples(examples.features, examples.labels, weights), strength, classes)
    referee = LogisticRegression(C=1.0 / (strength * weights.sum()), tol=1e-8, max_iter=5000, multi_class="multinomial")
    referee.fit(examples.features.astype(np.float64), examples.labels, weights)
    wanted = referee.predict_proba(examples.features)
    found = np.exp(-np.stack([log_losses(head.logits(examples.features), np.full(90, c)) for c in range(classes)], 1))
    np.testing.assert_allclose(found, wanted, atol=2e-3)  # the solver stops at a gradient of 1e-5, in float32
    assert head.kernel.shape == (8, classes)


def test_the_start_does_not_matter() -> None:
    examples = make_examples()
    random = np.random.default_rng(1)
    elsewhere = Head(random.normal(size=(8, 3)), random.normal(size=3))
    one, other = solve(examples, 0.01), fit(examples, 0.01, elsewhere)
    np.testing.assert_allclose(one.kernel, other.kernel, atol=5e-3)


def test_a_class_without_examples_has_a_row_that_is_rarely_the_answer() -> None:
    examples = make_examples(3)
    head = solve(examples, 0.01, classes=4)
    logits = head.logits(examples.features)
    assert np.isfinite(logits).all()
    probabilities = np.exp(-log_losses(logits, np.full(90, 3)))
    assert 1e-5 < probabilities.mean() < 0.05
    np.testing.assert_array_equal(logits.argmax(1) == 3, False)


def test_views_share_the_weight_of_their_example() -> None:
    examples = make_examples()
    twice = Examples(np.concatenate([examples.features] * 2), examples.labels, examples.weights)
    np.testing.assert_allclose(solve(twice, 0.01).kernel, solve(examples, 0.01).kernel, atol=2e-3)


def test_examples_that_weigh_nothing_are_not_seen() -> None:
    examples = make_examples()
    spoilt = examples.features.copy()
    spoilt[5] = 1e6
    weights = np.where(np.arange(90) == 5, 0.0, 1.0)
    found = solve(Examples(spoilt, examples.labels, weights), 0.01)
    wanted = solve(Examples(examples.features, examples.labels, weights), 0.01)
    np.testing.assert_array_equal(found.kernel, wanted.kernel)


def test_the_penalty_draws_the_kernel_to_its_centre() -> None:
    examples = make_examples()
    centre = np.random.default_rng(2).normal(size=(8, 3))
    near = solve(examples, 100.0, centre=centre)
    np.testing.assert_allclose(near.kernel, centre, atol=0.02)
    far = solve(examples, 1e-4, centre=centre)
    assert np.abs(far.kernel - centre).max() > 0.2


def test_the_strength_is_where_held_out_images_are_answered_best() -> None:
    examples = make_examples(count=150)
    choice = choose_strength(examples, 3, None, seed=0, first=1.0)
    assert choice.logits.shape == (150, 3)
    assert choice.loss == pytest.approx(log_losses(choice.logits, examples.labels).mean())
    for factor in (10.0**-0.5, 10.0**0.5):
        other = choose_strength(examples, 3, None, seed=0, first=choice.strength * factor, most_solves=FOLDS)
        assert other.loss >= choice.loss - 1e-6
    assert choice.solves <= MOST_SOLVES


def test_out_of_fold_logits_come_from_heads_that_did_not_see_the_image() -> None:
    examples = make_examples(count=60)
    folds = make_folds(examples.labels, seed=3)
    choice = choose_strength(examples, 3, None, seed=3, first=0.01, most_solves=FOLDS)
    held_out = folds == 2
    head = solve(Examples(examples.features, examples.labels, (~held_out).astype(float)), 0.01)
    np.testing.assert_allclose(choice.logits[held_out], head.logits(examples.features[held_out]), atol=1e-6)


def test_eval_judges_where_it_is_given() -> None:
    examples, other = make_examples(), make_examples(seed=0, count=120)
    choice = choose_strength(examples, 3, (other.features, other.labels), first=0.01)
    assert choice.logits.shape == (120, 3)
    assert choice.solves < 20


def test_folds_deal_each_class_out_evenly() -> None:
    labels = np.repeat([0, 1, 2], [50, 10, 5])
    folds = make_folds(labels, seed=0)
    for label, count in ((0, 10), (1, 2), (2, 1)):
        assert np.bincount(folds[labels == label], minlength=FOLDS).tolist() == [count] * FOLDS
    assert not np.array_equal(folds, make_folds(labels, seed=1))


def test_a_solver_can_be_stopped() -> None:
    asked = iter([False, False, True])
    with pytest.raises(InterruptedSolveError):
        solve(make_examples(), 1e-6, stop=lambda: next(asked))


def test_the_same_examples_give_the_same_bits() -> None:
    one, other = (choose_strength(make_examples(views=2), 3, None, seed=1) for _ in range(2))
    assert one.strength == other.strength
    np.testing.assert_array_equal(one.start.kernel, other.start.kernel)
