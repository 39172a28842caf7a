"""`python -m pipeline.models`: what goes aside, what the next run makes of it, what comes back, and interruptions."""

import json
import shutil
from pathlib import Path

import pytest

from components.evaluator.refusals import find_refusals, read_refusals
from pipeline import models
from tests.small_runs import Folder, make_facts

GOLDEN = json.loads((Path(__file__).parent / "golden" / "vertex_digits.json").read_text(encoding="utf-8"))
WHY = ["--reason", "confuses 3 and 8", "--who", "Anna"]


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_facts(tmp_path_factory.mktemp("facts"))


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory, facts: str) -> Folder:
    """An output folder with two pushed models; nobody changes it."""
    folder = Folder(tmp_path_factory.mktemp("runs") / "out", facts)
    folder.run(1)
    folder.run(2, images=2)
    return folder


@pytest.fixture
def folder(two_runs: Folder, tmp_path: Path, facts: str) -> Folder:
    """A copy of it: ML Metadata names the folder that it was copied from, as in a folder that somebody moved."""
    shutil.copytree(two_runs.output.root, tmp_path / "out")
    return Folder(tmp_path / "out", facts)


@pytest.fixture
def ours(tmp_path: Path, facts: str) -> Folder:
    """An output folder with two pushed models, in which runs go on from cache."""
    folder = Folder(tmp_path / "out", facts)
    folder.run(1)
    folder.run(2, images=2)
    return folder


def run(*arguments: object) -> int:
    return models.main([str(argument) for argument in arguments])


def blessings(folder: Folder) -> list[tuple[int, str]]:
    """Returns property and file of each blessing, in the order of the models."""
    found = [artifact for artifact in folder.artifacts() if artifact.type == "ModelBlessing"]
    return [
        (
            one.custom_properties["blessed"].int_value,
            *(path.name for path in Path(folder.output.rebase(one.uri)).iterdir()),
        )
        for one in sorted(found, key=lambda one: one.id)
    ]


def evaluations(folder: Folder) -> list[dict[str, str]]:
    root = folder.output.pipeline_root
    return [read_refusals(str(root / name)) for name in folder.folders("Evaluator") if "evaluation" in name]


def test_a_rollback_takes_version_and_blessing_away_and_a_promotion_gives_both_back(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    root, (first, second) = folder.output.root, folder.served()
    before = folder.tree()
    assert run("rollback", root, *WHY) == 0
    told = capsys.readouterr().out
    assert f"--to {first} --reason 'confuses 3 and 8' --who Anna --yes does it" in told
    assert [path for path in folder.tree() if not path.endswith("/.lock")] == before
    assert run("rollback", root, *WHY, "--yes") == 0
    assert folder.served() == [first]
    assert (folder.output.serving_model_dir / "p" / f"rolled-back-{second}" / "saved_model.pb").is_file()
    assert blessings(folder) == [(1, "BLESSED"), (0, "NOT_BLESSED")]
    assert evaluations(folder)[0] == {}
    assert "by Anna: confuses 3 and 8" in evaluations(folder)[1]["rollback"]
    model = folder.output.pipeline_root / folder.folders("Trainer")[1]
    assert find_refusals(None, None, str(model)) == evaluations(folder)[1]
    assert run("promote", root, second, "--yes") == 0
    assert folder.served() == [first, second]
    assert blessings(folder) == [(1, "BLESSED"), (1, "BLESSED")]
    assert evaluations(folder) == [{}, {}]
    assert find_refusals(None, None, str(model)) == {}


def test_an_unchanged_run_does_not_bring_it_back_and_one_with_other_gates_neither(ours: Folder) -> None:
    first, second = ours.served()
    assert run("rollback", ours.output.root, "--yes") == 0
    states = ours.run(2, images=2)
    assert {node for node, state in states.items() if state != "cached"} == {"Pusher"}
    assert set(ours.run(2, images=2).values()) == {"cached"}
    assert ours.run(2, images=2, gates="other")["Evaluator"] == "complete"
    assert ours.served() == [first]
    assert [blessed for blessed, _ in blessings(ours)] == [1, 0, 0]
    assert run("promote", ours.output.root, second, "--yes") == 0
    assert [blessed for blessed, _ in blessings(ours)] == [1, 1, 1]
    ours.run(2, images=2)
    assert ours.served() == [first, second]  # It is served already: the Pusher, whose input is another, pushes no copy.
    assert set(ours.run(2, images=2).values()) == {"cached"}


def test_a_changed_run_is_compared_with_the_model_before_and_pushes_above_both(ours: Folder) -> None:
    first, second = ours.served()
    model_1, model_2 = ours.folders("Trainer")
    assert run("rollback", ours.output.root, "--yes") == 0
    ours.run(3, images=3)
    assert ours.baseline() == model_1
    assert ours.served()[0] == first
    assert ours.served()[1] > second
    assert run("promote", ours.output.root, second, "--yes") == 0
    ours.run(4, blessed=0, images=4)
    assert ours.baseline() not in (model_1, model_2)  # The newest that is blessed is that of the third run.
