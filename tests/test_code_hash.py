"""The hash of a node's code follows what its imports mean, and nothing else."""

import shutil
from pathlib import Path

import pytest

import components
import data
from components import code_hash
from components.code_hash import hash_source, import_closure, make_code_hash
from pipeline.config import load_config
from tests.test_create_pipeline import nodes

EXAMPLE_GEN = "components.image_example_gen.executor"
PREPROCESSING = "components.transform.preprocessing"
TRAINER = "components.trainer.run_fn"
TUNER = "components.tuner.tuner_fn"
DRIFT = "components.drift_validator.component"
SERVING = "components.serving_validator.component"
EVALUATOR = "components.evaluator.executor"
PUSHER = "components.pusher.executor"
PREDICTOR = "components.predictor.component"
CONVERTER = "components.model_converter.component"
REPORT = "components.report_gen.executor"
NODES = (EXAMPLE_GEN, PREPROCESSING, TRAINER, TUNER, DRIFT, SERVING, EVALUATOR, PUSHER, PREDICTOR, CONVERTER, REPORT)
"""In the order of the graph, but for the Tuner, which runs the Trainer's code."""

SAMPLE = r'''
"""A bit of everything that Pythons write down in different ways."""
from __future__ import annotations

import os.path as paths, sys
from . import sibling

LIMIT: int = 1_000  # a comment
"""An attribute's docstring."""
plain, floating, imaginary, raw, old = -1, 1e-5, 2.5j, b"\x00\xff", u"kind"
nothing, ellipsis, huge, far = None, ..., 1e999, "\U0001fae8 \N{LATIN SMALL LETTER E WITH ACUTE} é"
joined = "one " 'two ' \
    f"three {plain}" " four" f"" f"{LIMIT!r:>{plain + 1}}{{}} {floating:.2f} {far=} {far = !s:^9}" "" f"{old:}"
nested = f"{', '.join(f'{key}={value!a}' for key, value in {}.items())}" rf"\d{{{plain}}}\n" f"{(lambda x: x)(1)}"
shown = f"""{
    plain
    :>3} lines {plain if nothing is not None else {'a': 1}['a']}"""


@sibling.register("name", *[], **{"key": None})
@(lambda cls: cls)
class Node(dict, metaclass=type, flag=True):
    """Its docstring."""

    size: list[int | None] = [1, 2]
    """Of an attribute."""
    empty: "str"

    def method(self, a, /, b: int = 1, *args: str, c, d=None, **kwargs) -> tuple[int, ...]:
        """Of a method."""
        global LIMIT
        LIMIT += 1  # type: ignore
        return *args, a if b else c, d

    async def wait(self):
        async with self as one, other as (two, *rest):
            yield [item async for item in one if await item]
        async for _ in rest:
            continue
        else:
            return


def work(values, table):
    total = 0

    def add():
        nonlocal total
        total -= (size := len(values)) ** 2 // 3 @ 1
        return {**table, size: None}, {*values, 1}, {key: 0 for key in table}

    table[1:2, ::3, ..., (*values, 1)] = values[(*values,)] = not 1 < total <= 3 != ~4 in values
    try:
        with (open("a") as file, open("b")):
            del table[0], file
    except (OSError, ValueError) as error:
        raise RuntimeError from error
    except:
        pass
    else:
        assert total, f"no {total}"
    finally:
        while True:
            break
    for index, *others in values:
        print(*others, sep="", **table)
    match values:
        case [1, *_] | (-2.5 | "text", _):
            return add
        case {"key": [first, *rest], **others} if first and rest or others:
            return lambda x, *, y=1: (x, y)
        case Node(size=None | True, empty=_) | dict():
            return add()
        case sibling.VALUE as value:
            return value
        case other:
            return await_later
'''
RECORDED = "f6a11b0faa202c473115bb22292098b426ca5812ebfcf1169963c3c71bae9de4"
RECORDED_WITH_DOCSTRINGS = "62b14f248e84c9c4b72e9e180bebb3a1bdaaf86bef1e597622d64cd0f34b8255"
"""Made with Python 3.10.13; 3.11.2, 3.11.7, 3.12.1, 3.12.10 and 3.13.0 gave the same."""


@pytest.fixture
def copied_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for package in (components, data):
        source = Path(package.__path__[0])
        shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_hash, "_ROOTS", {"components": tmp_path / "components", "data": tmp_path / "data"})
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    """Puts `new` in the place of `old`; without one, at the end."""
    text = path.read_text(encoding="utf-8")
    assert not old or text.count(old) == 1, f"{path.name} has {old!r} {text.count(old)} times"
    path.write_text(text.replace(old, new) if old else text + new, encoding="utf-8")


def test_all_pythons_give_the_same_hash() -> None:
    assert hash_source(SAMPLE.encode()) == RECORDED
    assert hash_source(SAMPLE.encode(), docstrings=True) == RECORDED_WITH_DOCSTRINGS


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # a comment", ""),
        ("1_000", "1000"),
        ("'two ' \\\n", '"two "'),
        ('"""An attribute\'s docstring."""', '"""Another."""'),
        ('"""Its docstring."""', ""),
        ("    try:", "    # why\n\n    try:"),
    ],
)
def test_comments_layout_and_docstrings_mean_nothing(old: str, new: str) -> None:
    assert old in SAMPLE
    assert hash_source(SAMPLE.replace(old, new).encode()) == hash_source(SAMPLE.encode())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1_000", "1000.0"),
        ("-1, 1e-5", "-1, 2e-5"),
        ("nothing, ellipsis", "ellipsis, nothing"),
        (" four", " Four"),
        (" + 1}}{{}}", " + 1}}"),
        (":.2f", ":.3f"),
        ("{far=}", "{far}"),
        ("d=None", "d"),
        ('"key": None}', '"key": False}'),
        ("None | True", "False | True"),
        ("not 1 <", "1 <"),
        ("sep=", "end="),
        ("async for _ in rest", "for _ in rest"),
        ("[1, *_]", "[1, _]"),
        ("(*values, 1)]", "(values, 1)]"),
        ("from . import", "from .. import"),
    ],
)
def test_everything_else_means_something(old: str, new: str) -> None:
    assert SAMPLE.count(old) == 1
    assert hash_source(SAMPLE.replace(old, new).encode()) != hash_source(SAMPLE.encode())


def test_closure_holds_what_is_imported_directly_and_not() -> None:
    closure = import_closure(PREPROCESSING)
    assert {PREPROCESSING, "components.transform.resize", "data.decode"} <= set(closure)
    assert not [name for name in closure if name.startswith("components.trainer")]


def test_no_node_imports_what_a_later_one_computes() -> None:
    folders = [node.split(".")[1] for node in NODES]
    imported = {node: {name.split(".")[1] for name in import_closure(node) if name.count(".") > 1} for node in NODES}
    later = {node: imported[node] & {*folders[index + 1 :]} for index, node in enumerate(NODES)}
    assert not {node: found for node, found in later.items() if found}
    assert [node for node in NODES if "data.settings" in import_closure(node)] == [EXAMPLE_GEN]


def test_hash_does_not_depend_on_the_place(copied_packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = make_code_hash(REPORT)
    monkeypatch.undo()
    assert make_code_hash(REPORT) == elsewhere


@pytest.mark.parametrize(
    ("edited", "old", "new", "changed"),
    [
        # Texts for people: of a setting, of a function, a comment.
        ("components/trainer/settings.py", "Images in a training step", "How many images in a step", set()),
        ("components/trainer/temperature.py", "Within 0.5 to 5", "From 0.5 to 5", set()),
        ("components/trainer/temperature.py", "", "\n# edited\n", set()),
        # What another node computes or takes.
        ("data/settings.py", "eval_share: Share = 0.1", "eval_share: Share = 0.2", {EXAMPLE_GEN}),
        ("components/evaluator/settings.py", "min_change=-0.01", "min_change=-0.02", {EVALUATOR}),
        ("components/evaluator/executor.py", "", "EDITED = 1\n", {EVALUATOR}),
        ("components/tuner/settings.py", "Field(default=8", "Field(default=9", {TUNER}),
        ("components/report_gen/settings.py", "default=1400", "default=1500", {REPORT}),
        ("components/report_gen/templates/report.css", "", "p {}\n", {REPORT}),
        # What the Trainer computes, with what is tried before it and who reads its models.
        (
            "components/trainer/temperature.py",
            "_PRIOR_DEVIATION = 0.5",
            "_PRIOR_DEVIATION = 0.4",
            {TRAINER, TUNER, REPORT, SERVING},
        ),
        ("components/trainer/run_fn.py", "", "EDITED = 1\n", {TRAINER}),
        (
            "components/transform/resize.py",
            "tf.round(resized)",
            "tf.floor(resized)",
            {PREPROCESSING, TRAINER, SERVING, REPORT},
        ),
        ("components/tuner/__init__.py", "", "import os\n", {TUNER, REPORT}),
        ("data/decode.py", "INTEGER_ACCURATE", "INTEGER_FAST", {EXAMPLE_GEN, PREPROCESSING, SERVING, CONVERTER}),
    ],
)
def test_an_edit_changes_the_nodes_whose_meaning_it_changes(
    copied_packages: Path, edited: str, old: str, new: str, changed: set[str]
) -> None:
    before = {name: make_code_hash(name) for name in NODES}
    edit(copied_packages / edited, old, new)
    assert {name for name in NODES if before[name] != make_code_hash(name)} == changed


def test_an_edited_source_re_runs_the_node_that_reads_it_and_no_other_source_s(copied_packages: Path) -> None:
    graphs = [load_config("digits", overrides=[f"data.source={source}"]) for source in ("digits", "cifar10")]
    before = [nodes(config) for config in graphs]
    edit(copied_packages / "data/sources/digits.py", "", "EDITED = 1\n")
    after = [nodes(config) for config in graphs]
    changed = [{name for name in old if old[name] != new[name]} for old, new in zip(before, after, strict=True)]
    assert changed == [{"ImageExampleGen"}, set()]


def test_an_edited_client_of_formats_runs_their_node_again(copied_packages: Path) -> None:
    config = load_config("digits", overrides=["export.formats=[onnx]"])
    before = nodes(config)
    edit(copied_packages / "components/model_converter/classify.py", "", "EDITED = 1\n")
    after = nodes(config)
    assert {name for name in before if before[name] != after[name]} == {"ModelConverter"}


@pytest.mark.parametrize(
    ("code", "reads"),
    [
        ("print(__doc__)", True),
        ("from inspect import getdoc", True),
        ("print([field.description for field in TrainerSettings.model_fields.values()])", True),
        ("print(TrainerSettings.model_json_schema())", True),
        ("print(anomaly.description)", False),
    ],
)
def test_docstrings_count_where_code_reads_them(copied_packages: Path, code: str, reads: bool) -> None:
    edit(copied_packages / "components/trainer/start.py", "", code)
    before = make_code_hash(TRAINER)
    edit(copied_packages / "components/trainer/settings.py", "Images in a training step", "How many images in a step")
    assert (make_code_hash(TRAINER) != before) == reads


def test_a_file_that_a_node_reads_counts_by_name_and_bytes(copied_packages: Path) -> None:
    templates = copied_packages / "components" / "report_gen" / "templates"
    hashes = [make_code_hash(REPORT)]
    edit(templates / "report.css", "", "/* a comment */")
    hashes.append(make_code_hash(REPORT))
    (templates / "report.css").rename(templates / "other.css")
    hashes.append(make_code_hash(REPORT))
    (templates / "new.html.j2").touch()
    hashes.append(make_code_hash(REPORT))
    assert len(set(hashes)) == 4
    (templates / ".report.css.swp").touch()  # an editor's
    assert make_code_hash(REPORT) == hashes[-1]


def test_a_module_outside_our_packages_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pipeline\.config is not a module of components or data"):
        make_code_hash("pipeline.config")


def test_the_lane_counts_in_every_node_and_so_in_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    here = [make_code_hash(module) for module in NODES]
    monkeypatch.setattr(code_hash, "installed_lane", lambda: "tfx-9.9")
    other = [make_code_hash(module) for module in NODES]
    assert len({*here, *other}) == 2 * len(NODES)
