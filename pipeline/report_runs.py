"""What a person means by a run: an output folder, the number of one of its reports, or a folder that TFMA wrote."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.report_gen.report_files import FACTS_FILE, FACTS_VERSION
from data.errors import UserError
from pipeline.output_dir import OutputDir
from pipeline.report_lineage import RunRecord, read_runs

DEFAULT_OUTPUT = Path(__file__).parent.parent / "output"
_TFMA_CONFIG = "eval_config.json"


@dataclass(frozen=True)
class ReportRun:
    """Facts that are at hand, or an evaluation that they can be made from.

    Attributes:
        title: what comparisons call it.
        facts_path: the `facts.json` of ReportGen, local or remote, or None.
        evaluation_uri: what TFMA wrote, where there is no `facts.json`.
        record: what ML Metadata knows of the run, or None.
        output: the output folder that it belongs to, or None.
        latest: whether it is its output folder's last run.
    """

    title: str
    facts_path: str | None = None
    evaluation_uri: str | None = None
    record: RunRecord | None = None
    output: OutputDir | None = None
    latest: bool = False

    @property
    def number(self) -> str:
        """The number of the report's folder; empty outside an output folder."""
        return Path(self.facts_path).parent.name if self.facts_path and self.output else ""

    def load_facts(self) -> dict[str, Any]:
        """Returns the facts; makes them where there is only an evaluation.

        Raises:
            UserError: the folder holds none that can be read.
        """
        if self.facts_path is None:
            facts = _facts_of_evaluation(str(self.evaluation_uri), self.title)
        else:
            facts = _read_facts(self.facts_path)
            if facts.get("version") != FACTS_VERSION:
                raise UserError(
                    f"{self.facts_path}: was written by another version of ReportGen; open the report.html beside it,"
                    " or run the pipeline again"
                )
        if self.record is not None:
            facts["run"] = self.record.to_facts(self.output.root if self.output else None)
        return facts


def find_run(text: str | None) -> ReportRun:
    """Finds the run that a person names.

    Args:
        text: an output folder (its last run), a folder of ReportGen's, a folder that TFMA wrote, or the number of a
            report in the newest output folder; None for the last run there.

    Raises:
        UserError: there is no such run.
    """
    if text is None:
        return _last_run(_newest_output())
    if text.isdigit() and not Path(text).exists():
        return _numbered_run(_newest_output(), text)
    remote = "://" in text
    path = Path(text)
    if _exists(f"{text}/{FACTS_FILE}", remote):
        return _report_folder(text, remote)
    if _is_evaluation(text, remote):
        title = path.name if not path.name.isdigit() else f"{path.parent.name} {path.name}"
        return ReportRun(title, evaluation_uri=text)
    if not remote and (path / "pipeline_root").is_dir():
        return _last_run(OutputDir(path.resolve()))
    raise UserError(
        f"{text}: is no run; give an output folder of pipeline.run_local, a folder of ReportGen, one that TFMA wrote, "
        "or a number of --list"
    )


def list_runs(output: OutputDir) -> list[ReportRun]:
    """Returns all runs of an output folder that left a report or an evaluation, the latest first."""
    runs: list[ReportRun] = []
    for record in read_runs(output.metadata_path):
        report, evaluation = record.uris.get(("ReportGen", "report")), record.uris.get(("Evaluator", "evaluation"))
        facts = f"{report}/{FACTS_FILE}" if report else None
        if facts and _exists(facts, "://" in facts):
            runs.append(ReportRun(_title(output, record, report), facts, None, record, output, latest=not runs))
        elif evaluation and _exists(evaluation, "://" in evaluation):
            runs.append(ReportRun(_title(output, record, None), None, evaluation, record, output, latest=not runs))
    return runs


def _title(output: OutputDir, record: RunRecord, report: str | None) -> str:
    number = f" {Path(report).name}" if report else ""
    return f"{output.root.name}{number} ({record.started:%Y-%m-%d %H:%M})"


def _last_run(output: OutputDir) -> ReportRun:
    runs = list_runs(output)
    if not runs:
        raise UserError(f"{output.root}: holds no run with a report; run python -m pipeline.run_local first")
    return runs[0]


def _numbered_run(output: OutputDir, number: str) -> ReportRun:
    runs = list_runs(output)
    for run in runs:
        if run.number == number:
            return run
    known = ", ".join(sorted({run.number for run in runs if run.number}, key=int))
    raise UserError(f"{output.root} has no report {number}; there are {known or 'none'}")


def _report_folder(text: str, remote: bool) -> ReportRun:
    """Returns the run of a folder of ReportGen; inside an output folder with what ML Metadata knows."""
    facts_path = f"{text}/{FACTS_FILE}"
    if not remote:
        folder = Path(text).resolve()
        for root in folder.parents:
            if (root / "pipeline_root").is_dir():
                for run in list_runs(OutputDir(root)):
                    if run.facts_path and Path(run.facts_path).resolve().parent == folder:
                        return run
    return ReportRun(Path(text).name, facts_path)


def _newest_output() -> OutputDir:
    roots = [path.parent for path in DEFAULT_OUTPUT.glob("*/metadata.sqlite")]
    if not roots:
        raise UserError(f"{DEFAULT_OUTPUT}: holds no run; run python -m pipeline.run_local first, or name a folder")
    return OutputDir(max(roots, key=lambda root: (root / "metadata.sqlite").stat().st_mtime))


def _is_evaluation(text: str, remote: bool) -> bool:
    return _exists(f"{text}/{_TFMA_CONFIG}", remote)


def _exists(path: str, remote: bool) -> bool:
    if not remote:
        return Path(path).exists()
    import tensorflow as tf

    return tf.io.gfile.exists(path)


def _read_text(path: str) -> str:
    if "://" not in path:
        return Path(path).read_text(encoding="utf-8")
    import tensorflow as tf

    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read().decode("utf-8")


def _read_facts(path: str) -> dict[str, Any]:
    try:
        facts = json.loads(_read_text(path))
        if isinstance(facts, dict):
            return facts
        reason = "holds no facts"
    except ValueError as error:
        reason = str(error)
    raise UserError(f"{path}: is damaged ({reason}); run the pipeline again")


def _facts_of_evaluation(uri: str, name: str) -> dict[str, Any]:
    from components.report_gen.facts import Sources, make_facts
    from components.report_gen.settings import ReportSettings

    try:
        return make_facts(Sources(name=name, evaluation_uri=uri), ReportSettings())
    except (ValueError, OSError, KeyError) as error:
        raise UserError(f"{uri}: TFMA cannot read an evaluation there: {' '.join(str(error).split())}") from None
