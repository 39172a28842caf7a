"""The one definition of the metrics: whoever adds up its terms, in whatever parts, finds the same figures."""

import math
import pickle

import numpy as np
import pytest
from tensorflow_model_analysis.metrics import metric_types

from components.evaluator.combiners import RowSums
from components.evaluator.definitions import DEFINITIONS, TERMS, Answers, count_matrix, make_figures
from components.evaluator.metric_table import METRICS
from tests.report_run import make_predictions


def test_every_metric_of_the_table_is_defined_but_auc_which_no_sums_give() -> None:
    assert METRICS.keys() - DEFINITIONS.keys() == {"auc", "macro_auc"}
    assert not DEFINITIONS.keys() - METRICS.keys()


@pytest.mark.parametrize("skill", [-4.0, 0.0, 9.0])
def test_figures_lie_in_the_range_that_the_table_tells(skill: float) -> None:
    predictions = make_predictions(class_count=7, images=300, skill=skill)
    figures = make_figures(Answers(predictions.labels, predictions.probabilities).sum_terms())
    for name, values in figures.items():
        assert (values >= 0).all()
        assert (values <= METRICS[name].top).all()


def test_images_combined_in_parts_have_the_figures_of_all_at_once() -> None:
    predictions = make_predictions(class_count=7, images=700)
    labels = np.where(np.arange(700) % 50 == 0, -1, predictions.labels)
    combiner = RowSums(metric_types.MetricKey("sums"), None)
    parts = [combiner.create_accumulator() for _ in range(3)]  # the last one stays empty
    for i, (label, probabilities) in enumerate(zip(labels, predictions.probabilities, strict=True)):
        row = metric_types.StandardMetricInputs(
            label=np.array([label]), prediction=probabilities, example_weight=np.array([1.0])
        )
        combiner.add_input(parts[int(i < 600)], row)
    merged = combiner.merge_accumulators(pickle.loads(pickle.dumps(combiner.compact(part))) for part in parts)
    (found,) = combiner.extract_output(merged).values()
    expected = make_figures(Answers(labels, predictions.probabilities).sum_terms())
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, abs=1e-12)  # the order of 700 float64 numbers in a sum


def test_nothing_combined_has_no_figures() -> None:
    combiner = RowSums(metric_types.MetricKey("sums"), None)
    (found,) = combiner.extract_output(combiner.merge_accumulators([combiner.create_accumulator()])).values()
    assert all(np.isnan(found[name]).all() for name in DEFINITIONS)


def test_one_row_without_numbers_leaves_means_without_a_value_and_is_taken_for_no_class() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [np.nan, 0.5]], np.float32)
    figures = make_figures(Answers(np.array([0, 1, 0]), probabilities).sum_terms())
    assert all(math.isnan(figures[name]) for name in ("accuracy", "top_5_accuracy", "log_loss", "ece"))
    assert figures["recall"].tolist() == [0.5, 1.0]
    assert figures["precision"].tolist() == [1.0, 1.0]


def test_a_confusion_matrix_gives_the_sums_that_its_images_give() -> None:
    labels, predicted = np.array([0, 0, 1, 2, -1]), np.array([0, 1, 1, 1, 2])
    sums = Answers(labels, np.eye(3, dtype=np.float32)[predicted]).sum_terms()
    cells = [(0, 0, 1), (0, 1, 1), (1, 1, 1), (2, 1, 1), (-1, 2, 1)]
    assert count_matrix(cells, 3).tolist() == sums[TERMS.index(DEFINITIONS["f1"].terms)].tolist()


def test_coverage_and_accuracy_count_what_was_decided() -> None:
    probabilities = np.float32([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
    labels, decided = np.array([0, 1, 0, 1]), np.array([True, True, False, True])
    figures = make_figures(Answers(labels, probabilities, decided=decided).sum_terms())
    assert figures["coverage"] == 0.75
    assert figures["selective_accuracy"] == pytest.approx(2 / 3)
    whole = make_figures(Answers(labels, probabilities).sum_terms())
    assert (whole["coverage"], whole["selective_accuracy"]) == (1.0, whole["accuracy"])
    nothing = make_figures(Answers(labels, probabilities, decided=np.zeros(4, bool)).sum_terms())
    assert nothing["coverage"] == 0.0
    assert np.isnan(nothing["selective_accuracy"])  # which passes no gate
