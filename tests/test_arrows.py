"""Imports point one way: pipeline -> components -> data."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.count_code import count

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "data": {"components", "pipeline", "tfx", "tests"},
    "components": {"pipeline", "tests"},
    "pipeline": {"tests"},
}
FORBIDDEN_NAMES = {"utils.py", "helpers.py", "common.py", "misc.py"}


def imported_roots(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_point_one_way(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imported_roots(path.read_text(encoding="utf-8"))
        if name in FORBIDDEN[package]
    }
    assert not wrong


def test_the_check_sees_every_form_of_import() -> None:
    source = "import tfx.v1 as tfx\ndef f():\n    from pipeline.config import load_config\n"
    assert list(imported_roots(source)) == ["tfx", "pipeline"]


def test_every_module_is_named_after_one_idea_and_fits_on_a_few_screens() -> None:
    files = [path for package in FORBIDDEN for path in (ROOT / package).rglob("*.py")]
    assert not [path for path in files if path.name in FORBIDDEN_NAMES]
    assert not [path for path in files if len(path.read_text(encoding="utf-8").splitlines()) > 300]


def test_lines_of_code_are_counted_without_comments_and_docstrings() -> None:
    source = '"""A module,\nof two lines."""\n\n# Why.\nx = [\n    1,  # one\n\n    """text""",\n]\n"""Of x."""\n'
    assert count(source) == (4, 3)
