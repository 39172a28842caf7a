"""Several runs side by side: metrics, gates, and what differs in their configurations."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from components.evaluator.results import GateResult
from components.report_gen.account import Account
from components.report_gen.numbers import DASH, format_change, format_count, format_number
from components.report_gen.page import make_environment
from pipeline.report_runs import ReportRun


@dataclass(frozen=True)
class Row:
    """One thing in all runs.

    Attributes:
        section: of the comparison.
        name: of the row.
        values: in the order of the runs, of plain JSON types.
        shown: the same for people.
        best: the value of the best runs; None where all are alike or none is better.
    """

    section: str
    name: str
    values: Sequence[Any]
    shown: Sequence[str]
    best: float | None = None


def make_titles(runs: Sequence[ReportRun]) -> list[str]:
    """Returns titles that no two of the runs share."""
    titles = [run.title for run in runs]
    return [title if titles.count(title) == 1 else f"{title} #{i}" for i, title in enumerate(titles, 1)]


def comparison_rows(accounts: Sequence[Account]) -> list[Row]:
    """Returns the rows; of one run without the configuration, in which nothing differs."""
    verdicts = [account.verdict.describe() for account in accounts]
    images = [account.images for account in accounts]
    rows = [
        Row("verdict", "verdict", verdicts, verdicts),
        Row("verdict", "test images", images, [format_count(count) for count in images]),
        *_metric_rows(accounts),
        *_gate_rows(accounts),
    ]
    configs = [dict(_flatten(account.config or {})) for account in accounts]
    for key in sorted({key for config in configs for key in config}):
        values = [config.get(key) for config in configs]
        if any(value != values[0] for value in values):
            texts = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
            rows.append(Row("configuration", key, values, texts))
    return rows


def _metric_rows(accounts: Sequence[Account]) -> Iterator[Row]:
    by_run = [{figure.name: figure for figure in account.headline} for account in accounts]
    for name in dict.fromkeys(name for figures in by_run for name in figures):
        found = [figures.get(name) for figures in by_run]
        values = [figure.value if figure else None for figure in found]
        choose = min if next(figure.lower_is_better for figure in found if figure) else max
        known = {value for value in values if value is not None}
        best = choose(known) if len(known) > 1 else None
        yield Row("metrics", name, values, [format_number(value) for value in values], best)


def _gate_rows(accounts: Sequence[Account]) -> Iterator[Row]:
    by_run = [{_gate_name(gate): gate for gate in account.verdict.gates} for account in accounts]
    for name in dict.fromkeys(name for gates in by_run for name in gates):
        found = [gates.get(name) for gates in by_run]
        yield Row("gates", name, [gate and gate.passed for gate in found], [_gate_text(gate) for gate in found])


def _gate_name(gate: GateResult) -> str:
    what = gate.metric if gate.slice is None else f"{gate.metric} of {gate.slice}"
    return f"gate: {'change of ' if gate.kind == 'change' else ''}{what} {gate.relation} {gate.bound:g}"


def _gate_text(gate: GateResult | None) -> str:
    if gate is None:
        return DASH
    value = format_change(gate.value) if gate.kind == "change" else format_number(gate.value)
    return f"{value} {'passed' if gate.passed else 'refused'}"


def _flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def render_rows(rows: Sequence[Row], titles: Sequence[str], format: str) -> str:
    """Returns the rows as `json`, `csv` or `md` (Markdown)."""
    if format == "json":
        runs = [
            {
                "run": title,
                **{
                    section: {row.name: row.values[i] for row in rows if row.section == section}
                    for section in dict.fromkeys(row.section for row in rows)
                },
            }
            for i, title in enumerate(titles)
        ]
        return json.dumps(runs, ensure_ascii=False, indent=2) + "\n"
    if format == "csv":
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["section", "name", *titles])
        for row in rows:
            values = [
                text if value is None or isinstance(value, list | dict) else value
                for value, text in zip(row.values, row.shown, strict=True)
            ]
            writer.writerow([row.section, row.name, *("" if value == DASH else value for value in values)])
        return buffer.getvalue()
    lines = ["|  | " + " | ".join(map(_cell, titles)) + " |", "|---|" + "---|" * len(titles)]
    lines += [f"| {_cell(row.name)} | " + " | ".join(map(_cell, row.shown)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def render_comparison(rows: Sequence[Row], titles: Sequence[str]) -> str:
    """Returns the page that shows the runs side by side."""
    sections = [
        (title, [row for row in rows if row.section == section])
        for section, title in (
            ("verdict", "Verdicts"),
            ("metrics", "Metrics"),
            ("gates", "Gates"),
            ("configuration", "What differs in the configuration"),
        )
    ]
    return make_environment().get_template("comparison.html.j2").render(sections=sections, titles=titles)
