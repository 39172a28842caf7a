"""What a run has to say for itself: `summary.json` and the last lines on the screen."""

import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from components.evaluator.results import EvaluationResults, read_results
from pipeline.config import PipelineConfig
from pipeline.local_runner import PUSHED_DESTINATION, NodeResult

PUSHED, NOT_BLESSED, FAILED = "pushed", "not_blessed", "failed"
_PACKAGES = ("tfx", "tensorflow", "tf-keras", "tensorflow-transform", "tensorflow-model-analysis", "apache-beam")
_SHOWN_QUARANTINE = 3
_SHOWN_ANOMALIES = 3


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
    summary: dict[str, Any] = {
        "status": FAILED,
        "name": config.name,
        "nodes": [{"id": r.node_id, "state": r.state, "seconds": round(r.seconds, 3)} for r in results],
        "data": {},
        "weights": weights,
        "metrics": {},
        "gates": [],
        "pushed_model": None,
        "config": config.model_dump(mode="json"),
        "versions": {package: importlib.metadata.version(package) for package in _PACKAGES},
    }
    if error is not None:
        summary["error"] = error
    if examples := outputs.get(("ImageExampleGen", "examples")):
        summary["data"] = _data_facts(Path(examples.uri))
    if anomalies := outputs.get(("ExampleValidator", "anomalies")):
        summary["data"]["anomalies"] = _anomalies(Path(anomalies.uri))
    if evaluation := outputs.get(("Evaluator", "evaluation")):
        evaluated: EvaluationResults = read_results(evaluation.uri)
        summary["metrics"] = evaluated.metrics
        summary["gates"] = [asdict(gate) for gate in evaluated.gates]
    if pushed := outputs.get(("Pusher", "pushed_model")):
        destination = pushed.custom_properties[PUSHED_DESTINATION].string_value
        summary["status"] = PUSHED if destination else NOT_BLESSED
        summary["pushed_model"] = destination or None
    return summary


def _data_facts(examples: Path) -> dict[str, Any]:
    facts = json.loads((examples / "data_summary.json").read_text(encoding="utf-8"))
    lines = (examples / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
    return {**facts, "quarantine": [json.loads(line) for line in lines]}


def _anomalies(folder: Path) -> list[str]:
    """Returns one line per feature and split whose statistics do not fit the schema."""
    from tensorflow_data_validation.anomalies.proto import custom_validation_config_pb2  # noqa: F401
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    found = []
    for split in sorted(folder.glob("Split-*")):
        anomalies = anomalies_pb2.Anomalies.FromString((split / "SchemaDiff.pb").read_bytes())
        for name, info in sorted(anomalies.anomaly_info.items()):
            found.append(f"{split.name.removeprefix('Split-')}: {name}: {info.description}")
    return found


def render_summary(summary: dict[str, Any], log_path: Path, next_commands: Sequence[str]) -> RenderableType:
    """Returns the last lines of a run, for a person: data, metrics, gates, model, log, what to do next."""
    parts: list[RenderableType] = [""]
    data = summary["data"]
    if data:
        parts.append(_data_table(data))
    if summary["metrics"]:
        values = [f"{name} {value:.4f}" for name, value in summary["metrics"].items() if isinstance(value, float)]
        parts.append("[bold]test split[/]  " + "  ".join(values))
    for gate in summary["gates"]:
        parts.append(_gate_line(gate))
    if summary["status"] == PUSHED:
        parts.append(f"[bold green]pushed[/]  {escape(str(summary['pushed_model']))}")
    elif summary["status"] == NOT_BLESSED:
        parts.append("[bold yellow]not blessed[/]: a gate refused the model; nothing was pushed")
    parts.append(f"[dim]log     {escape(str(log_path))}[/]")
    parts.extend(f"[dim]next    {escape(command)}[/]" for command in next_commands)
    return Group(*parts)


def _data_table(data: dict[str, Any]) -> RenderableType:
    counts: dict[str, dict[str, int]] = data["counts"]
    totals = "  ".join(f"{split} {sum(by_class.values()):,}" for split, by_class in counts.items())
    classes = len({name for by_class in counts.values() for name in by_class})
    notes = [f"[bold]images[/]  {totals}  ({classes} classes; weights and data are in summary.json)"]
    if data.get("duplicates_dropped"):
        notes.append(f"        {data['duplicates_dropped']:,} duplicates dropped from train")
    if data["quarantined"]:
        notes.append(f"        {data['quarantined']:,} quarantined:")
        for item in data["quarantine"][:_SHOWN_QUARANTINE]:
            notes.append(f"          {escape(item['file'])}: {escape(item['reason'])}")
        if data["quarantined"] > _SHOWN_QUARANTINE:
            notes.append("          ... the rest is in summary.json")
    anomalies = data.get("anomalies", [])
    notes.extend(f"        anomaly: {escape(line)}" for line in anomalies[:_SHOWN_ANOMALIES])
    grid = Table.grid()
    for note in notes:
        grid.add_row(note)
    return grid


def _gate_line(gate: dict[str, Any]) -> str:
    verdict = "[green]passed[/]" if gate["passed"] else "[red]refused[/]"
    sign = {"min": ">=", "max": "<=", "change": ">= baseline"}[gate["kind"]]
    value = "no value" if gate["value"] is None else f"{gate['value']:.4f}"
    where = f" of {escape(gate['slice'])}" if gate["slice"] else ""
    return f"[bold]gate[/]    {gate['metric']}{where} {value} {sign} {gate['bound']:g}  {verdict}"
