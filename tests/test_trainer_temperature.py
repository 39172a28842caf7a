"""The temperature, and the competition of what may be shipped."""

import numpy as np
import pytest

from components.trainer.competition import FEWEST_TO_CALIBRATE, Competition, Judged
from components.trainer.logistic_regression import log_losses
from components.trainer.temperature import HIGHEST, LOWEST, fit_temperature


def make_judged(count: int = 400, sharpness: float = 1.0, noise: float = 0.0, seed: int = 0) -> Judged:
    """Labels drawn from the softmax of logits that are then multiplied by `sharpness` and shaken."""
    random = np.random.default_rng(seed)
    logits = random.normal(scale=2.0, size=(count, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([random.choice(3, p=row) for row in probabilities])
    return Judged((logits + noise * random.normal(size=logits.shape)) * sharpness, labels, np.ones(count))


@pytest.mark.parametrize("sharpness", [0.7, 1.0, 3.0])
def test_the_temperature_undoes_what_sharpened_the_logits(sharpness: float) -> None:
    assert make_judged(4000, sharpness).temperature == pytest.approx(sharpness, rel=0.08)  # 4,000 draws


def test_an_eval_without_a_mistake_does_not_ask_for_certainty() -> None:
    labels = np.arange(30) % 3
    logits = 4.0 * np.eye(3)[labels]
    assert LOWEST <= fit_temperature(logits, labels) < 1.0
    assert fit_temperature(logits[:3], labels[:3]) > fit_temperature(logits, labels)  # three images say less
    many = np.tile(logits, [1000, 1])
    assert fit_temperature(many, np.tile(labels, 1000)) == pytest.approx(LOWEST, abs=1e-2)


def test_the_temperature_stays_within_its_bounds() -> None:
    labels = np.arange(600) % 3
    assert fit_temperature(50.0 * np.eye(3)[(labels + 1) % 3], labels) == pytest.approx(HIGHEST, rel=1e-2)
    assert fit_temperature(np.zeros([0, 3]), np.zeros(0, np.int64)) == 1.0


def test_one_that_is_better_by_more_than_the_noise_wins() -> None:
    better, worse = make_judged(), make_judged(noise=2.0)
    competition = Competition(worse, None)
    assert competition.offer(better)
    assert not competition.solved_is_best
    assert not competition.offer(worse)
    assert [offer["won"] for offer in competition.offers] == [True, False]


def test_one_that_is_better_by_less_than_the_noise_does_not_win() -> None:
    start = make_judged(noise=1.0)
    nearly = Judged(
        start.logits + 0.05 * np.random.default_rng(4).normal(size=start.logits.shape), start.labels, start.weights
    )
    competition = Competition(start, None)
    gains = start.losses_at_best() - nearly.losses_at_best()
    assert 0.0 < gains.mean() < gains.std() / 20  # within one standard error of 400 images
    assert not competition.offer(nearly)
    assert competition.solved_is_best


def test_the_noise_is_two_standard_errors() -> None:
    start = make_judged(noise=1.0)
    random = np.random.default_rng(4)
    for share, wins in ((1.5, False), (3.0, True)):
        # Better in each image by a number of its own: logits are not needed to be those of a model.
        competition = Competition(start, None)
        gains = random.normal(size=400)
        gains = gains - gains.mean() + share * gains.std(ddof=1) / 20
        losses = start.losses_at_best() - gains
        candidate = _Losses(start.logits, start.labels, start.weights, losses)
        assert competition.offer(candidate) is wins


class _Losses(Judged):
    def __init__(self, logits: np.ndarray, labels: np.ndarray, weights: np.ndarray, losses: np.ndarray) -> None:
        super().__init__(logits, labels, weights)
        object.__setattr__(self, "losses", losses)

    def losses_at_best(self) -> np.ndarray:
        return self.losses  # type: ignore[attr-defined, no-any-return]


def test_certainty_alone_wins_nothing() -> None:
    """Each is judged at its own best temperature: the same answers, ten times as sure, are no better and no worse."""
    start = make_judged()
    competition = Competition(Judged(start.logits * 3.0, start.labels, start.weights), None)
    assert not competition.offer(start)


def test_without_a_start_the_first_wins() -> None:
    competition = Competition(None, None)
    assert competition.judge_of_temperature() is None
    assert competition.offer(make_judged())


def test_a_solved_head_is_calibrated_on_the_folds_where_eval_is_small() -> None:
    folds, small = make_judged(300, seed=1), make_judged(FEWEST_TO_CALIBRATE - 1, seed=2)
    large, tuned = make_judged(FEWEST_TO_CALIBRATE, seed=3), make_judged(100, seed=2)
    assert Competition(small, folds).judge_of_temperature() is folds
    assert Competition(large, folds).judge_of_temperature() is large
    competition = Competition(make_judged(100, noise=3.0, seed=2), folds)
    assert competition.offer(tuned)
    assert competition.judge_of_temperature() is tuned


def test_a_later_state_must_beat_the_head_that_has_learned_from_eval() -> None:
    alone, taught, tuned = make_judged(100, noise=2.0), make_judged(100), make_judged(100, noise=0.5)
    train = make_judged(50, seed=3)
    joined = [np.concatenate(pair) for pair in ((train.logits, taught.logits), (train.labels, taught.labels))]
    folds = Judged(*joined, np.ones(150), "all")
    assert Competition(alone, None).offer(tuned)
    assert not Competition(alone, folds).offer(tuned)


def test_losses_and_accuracy_are_weighted() -> None:
    judged = make_judged(10)
    weights = np.eye(10)[3]
    loss, accuracy = Judged(judged.logits, judged.labels, weights).loss_and_accuracy()
    assert loss == pytest.approx(log_losses(judged.logits, judged.labels)[3])
    assert accuracy in (0.0, 1.0)


def test_an_eval_without_images_decides_nothing() -> None:
    nothing = Judged(np.zeros([0, 3]), np.zeros(0, np.int64), np.zeros(0))
    competition = Competition(nothing, make_judged(50))
    assert not competition.offer(nothing)
    assert np.isnan(nothing.loss_and_accuracy()).all()
