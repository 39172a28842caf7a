"""Rolls versions back and promotes them again, in steps that can be gone on with from wherever they were stopped.

A version is served without a blessing in between, never blessed without being served: that one the Pusher of the next
run would push again.
"""

import builtins
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from components.evaluator.rollback import Rollback
from data.errors import UserError
from pipeline.version_changes import PROMOTE, ROLLBACK


@dataclass(frozen=True)
class Journal:
    """What was rolled back, and what is under way: written before anything is moved, so that it can be gone on with.

    Attributes:
        aside: version to why it is, or is to be, set aside.
        act: `rollback` or `promote` while one is under way, else "".
        versions: that it moves, in the order in which it does.
        output_dir: the output folder whose blessings it changes, "" without one.
    """

    aside: dict[int, Rollback] = field(default_factory=dict)
    act: str = ""
    versions: tuple[int, ...] = ()
    output_dir: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        under_way = {"act": self.act, "versions": list(self.versions), "output_dir": self.output_dir}
        aside = {str(number): rollback.to_json() for number, rollback in sorted(self.aside.items())}
        return {"aside": aside, "under_way": under_way if self.act else None}


class Versions(Protocol):
    """Where versions of a model are served: a folder (`PushedVersions`), or an endpoint."""

    @property
    def root(self) -> str:
        """What it is called."""

    def list(self) -> tuple[builtins.list[int], builtins.list[int]]:
        """Returns the versions that may be served, the first of which is, and those set aside, the newest first."""

    def same_model(self, first: int, second: int) -> bool:
        """Says whether two versions are copies of one model."""

    def served_path(self, number: int) -> str:
        """Returns what a version is known by to the blessings."""

    def aside_path(self, number: int) -> str:
        """Returns what a version that is set aside is called."""

    def read_journal(self) -> Journal:
        """Returns what was rolled back, and what is under way."""

    def begin(self, journal: Journal) -> None:
        """Makes ready, and records, what is about to be done; where it fails, nothing has changed."""

    def write_journal(self, journal: Journal) -> None:
        """Records what was done."""

    def set_aside(self, number: int) -> None:
        """Takes a version out of service."""

    def bring_back(self, number: int) -> None:
        """Undoes that."""


class Blessings(Protocol):
    """Where the verdicts on models are kept: an output folder (`ModelBlessings`), or Vertex AI's metadata."""

    @property
    def place(self) -> str:
        """What it is called."""

    def find_models(self, version_path: str, /) -> Iterable[Any]:
        """Returns the ids of what was pushed as a version."""

    def describe_model(self, model_id: Any, /) -> str:
        """Returns where a model lies."""

    def is_blessed(self, model_id: Any, /) -> bool:
        """Says whether a model passed all gates, a person's rollback aside."""

    def take_back(self, model_id: Any, rollback: Rollback, /) -> None:
        """Refuses a blessed model after all; done again, it changes nothing more."""

    def give_back(self, model_id: Any, /) -> None:
        """Undoes `take_back`."""


def find_target(versions: Versions, to: int | None) -> tuple[int, list[int]]:
    """Says what a rollback does.

    Args:
        versions: the folder.
        to: the version that is to be served; None for the newest that is another model than the one served.

    Returns:
        The version that is then served, and those that are set aside, the oldest first: servers keep the newest until
        the last moment, and load none of those between. Nothing is set aside where the version is served already.

    Raises:
        UserError: there is none to go back to, or the one that was named is none.
    """
    served, aside = versions.list()
    if not served:
        raise UserError(f"{versions.root}: no version is served, so that there is none to roll back")
    others = [number for number in served[1:] if not versions.same_model(served[0], number)]
    if to is None:
        if not others:
            more = f"; {aside[0]} is set aside: promote that first" if aside else "; push another model first"
            raise UserError(
                f"{versions.root}: version {served[0]} is the only model that is served; nothing would be left{more}"
            )
        to = others[0]
    if to in aside and to not in served:
        raise UserError(f"--to {to}: is set aside itself; promote it")
    if to not in served:
        raise UserError(f"--to {to}: is no version in {versions.root}; there are {_listed(served)}")
    leaving = [number for number in reversed(served) if number > to]
    if same := [number for number in leaving if versions.same_model(number, to)]:
        instead = f"; choose one of {_listed(others)}" if others else ""
        raise UserError(f"--to {to}: is a copy of the very model of version {same[0]}, which would go{instead}")
    for number in leaving:
        if number in aside:
            raise UserError(f"{versions.aside_path(number)}: is there already; move it away, and run again")
    return to, leaving


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"


def check_promotion(versions: Versions, journal: Journal, blessings: Blessings | None, number: int) -> None:
    """Looks whether a version can be promoted.

    Raises:
        UserError: it is not set aside, or no gate ever passed it.
    """
    served, aside = versions.list()
    if number in served:
        raise UserError(f"{number}: is not set aside, so that there is nothing to promote")
    if number not in aside or number not in journal.aside:
        known = [one for one in aside if one in journal.aside]
        raise UserError(f"{number}: was not rolled back in {versions.root}; set aside are {_listed(known)}")
    models = blessings.find_models(versions.served_path(number)) if blessings else set()
    if blessings and models and not any(map(blessings.is_blessed, models)):
        raise UserError(f"{number}: its model was never blessed; only one that passed all gates is served")


def start_rollback(
    versions: Versions, journal: Journal, blessings: Blessings | None, leaving: list[int], why: Rollback
) -> None:
    """Sets versions aside.

    Args:
        versions: the folder, locked.
        journal: its record.
        blessings: of the output folder whose runs pushed there, locked; None where that is not at hand.
        leaving: the versions, in the order in which they go.
        why: what is recorded.
    """
    aside = {**journal.aside, **dict.fromkeys(leaving, why)}
    started = Journal(aside, ROLLBACK, tuple(leaving), _output_of(blessings))
    versions.begin(started)
    go_on(versions, started, blessings)


def start_promotion(versions: Versions, journal: Journal, blessings: Blessings | None, number: int) -> None:
    """Brings a version back; the arguments are those of `start_rollback`."""
    started = Journal(journal.aside, PROMOTE, (number,), _output_of(blessings))
    versions.begin(started)
    go_on(versions, started, blessings)


def _output_of(blessings: Blessings | None) -> str:
    return blessings.place if blessings else ""


def go_on(versions: Versions, journal: Journal, blessings: Blessings | None) -> None:
    """Does what is under way, from wherever it was stopped; each step, done again, changes nothing.

    Raises:
        UserError: it began with an output folder that is not at hand now.
    """
    if journal.output_dir and blessings is None:
        raise UserError(
            f"{versions.root}: a {journal.act} was interrupted that changes blessings in {journal.output_dir}; give"
            " that with --output-dir, or a project with --project and --region"
        )
    if journal.act == ROLLBACK:
        for number in journal.versions:
            if blessings:
                for model in blessings.find_models(versions.served_path(number)):
                    blessings.take_back(model, journal.aside[number])
        for number in journal.versions:
            versions.set_aside(number)
        versions.write_journal(Journal(journal.aside))
        return
    for number in journal.versions:
        versions.bring_back(number)
        if blessings:
            for model in blessings.find_models(versions.served_path(number)):
                blessings.give_back(model)
    kept = {number: why for number, why in journal.aside.items() if number not in journal.versions}
    versions.write_journal(Journal(kept))
