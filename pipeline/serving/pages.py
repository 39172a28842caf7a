"""The pages for people: one to try the model, one that shows the description of the server; neither asks any host."""

from pathlib import Path
from typing import Any

import jinja2

from pipeline.serving.limits import Limits
from pipeline.serving.versions import Version

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


def render_page(name: str, version: Version, limits: Limits) -> str:
    """Returns the page to try the model."""
    classes = version.model.manifest.classes if version.model.manifest else ()
    return _TEMPLATES.get_template("page.html").render(
        name=name, version=version.number, classes=classes, limits=limits, explains=version.model.can_explain
    )


def render_docs(openapi: dict[str, Any]) -> str:
    """Returns a page that shows a description of the server."""
    operations = [
        (method.upper(), path, operation)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]
    return _TEMPLATES.get_template("docs.html").render(openapi=openapi, operations=operations)
