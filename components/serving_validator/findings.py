"""What the validator found: one line a check, kept as JSON in the blessing for the summary and the report."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from data.json_files import read_json, write_json

FINDINGS_FILE = "findings.json"
"""In the `blessing` artifact: `{"blessed": bool, "findings": [Finding, ...], "measured": {name: number}}`."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: what was looked at, e.g. `signatures`, `labels`, `colour_order`.
        passed: whether the model may be pushed as far as this check goes.
        message: one line for a person: what was found, and where it failed what was expected.
        value: what was measured, where the check has a bound; else None.
        bound: what the value must not exceed; None where nothing bounds it.
    """

    check: str
    passed: bool
    message: str
    value: float | None = None
    bound: float | None = None


def write_findings(uri: str, findings: Sequence[Finding], measured: dict[str, float]) -> None:
    """Writes `FINDINGS_FILE` into a local or remote folder.

    Args:
        uri: of the blessing.
        findings: all of them.
        measured: figures that have no bound to keep, such as `latency_p50_ms`.
    """
    content = {
        "blessed": all(finding.passed for finding in findings),
        "findings": [asdict(finding) for finding in findings],
        "measured": measured,
    }
    write_json(os.path.join(uri, FINDINGS_FILE), content)


def read_findings(uri: str) -> dict[str, Any]:
    """Returns what `write_findings` wrote, with each finding as a dictionary."""
    return read_json(os.path.join(uri, FINDINGS_FILE))
