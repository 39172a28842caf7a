"""Intervals: Wilson's against SciPy, the bootstrap's figures against scikit-learn and the Evaluator's definitions."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from components.evaluator.definitions import Answers
from components.report_gen.intervals import bootstrap_intervals, draw_figures
from components.report_gen.wilson import wilson_interval
from tests.report_run import make_predictions


@pytest.mark.parametrize(("hits", "images"), [(0, 5), (1, 3), (98, 100), (186, 186), (7, 20)])
def test_wilsons_interval_is_scipys(hits: int, images: int) -> None:
    expected = scipy.stats.binomtest(hits, images).proportion_ci(0.95, method="wilson")
    assert wilson_interval(hits, images) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_no_images_have_no_interval() -> None:
    assert wilson_interval(0, 0) is None


def test_figures_of_a_draw_are_scikit_learns_on_the_drawn_images() -> None:
    predictions = make_predictions(class_count=7, images=300, seed=3)
    drawn = np.random.default_rng(1).integers(0, 300, 300)
    weights = np.bincount(drawn, minlength=300).astype(np.float32)[None]
    figures = draw_figures(Answers(predictions.labels, predictions.probabilities), weights, with_auc=True)
    labels, probabilities = predictions.labels[drawn], predictions.probabilities[drawn].astype(float)
    predicted = probabilities.argmax(axis=1)
    macro = {"average": "macro", "zero_division": 0}
    # Weights are summed in float32: seven digits.
    assert {name: values[0] for name, values in figures.items() if name != "ece"} == pytest.approx(
        {
            "accuracy": sklearn.metrics.accuracy_score(labels, predicted),
            "top_5_accuracy": sklearn.metrics.top_k_accuracy_score(labels, probabilities, k=5),
            "log_loss": sklearn.metrics.log_loss(labels, probabilities / probabilities.sum(axis=1, keepdims=True)),
            "macro_precision": sklearn.metrics.precision_score(labels, predicted, **macro),
            "macro_recall": sklearn.metrics.recall_score(labels, predicted, **macro),
            "macro_f1": sklearn.metrics.f1_score(labels, predicted, **macro),
            "macro_auc": sklearn.metrics.roc_auc_score(
                labels, probabilities / probabilities.sum(axis=1, keepdims=True), multi_class="ovr"
            ),
        },
        abs=2e-6,
    )


def test_ece_of_a_draw_is_the_gap_between_confidence_and_accuracy() -> None:
    labels, probabilities = np.array([0, 0]), np.array([[0.95, 0.05], [0.2, 0.8]], np.float32)
    figures = draw_figures(Answers(labels, probabilities), np.array([[1.0, 3.0]], np.float32), with_auc=False)
    assert figures["ece"][0] == pytest.approx((1 * 0.05 + 3 * 0.8) / 4, abs=1e-6)


def test_intervals_hold_the_value_and_shrink_with_more_images() -> None:
    widths = []
    for images in (200, 3200):
        predictions = make_predictions(images=images)
        low, high = bootstrap_intervals(predictions.labels, predictions.probabilities, None).values["macro_f1"]
        value = sklearn.metrics.f1_score(predictions.labels, predictions.predicted, average="macro")
        assert low < value < high
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.4)


def test_a_model_compared_with_itself_has_no_change_and_a_worse_one_has() -> None:
    predictions = make_predictions(images=600, skill=3.0)
    same = bootstrap_intervals(predictions.labels, predictions.probabilities, predictions.probabilities)
    assert same.changes["accuracy"] == (0.0, 0.0)
    assert (same.wins, same.losses) == (0, 0)
    better = bootstrap_intervals(predictions.labels, predictions.probabilities, predictions.baseline_probabilities)
    assert better.changes["accuracy"][0] > 0
    baseline = predictions.baseline_probabilities
    assert baseline is not None
    right = (baseline.argmax(axis=1) == predictions.labels).sum()
    assert better.wins is not None
    assert better.losses is not None
    assert better.wins - better.losses == predictions.correct.sum() - right


def test_an_image_of_an_unknown_class_is_a_mistake() -> None:
    labels, probabilities = np.array([-1, 0, 1]), np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]], np.float32)
    figures = draw_figures(Answers(labels, probabilities), np.ones([1, 3], np.float32), with_auc=True)
    assert figures["accuracy"][0] == pytest.approx(2 / 3)
    assert figures["macro_precision"][0] == pytest.approx((0.5 + 1) / 2)
    assert figures["macro_recall"][0] == pytest.approx(1.0)


def test_equal_probabilities_name_the_first_five_classes() -> None:
    figures = draw_figures(
        Answers(np.arange(10), np.full([10, 10], 0.1, np.float32)), np.ones([1, 10], np.float32), False
    )
    assert figures["top_5_accuracy"][0] == pytest.approx(0.5)


def test_draws_of_one_class_alone_have_no_curve_and_say_nothing() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]], np.float32)
    found = bootstrap_intervals(np.array([0, 1, 1]), probabilities, None)  # an own warning would be an error here
    assert found.values["macro_auc"] == (1.0, 1.0)
