"""The figures over all test images: TFMA's values, each with its interval and its change against the baseline."""

from typing import Any

from components.evaluator.metric_table import METRICS, Metric
from components.evaluator.results import EvaluationResults
from components.report_gen.account import Figure
from components.report_gen.intervals import BOOTSTRAP, PAIRED_BOOTSTRAP, Intervals
from components.report_gen.wilson import WILSON, wilson_interval


def make_headline(results: EvaluationResults, intervals: Intervals | None) -> tuple[Figure, ...]:
    """Returns each overall metric.

    Args:
        results: the evaluation.
        intervals: from the predictions; without them shares alone have an interval, and changes none.
    """
    figures = []
    for name, value in results.metrics.items():
        metric = METRICS.get(name, Metric(name))
        baseline = (results.baseline_metrics or {}).get(name)
        interval = intervals.values.get(name) if intervals and value is not None else None
        method = BOOTSTRAP if interval else None
        if value is not None and metric.is_share:
            interval, method = wilson_interval(value * results.images, results.images), WILSON
        figures.append(
            Figure(
                name=name,
                label=metric.title,
                value=value,
                lower_is_better=metric.lower_is_better,
                interval=interval,
                method=method,
                baseline=baseline,
                change=value - baseline if value is not None and baseline is not None else None,
                change_interval=intervals.changes.get(name) if intervals and baseline is not None else None,
            )
        )
    return tuple(figures)


def make_change(results: EvaluationResults, intervals: Intervals | None) -> dict[str, Any]:
    """Returns what the page says of the baseline beside the changes of the figures."""
    return {
        "baseline": results.baseline_metrics is not None,
        "remark": results.baseline.describe() if results.baseline else None,
        "method": PAIRED_BOOTSTRAP if intervals and intervals.changes else None,
        "wins": intervals.wins if intervals else None,
        "losses": intervals.losses if intervals else None,
    }
