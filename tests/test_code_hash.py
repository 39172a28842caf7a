"""The hash of a node's code follows its imports, and nothing else."""

import shutil
from pathlib import Path

import pytest

import components
import data
from components import code_hash
from components.code_hash import import_closure, make_code_hash


@pytest.fixture
def copied_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for package in (components, data):
        source = Path(package.__path__[0])
        shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_hash, "_ROOTS", {"components": tmp_path / "components", "data": tmp_path / "data"})
    return tmp_path


def append_comment(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")


def test_closure_holds_what_is_imported_directly_and_not() -> None:
    closure = import_closure("components.transform.preprocessing")
    assert {"components.transform.preprocessing", "components.transform.resize", "data.decode"} <= set(closure)
    assert not [name for name in closure if name.startswith("components.trainer")]


def test_hash_does_not_depend_on_the_place(copied_packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = make_code_hash("components.transform.preprocessing")
    monkeypatch.undo()
    assert make_code_hash("components.transform.preprocessing") == elsewhere


@pytest.mark.parametrize(
    ("edited", "changed", "unchanged"),
    [
        ("data/decode.py", {"components.transform.preprocessing"}, set()),
        ("components/trainer/model.py", {"components.trainer.run_fn"}, {"components.transform.preprocessing"}),
        ("components/transform/__init__.py", {"components.transform.preprocessing"}, set()),
        (
            "data/sources/digits.py",
            {"components.image_example_gen.executor"},
            {"components.trainer.run_fn", "components.transform.preprocessing", "components.evaluator.executor"},
        ),
    ],
)
def test_an_edit_changes_only_the_nodes_that_reach_it(
    copied_packages: Path, edited: str, changed: set[str], unchanged: set[str]
) -> None:
    before = {name: make_code_hash(name) for name in changed | unchanged}
    append_comment(copied_packages / edited)
    after = {name: make_code_hash(name) for name in changed | unchanged}
    assert {name for name in before if before[name] != after[name]} == changed


def test_a_module_outside_our_packages_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pipeline\.config is not a module of components or data"):
        make_code_hash("pipeline.config")


def test_the_lane_counts_in_every_node_and_so_in_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = ("components.image_example_gen.executor", "components.transform.executor", "components.trainer.run_fn")
    here = [make_code_hash(module) for module in modules]
    monkeypatch.setattr(code_hash, "installed_lane", lambda: "tfx-9.9")
    other = [make_code_hash(module) for module in modules]
    assert len({*here, *other}) == 6
