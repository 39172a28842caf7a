"""What a person means by a run: an output folder, the number of one of its reports, or a folder that TFMA wrote."""

from dataclasses import dataclass, replace
from pathlib import Path

from components.evaluator.refusals import REFUSALS_FILE
from components.evaluator.rollback import ROLLBACK_GATE
from components.report_gen import FACTS_FILE
from components.report_gen.account import ACCOUNT_VERSION, Account, account_from_json
from data import gfile
from data.errors import UserError
from data.json_files import read_json
from pipeline.output_dir import DEFAULT_OUTPUT, OutputDir
from pipeline.report_lineage import RunRecord, read_runs

_TFMA_CONFIG = "eval_config.json"


@dataclass(frozen=True)
class ReportRun:
    """An account that is at hand, or an evaluation that one can be made from.

    Attributes:
        title: what comparisons call it.
        facts_path: the `facts.json` of ReportGen, local or remote, or None.
        evaluation_uri: what TFMA wrote, where there is no `facts.json`.
        record: what ML Metadata knows of the run, or None.
        output: the output folder that it belongs to, or None.
        latest: whether it is its output folder's last run that has its report or evaluation.
        cleaned: whether its report was removed by `pipeline.clean`; `facts_path` is where it was.
    """

    title: str
    facts_path: str | None = None
    evaluation_uri: str | None = None
    record: RunRecord | None = None
    output: OutputDir | None = None
    latest: bool = False
    cleaned: bool = False

    @property
    def number(self) -> str:
        """The number of the report's folder; empty outside an output folder."""
        return Path(self.facts_path).parent.name if self.facts_path and self.output else ""

    def load_account(self) -> Account:
        """Returns the account; makes it where there is only an evaluation.

        Raises:
            UserError: the folder holds none that can be read.
        """
        if self.cleaned:
            raise UserError(
                f"{self.title}: python -m pipeline.clean has removed its report; run the pipeline again with its"
                " settings, or name another run of --list"
            )
        if self.facts_path is None:
            account = _account_of_evaluation(str(self.evaluation_uri), self.title)
        else:
            account = _read_account(self.facts_path)
        if self.record is None:
            return account
        account = replace(account, run=self.record.to_account(self.output.root if self.output else None))
        evaluation = self.record.uris.get(("Evaluator", "evaluation"))
        if evaluation and _exists(f"{evaluation}/{REFUSALS_FILE}"):  # It may have changed since the report was made.
            verdict = account.verdict.with_rollback(read_json(f"{evaluation}/{REFUSALS_FILE}").get(ROLLBACK_GATE))
            account = replace(account, verdict=verdict)
        return account


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
    path = Path(text)
    if _exists(f"{text}/{FACTS_FILE}"):
        return _known_run(path) or ReportRun(path.name, f"{text}/{FACTS_FILE}")
    if _exists(f"{text}/{_TFMA_CONFIG}"):
        title = path.name if not path.name.isdigit() else f"{path.parent.name} {path.name}"
        return ReportRun(title, evaluation_uri=text)
    if OutputDir(path).pipeline_root.is_dir():
        return _last_run(OutputDir(path.resolve()))
    if "://" not in text and (cleaned := _known_run(path)):
        return cleaned
    raise UserError(
        f"{text}: is no run; give an output folder of pipeline.run_local, a folder of ReportGen, one that TFMA wrote, "
        "or a number of --list"
    )


def list_runs(output: OutputDir) -> list[ReportRun]:
    """Returns all runs of an output folder that left a report or an evaluation, cleaned or not, the latest first."""
    runs: list[ReportRun] = []
    whole = 0
    for record in read_runs(output.metadata_path):
        report, evaluation = record.uris.get(("ReportGen", "report")), record.uris.get(("Evaluator", "evaluation"))
        facts = f"{report}/{FACTS_FILE}" if report else None
        if facts and _exists(facts):
            runs.append(ReportRun(_title(output, record, report), facts, None, record, output, latest=not whole))
        elif ("ReportGen", "report") in record.cleaned:
            runs.append(ReportRun(_title(output, record, report), facts, None, record, output, cleaned=True))
        elif evaluation and _exists(evaluation):
            runs.append(ReportRun(_title(output, record, None), None, evaluation, record, output, latest=not whole))
        whole += bool(runs and not runs[-1].cleaned)
    return runs


def _title(output: OutputDir, record: RunRecord, report: str | None) -> str:
    number = f" {Path(report).name}" if report else ""
    return f"{output.root.name}{number} ({record.started:%Y-%m-%d %H:%M})"


def _last_run(output: OutputDir) -> ReportRun:
    runs = [run for run in list_runs(output) if not run.cleaned]
    if not runs:
        raise UserError(f"{output.root}: holds no run with a report; run python -m pipeline.run_local first")
    return runs[0]


def _numbered_run(output: OutputDir, number: str) -> ReportRun:
    runs = list_runs(output)
    for run in runs:
        if run.number == number:
            return run
    known = ", ".join(sorted({run.number for run in runs if run.number and not run.cleaned}, key=int))
    raise UserError(f"{output.root} has no report {number}; there are {known or 'none'}")


def _known_run(path: Path) -> ReportRun | None:
    """Returns the run of a folder of ReportGen's in an output folder, there or cleaned; None outside of one."""
    folder = path.resolve()
    for output in map(OutputDir, folder.parents):
        for run in list_runs(output) if output.pipeline_root.is_dir() else ():
            if run.facts_path and Path(run.facts_path).resolve().parent == folder:
                return run
    return None


def _newest_output() -> OutputDir:
    outputs = [output for output in map(OutputDir, DEFAULT_OUTPUT.glob("*")) if output.metadata_path.exists()]
    if not outputs:
        raise UserError(f"{DEFAULT_OUTPUT}: holds no run; run python -m pipeline.run_local first, or name a folder")
    return max(outputs, key=lambda output: output.metadata_path.stat().st_mtime)


def _exists(path: str) -> bool:
    return gfile.exists(path) if "://" in path else Path(path).exists()


def _read_account(path: str) -> Account:
    try:
        content = read_json(path)
        if isinstance(content, dict) and content.get("version") != ACCOUNT_VERSION:
            raise UserError(
                f"{path}: was written by another version of ReportGen; open the report.html beside it, or run the"
                " pipeline again"
            )
        return account_from_json(content)
    except ValueError as error:
        raise UserError(f"{path}: is damaged ({' '.join(str(error).split())}); run the pipeline again") from None


def _account_of_evaluation(uri: str, name: str) -> Account:
    from tfx.types import standard_component_specs as specs

    from components.report_gen.facts import Sources, make_account
    from components.report_gen.settings import ReportSettings

    try:
        return make_account(Sources(name, {specs.EVALUATION_KEY: uri}), ReportSettings())
    except (ValueError, OSError, KeyError) as error:
        raise UserError(f"{uri}: TFMA cannot read an evaluation there: {' '.join(str(error).split())}") from None
