"""What is known of each pushed version: from its folder, from the record of rollbacks, from the run that made it."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from components.evaluator.rollback import Rollback
from components.exported_model.manifest import read_classes
from data.errors import UserError
from pipeline.model_blessings import ModelBlessings
from pipeline.pushed_versions import PushedVersions
from pipeline.report_runs import ReportRun, list_runs
from pipeline.rollbacks import Journal


@dataclass(frozen=True)
class ModelVersion:
    """One version; what nobody recorded is None.

    Attributes:
        number: the version.
        path: its folder.
        served: whether it is the one that servers take: the highest that is not set aside.
        rolled_back: why it is set aside.
        interrupted: `rollback` or `promote` if that was interrupted, and is to be started again; else "".
        pushed: when, in local time.
        classes: their names.
        accuracy: on the test split of its run, 0..1.
        run: the number of that run's report.
        started: when that run began, in local time.
        model: the folder of its `model` artifact, from the output folder.
    """

    number: int
    path: str
    served: bool
    rolled_back: Rollback | None
    interrupted: str
    pushed: datetime.datetime | None
    classes: list[str] | None
    accuracy: float | None
    run: str | None
    started: datetime.datetime | None
    model: str | None

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON types; times are ISO 8601 with their offset."""
        content = {key: value for key, value in self.__dict__.items() if key != "number"}
        for key in ("pushed", "started"):
            content[key] = content[key] and content[key].astimezone().isoformat(timespec="seconds")
        rolled_back = self.rolled_back and self.rolled_back.to_json()
        return {"version": self.number, **content, "rolled_back": rolled_back}


def list_versions(
    versions: PushedVersions, journal: Journal, blessings: ModelBlessings | None
) -> Iterator[ModelVersion]:
    """Yields all versions of a folder, the newest first.

    Args:
        versions: the folder.
        journal: its record.
        blessings: of the output folder whose runs pushed there, if that is at hand.
    """
    served, aside = versions.list()
    runs = _find_runs(blessings) if blessings else {}
    both = [(number, False) for number in served] + [(number, True) for number in aside]
    # Interrupted in a bucket, one may lie in both places: it is where servers see it.
    seen: set[int] = set()
    for number, is_aside in sorted(both, key=lambda one: (-one[0], one[1])):
        if number in seen:
            continue
        seen.add(number)
        path = versions.aside_path(number) if is_aside else versions.served_path(number)
        models = blessings.find_models(versions.served_path(number)) if blessings else set()
        run = runs.get(versions.served_path(number))
        yield ModelVersion(
            number=number,
            path=path,
            served=bool(served) and not is_aside and number == served[0],
            rolled_back=journal.aside.get(number) if is_aside or number in journal.versions else None,
            interrupted=journal.act if number in journal.versions else "",
            pushed=versions.find_pushed_time(number, path),
            classes=_find_classes(path),
            accuracy=_find_accuracy(run) if run else None,
            run=(run.number or None) if run else None,
            started=run.record.started if run and run.record else None,
            model=blessings.describe_model(min(models)) if blessings and models else None,
        )


def _find_classes(path: str) -> list[str] | None:
    try:
        return read_classes(path)
    except (ValueError, OSError, tf.errors.OpError):  # not of this project, or not whole
        return None


def _find_runs(blessings: ModelBlessings) -> dict[str, ReportRun]:
    """Returns the folder of each version -> the first run that came to it; later ones had it from cache."""
    output = blessings.output
    pushed = {
        output.rebase(artifact.uri): path
        for path, artifacts in blessings.find_pushes().items()
        for artifact in artifacts
    }
    found: dict[str, ReportRun] = {}
    for run in list_runs(output):  # the latest first
        uri = run.record.uris.get(("Pusher", "pushed_model")) if run.record else None
        if uri in pushed:
            found[pushed[uri]] = run
    return found


def _find_accuracy(run: ReportRun) -> float | None:
    try:
        account = run.load_account()
    except UserError:  # cleaned, or of another version of ReportGen
        return None
    return next((figure.value for figure in account.headline if figure.name == "accuracy"), None)
