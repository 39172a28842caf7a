"""Several runs side by side: metrics, gates, and what differs in their configurations."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from components.report_gen.numbers import DASH, format_change, format_count, format_number
from components.report_gen.page import make_environment
from pipeline.report_runs import ReportRun

TitledFacts = tuple[str, dict[str, Any]]


def compare_runs(runs: Sequence[ReportRun]) -> list[TitledFacts]:
    """Returns the facts of the runs with titles that no two of them share."""
    titles = [run.title for run in runs]
    return [
        (title if titles.count(title) == 1 else f"{title} #{i}", run.load_facts())
        for i, (title, run) in enumerate(zip(titles, runs, strict=True), 1)
    ]


def comparison_rows(runs: Sequence[TitledFacts]) -> list[dict[str, Any]]:
    """Returns rows `{"section", "name", "values", "shown", "best"}`, values and texts in the order of the runs.

    With one run the configuration is left out: nothing differs.
    """
    facts = [one for _, one in runs]
    rows = [_row("verdict", "verdict", [_verdict(one) for one in facts])]
    images = [one["images"] for one in facts]
    rows.append(_row("verdict", "test images", images, [format_count(count) for count in images]))
    rows += _metric_rows(facts)
    rows += _gate_rows(facts)
    if len(facts) > 1:
        configs = [dict(_flatten(one["config"] or {})) for one in facts]
        for key in sorted({key for config in configs for key in config}):
            values = [config.get(key) for config in configs]
            if any(value != values[0] for value in values):
                rows.append(_row("configuration", key, values))
    return rows


def _verdict(facts: dict[str, Any]) -> str:
    from components.report_gen.model_card import verdict_text

    return verdict_text(facts["verdict"])


def _metric_rows(facts: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    by_run = [{row["name"]: row for row in one["headline"]} for one in facts]
    for name in dict.fromkeys(name for metrics in by_run for name in metrics):
        found = [metrics.get(name) for metrics in by_run]
        values = [row["value"] if row else None for row in found]
        lower_is_better = next(row["lower_is_better"] for row in found if row)
        known = [value for value in values if value is not None]
        best = (min(known) if lower_is_better else max(known)) if known else None
        row = _row("metrics", name, values, [format_number(value) for value in values])
        row["best"] = [value is not None and value == best and len(set(known)) > 1 for value in values]
        yield row


def _gate_rows(facts: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    by_run = [{_gate_name(gate): gate for gate in one["verdict"]["gates"]} for one in facts]
    for name in dict.fromkeys(name for gates in by_run for name in gates):
        found = [gates.get(name) for gates in by_run]
        yield _row(
            "gates", name, [gate["passed"] if gate else None for gate in found], [_gate_text(gate) for gate in found]
        )


def _gate_name(gate: dict[str, Any]) -> str:
    what = gate["metric"] if gate["slice"] is None else f"{gate['metric']} of {gate['slice']}"
    return f"gate: {'change of ' if gate['kind'] == 'change' else ''}{what} {gate['relation']} {gate['bound']:g}"


def _gate_text(gate: dict[str, Any] | None) -> str:
    if gate is None:
        return DASH
    value = format_change(gate["value"]) if gate["kind"] == "change" else format_number(gate["value"])
    return f"{value} {'passed' if gate['passed'] else 'refused'}"


def _flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _row(section: str, name: str, values: list[Any], shown: list[str] | None = None) -> dict[str, Any]:
    texts = shown or [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
    return {"section": section, "name": name, "values": values, "shown": texts, "best": [False] * len(values)}


def render_rows(rows: Sequence[dict[str, Any]], titles: Sequence[str], format: str) -> str:
    """Returns the rows as `json`, `csv` or `md` (Markdown)."""
    if format == "json":
        runs = [
            {
                "run": title,
                **{
                    section: {r["name"]: r["values"][i] for r in rows if r["section"] == section}
                    for section in dict.fromkeys(r["section"] for r in rows)
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
                for value, text in zip(row["values"], row["shown"], strict=True)
            ]
            writer.writerow([row["section"], row["name"], *("" if value == DASH else value for value in values)])
        return buffer.getvalue()
    lines = ["|  | " + " | ".join(map(_cell, titles)) + " |", "|---|" + "---|" * len(titles)]
    lines += [f"| {_cell(row['name'])} | " + " | ".join(map(_cell, row["shown"])) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def render_comparison(rows: Sequence[dict[str, Any]], titles: Sequence[str]) -> str:
    """Returns the page that shows the runs side by side."""
    sections = [
        (title, [row for row in rows if row["section"] == section])
        for section, title in (
            ("verdict", "Verdicts"),
            ("metrics", "Metrics"),
            ("gates", "Gates"),
            ("configuration", "What differs in the configuration"),
        )
    ]
    return make_environment().get_template("comparison.html.j2").render(sections=sections, titles=titles)
