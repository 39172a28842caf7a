"""Turns facts into the page: one HTML file that asks no host for anything."""

import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from components.model_converter.record import describe_conditions
from components.report_gen import figures, numbers, training_text
from components.report_gen.account import Account
from components.report_gen.decisions import decision_lines
from components.report_gen.model_card import corrected_text, make_card, shortcut_text
from data.corrections import describe_corrections

TEMPLATES_DIR = Path(__file__).parent / "templates"
_TABLE_CONFUSIONS = 15


def render_page(account: Account) -> str:
    """Returns the report's HTML; who knows durations and lineage may have filled in the account's `run`."""
    environment = make_environment()
    cells = sorted((cell for cell in account.matrix["cells"] if cell[0] != cell[1]), key=lambda cell: -cell[2])
    embedded = {key: getattr(account, key) for key in ("matrix", "test_images", "thumbnails", "heat")}
    return environment.get_template("report.html.j2").render(
        vars(account),
        card=make_card(account),
        embedded=_embed(embedded),
        confusions=cells[:_TABLE_CONFUSIONS],
        mistakes_count=sum(cell[2] for cell in cells),
        slice_columns=_columns([row["metrics"] for row in account.slices["by_label"]]),
        figures=figures,
        training_text=training_text,
        corrected_text=corrected_text,
        decision_lines=list(decision_lines(account.decisions)),
        shortcut_text=shortcut_text,
        describe_corrections=describe_corrections,
        describe_conditions=describe_conditions,
    )


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    """Returns the names that have a value in some row: macro averages have none in a slice of one class."""
    return list(dict.fromkeys(name for row in rows for name, value in row.items() if value is not None))


def make_environment() -> jinja2.Environment:
    """Returns the templates' environment: everything is escaped, and a name that does not exist is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES_DIR),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=numbers.format_number,
        change=numbers.format_change,
        interval=numbers.format_interval,
        change_interval=numbers.format_change_interval,
        count=numbers.format_count,
    )
    environment.globals["asset"] = _read_asset
    return environment


def _read_asset(name: str) -> Markup:
    """Returns a style sheet or script of the templates' folder as it is."""
    return Markup((TEMPLATES_DIR / name).read_text(encoding="utf-8"))


def _embed(value: Any) -> Markup:
    """Returns JSON that may stand in a script element: nothing in it ends the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))
