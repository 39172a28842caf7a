"""What a run has to say for itself: `summary.json` and the last lines on the screen."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from tfx.types import standard_component_specs as specs

from components.drift_validator.report import DRIFT_KEY, describe_report
from components.evaluator.refusals import DRIFT_GATE
from components.evaluator.rollback import ROLLBACK_GATE
from components.model_converter.record import FORMATS_KEY, describe_formats
from components.report_gen.facts import Sources, make_account
from components.tuner import TRIALS_FILE
from data.corrections import describe_corrections
from data.groups import describe_groups
from data.spans import describe_spans
from data.split_origins import describe_split_origins
from pipeline.accuracy_interval import make_accuracy_interval
from pipeline.config import PipelineConfig
from pipeline.display import Unpadded
from pipeline.local_runner import PUSHED_DESTINATION, NodeResult

PUSHED, NOT_BLESSED, FAILED = "pushed", "not_blessed", "failed"
_READ = {
    specs.EXAMPLES_KEY: ("ImageExampleGen", "examples"),
    specs.ANOMALIES_KEY: ("ExampleValidator", "anomalies"),
    specs.MODEL_RUN_KEY: ("Trainer", "model_run"),
    specs.TUNER_RESULTS_KEY: ("Tuner", "tuner_results"),
    specs.EVALUATION_KEY: ("Evaluator", "evaluation"),
    DRIFT_KEY: ("DriftValidator", "drift"),
    specs.INFRA_BLESSING_KEY: ("ServingValidator", "blessing"),
    FORMATS_KEY: ("ModelConverter", FORMATS_KEY),
}
"""Inputs of ReportGen, by the nodes that make them."""
_SHOWN_LINES = 3
_LINE_CHARACTERS = 71
"""What 80 columns leave beside the names of the rows."""


def make_summary(
    config: PipelineConfig, weights: str, results: Sequence[NodeResult], error: str | None = None
) -> dict[str, Any]:
    """Collects a run's facts from the artifacts of the nodes that ended well.

    Args:
        config: the resolved configuration.
        weights: what training started from: `imagenet`, `none` or a path.
        results: one per node that was started.
        error: why the run failed, or None.

    Returns:
        The content of `summary.json`, of plain JSON types.
    """
    outputs = {(result.node_id, key): artifacts[0] for result in results for key, artifacts in result.outputs.items()}
    uris = {key: outputs[output].uri for key, output in _READ.items() if output in outputs}
    account = make_account(Sources(config.name, uris, config=config.model_dump(mode="json")), config.report)
    pushed, destination = outputs.get(("Pusher", "pushed_model")), None
    if pushed is not None:
        destination = pushed.custom_properties[PUSHED_DESTINATION].string_value or None
    status = FAILED if error is not None or pushed is None else PUSHED if destination else NOT_BLESSED
    data = _data_of_summary(account.data or {})
    metrics = {figure.name: figure.value for figure in account.headline}
    return {
        "status": status,
        "name": account.name,
        "nodes": [result.to_account() for result in results],
        "data": data,
        "weights": weights,
        "warm_start": account.training and account.training["warm_start"],
        "tuning": account.tuning
        and {**account.tuning, "trials_file": os.path.join(uris[specs.TUNER_RESULTS_KEY], TRIALS_FILE)},
        "metrics": metrics,
        "accuracy_interval": make_accuracy_interval(
            metrics.get("accuracy"), account.images, config.data.test_share, data.get("split_origins")
        ),
        "gates": [asdict(gate) for gate in account.verdict.gates],
        "refusals": account.verdict.refusals,
        "baseline": (found := account.baseline)
        and {**asdict(found), "comparable": found.comparable, "remark": found.describe()},
        "serving": account.serving,
        "drift": account.drift,
        "formats": account.formats,
        "pushed_model": destination,
        "decision": {key: value for key, value in (account.decisions or {}).items() if key != "curve"} or None,
        "config": account.config,
        "versions": account.versions,
        **({} if error is None else {"error": error}),
    }


def _data_of_summary(data: dict[str, Any]) -> dict[str, Any]:
    """Leaves out what the page alone shows, and anomalies where nobody looked for some."""
    kept = {key: value for key, value in data.items() if key not in ("splits", "sizes", "anomalies")}
    if (anomalies := data.get("anomalies")) is not None:
        kept["anomalies"] = sorted(anomalies, key=lambda line: line.partition(":")[0])  # splits by name
    return kept


def render_summary(summary: dict[str, Any], log_path: Path, next_commands: Sequence[str]) -> RenderableType:
    """Returns the last lines of a run, for a person: data, metrics, gates, model, log, what to do next."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", min_width=7)
    grid.add_column(overflow="fold")
    for line in _data_lines(summary["data"]):
        grid.add_row(*line)
    if warm_start := summary["warm_start"]:
        grid.add_row("warm", escape(warm_start["description"]))
    for line in _tuning_lines(summary["tuning"]):
        grid.add_row(*line)
    for number, figures in enumerate(_metric_lines(summary["metrics"], summary["accuracy_interval"])):
        grid.add_row("" if number else "test", figures)
    if (interval := summary["accuracy_interval"]) and interval["remark"]:
        grid.add_row("", f"[yellow]{escape(interval['remark'])}[/]")
    for outcome in (summary["decision"] or {}).get("outcomes", ()):
        grid.add_row("decides", escape(outcome))
    for gate in summary["gates"]:
        grid.add_row("gate", _gate_text(gate))
    if summary["baseline"] and (remark := summary["baseline"]["remark"]):
        grid.add_row("", f"[yellow]{escape(remark)}[/]")
    if (drift := summary["drift"]) and drift["compared"]:
        verdict = "[yellow]look at the data[/]" if drift["drifted"] else "[green]passed[/]"
        verdict = "[red]refused[/]" if DRIFT_GATE in summary["refusals"] else verdict
        grid.add_row("drift", f"{escape(describe_report(drift))}  {verdict}")
    for found in _serving_lines(summary["serving"]):
        grid.add_row("serving", found)
    if (formats := summary["formats"]) and formats["reason"]:
        grid.add_row("formats", escape(f"none: {formats['reason']}"))
    for told, kept in describe_formats(formats):
        grid.add_row("format", f"{escape(told)}  {'[green]kept[/]' if kept else '[yellow]refused[/]'}")
    lines = [("log", str(log_path)), *(("next", command) for command in next_commands)]
    if tuning := summary["tuning"]:
        changed = " ".join(f"trainer.{name}={value}" for name, value in tuning["best"]["settings"].items())
        keep = [("keep", f"--set {changed}")] if changed else []
        lines = [("trials", tuning["trials_file"]), *keep, *lines]
    if formats and formats.get("place"):
        lines.insert(0, ("formats", formats["place"]))
    if summary["pushed_model"]:
        lines.insert(0, ("pushed", summary["pushed_model"]))
    elif summary["status"] == NOT_BLESSED:
        refusals = summary["refusals"]
        if rollback := refusals.get(ROLLBACK_GATE):
            grid.add_row("[yellow]rollback[/]", f"{escape(rollback)}; python -m pipeline.models promote undoes it")
        grid.add_row("[yellow]refused[/]", f"by {', '.join(refusals)}, so nothing was pushed")
    # Not in the grid, which would fold paths and commands, so that they could not be copied from a narrow terminal.
    styles = {"pushed": "bold green"}
    copied = (
        Text.assemble((f"{name:<9}", styles.get(name, "bold")), text, no_wrap=True, overflow="ignore")
        for name, text in lines
    )
    return Group("", Unpadded(grid), *copied)


def _data_lines(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if not data:
        return
    counts: dict[str, dict[str, int]] = data["counts"]
    totals = "  ".join(f"{split} {sum(by_class.values()):,}" for split, by_class in counts.items())
    yield "images", f"{totals}  ({len({name for by_class in counts.values() for name in by_class})} classes)"
    if spans := describe_spans(data.get("spans", [])):
        yield "spans", escape(spans)
    if origins := describe_split_origins(data.get("split_origins", {})):
        yield "splits", escape(origins)
    if corrections := data.get("corrections"):
        yield "labels", escape(describe_corrections(corrections))
    if data["duplicates_dropped"]:
        yield "", f"{data['duplicates_dropped']:,} duplicates of another split dropped"
    if groups := describe_groups(data.get("groups")):
        yield "groups", groups
    if data.get("weighted"):
        yield "weights", "images weigh differently in training"
    if (ignored := data.get("ignored", {})).get("number"):
        yield "", escape(f"{ignored['number']:,} files or folders ignored, such as {', '.join(ignored['names'])}")
    if left_out := data.get("left_out"):
        labels = ", ".join(f"{label} {number:,}" for label, number in left_out.items())
        yield "", escape(f"{sum(left_out.values()):,} left out by data.labels: {labels}")
    if data["quarantined"]:
        yield "", f"[yellow]{data['quarantined']:,} quarantined[/], all of them in summary.json:"
        for item in data["quarantine"][:_SHOWN_LINES]:
            yield "", escape(f"  {item['file']}: {item['reason']}")
    for line in data.get("anomalies", [])[:_SHOWN_LINES]:
        yield "anomaly", escape(line)


def _metric_lines(metrics: dict[str, float | None], interval: dict[str, Any] | None) -> Iterator[str]:
    """Yields the figures, as many in a line as it holds, with the 95 % interval of the accuracy beside it."""
    line = ""
    for name, value in metrics.items():
        if value is None:
            continue
        shown = f"{name} {value:.4f}"
        if name == "accuracy" and interval:
            shown += f" ({interval['low']:.3f} to {interval['high']:.3f})"
        if line and len(line) + 2 + len(shown) > _LINE_CHARACTERS:
            yield line
            line = ""
        line += f"  {shown}" if line else shown
    if line:
        yield line


def _serving_lines(serving: dict[str, Any] | None) -> Iterator[str]:
    """Yields every failed check of the export, or one line where there is none."""
    if serving is None:
        return
    failed = [finding for finding in serving["findings"] if not finding["passed"]]
    for finding in failed:
        yield f"{escape(finding['check'])}: {escape(finding['message'])}  [red]refused[/]"
    if not failed:
        p50, p95, size = (serving["measured"][key] for key in ("latency_p50_ms", "latency_p95_ms", "model_mb"))
        checks = len(serving["findings"])
        yield f"{checks} checks [green]passed[/]; one image in {p50:.1f} ms, p95 {p95:.1f} ms; {size:.0f} MB"


def _tuning_lines(tuning: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    if tuning:
        best, first = tuning["best"], tuning["trials"][0]
        before = "diverged" if first["eval_loss"] is None else f"{first['eval_loss']:.4f}"
        yield (
            "tuned",
            (
                f"eval_loss {best['eval_loss']:.4f} in trial {best['number']} of {len(tuning['trials'])}"
                f" ({'trial 1' if first['settings'] else 'untuned'} {before})"
            ),
        )


def _gate_text(gate: dict[str, Any]) -> str:
    what = escape(f"{gate['metric']} of {gate['slice']}" if gate["slice"] else gate["metric"])
    value = "no number" if gate["value"] is None else f"{gate['value']:.4f}"
    if gate["kind"] == "change":
        what += " against the last blessed model"
        value = value if gate["value"] is None else f"{gate['value']:+.4f}"
    verdict = "[green]passed[/]" if gate["passed"] else "[red]refused[/]"
    return f"{what} {value} {gate['relation']} {gate['bound']:g}  {verdict}"
