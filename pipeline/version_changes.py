"""What `rollback` and `promote` do and tell, of a folder of pushed versions and of what is served elsewhere alike."""

import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.evaluator.rollback import Rollback
from data.errors import UserError
from pipeline.command_line import user_name

if TYPE_CHECKING:
    import argparse

    from pipeline.rollbacks import Blessings, Versions

ROLLBACK, PROMOTE = "rollback", "promote"


@dataclass(frozen=True)
class Change:
    """What a person asks for.

    Attributes:
        act: `rollback` or `promote`.
        number: of a rollback, the version that is to be served, or None for the one before; else which comes back.
        yes: whether to do it, not only to say so.
        reason: why, in words.
        who: who decided; empty for the person at the keyboard.
        make_hint: the command that does it, with the version of a rollback.
    """

    act: str
    number: int | None
    yes: bool
    reason: str
    who: str
    make_hint: Callable[[int | None], str]


def add_change_flags(rollback: "argparse._ActionsContainer", both: "Sequence[argparse._ActionsContainer]") -> None:
    """Adds what tells of a rollback, and to both acts `--yes`."""
    rollback.add_argument("--reason", default="", metavar="TEXT", help="why; it is kept, and shown from then on")
    rollback.add_argument("--who", default="", metavar="NAME", help="who decided (default: you)")
    for act in both:
        act.add_argument("--yes", action="store_true", help="do it, not only say so")


def change(wanted: Change, versions: "Versions", blessings: "Blessings | None") -> list[str]:
    """Does what is asked for, or only looks, and returns what is told of it.

    Raises:
        UserError: it cannot be done.
    """
    from pipeline.rollbacks import go_on

    journal = versions.read_journal()
    lines = []
    if journal.act:
        moved = ", ".join(map(str, journal.versions))
        if not wanted.yes:
            return [f"  a {journal.act} of {moved} was interrupted; {wanted.make_hint(None)} finishes it"]
        go_on(versions, journal, blessings)
        lines.append(f"  finished  the {journal.act} of {moved}, which was interrupted")
        # Of a rollback that names no version nobody can say whether it means one more.
        again = wanted.number is None or (wanted.act == PROMOTE and journal.versions == (wanted.number,))
        if journal.act == wanted.act and again:
            return lines
    return [*lines, *(_roll_back if wanted.act == ROLLBACK else _promote)(wanted, versions, blessings)]


def _roll_back(wanted: Change, versions: "Versions", blessings: "Blessings | None") -> list[str]:
    from pipeline.rollbacks import find_target, start_rollback

    to, leaving = find_target(versions, wanted.number)
    if not leaving:
        return [f"  {to} is served; there is nothing to roll back"]
    lines = [f"  aside     {', '.join(map(str, leaving))}", f"  served    {to}", *_tell(versions, blessings, leaving)]
    if not wanted.yes:
        return [*lines, f"nothing was changed; {wanted.make_hint(to)} does it"]
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    why = Rollback(" ".join(wanted.reason.split()), wanted.who or user_name(), now)
    start_rollback(versions, versions.read_journal(), blessings, leaving, why)
    return lines


def _promote(wanted: Change, versions: "Versions", blessings: "Blessings | None") -> list[str]:
    from pipeline.rollbacks import check_promotion, start_promotion

    journal, number = versions.read_journal(), wanted.number
    if number is None:
        if not journal.aside:
            raise UserError(f"{versions.root}: no version was rolled back, so that there is none to promote")
        number = max(journal.aside)
    check_promotion(versions, journal, blessings, number)
    served = max([number, *versions.list()[0]])
    lines = [f"  back      {number}", f"  served    {served}" + (", which is newer" if served != number else "")]
    lines += _tell(versions, blessings, [number])
    if not wanted.yes:
        return [*lines, f"nothing was changed; {wanted.make_hint(number)} does it"]
    start_promotion(versions, journal, blessings, number)
    return lines


def _tell(versions: "Versions", blessings: "Blessings | None", numbers: Sequence[int]) -> Iterator[str]:
    """Yields a line for each version, on whether a blessing goes with it."""
    for number in numbers:
        models = sorted(blessings.find_models(versions.served_path(number))) if blessings else []
        if blessings and models:
            yield f"  blessing  of {number}, {', '.join(map(blessings.describe_model, models))}"
        elif blessings:
            yield f"  blessing  not of {number}: no run of {blessings.place} is known to have pushed it"
        else:
            vertex = "; of a run on Vertex AI: --project and --region" if versions.root.startswith("gs://") else ""
            yield (
                f"  blessing  not of {number}: the metadata of its run are not at hand (--output-dir{vertex}), so that"
                " for the next run's baseline nothing changes"
            )
