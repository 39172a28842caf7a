"""`python -m pipeline.models`: what goes aside, what the next run makes of it, what comes back, and interruptions."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from ml_metadata import MetadataStore
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils as vertex
from tfx.types.artifact_utils import deserialize_artifact

from components.evaluator.refusals import find_refusals, read_refusals
from pipeline import clean, models, report
from pipeline.pushed_versions import PushedVersions
from pipeline.rehearsal.artifact_store import ArtifactStore, StoredArtifact, updated
from pipeline.rehearsal.executor_input import fill_query
from pipeline.report_lineage import open_store
from pipeline.version_changes import _tell
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


def blessings(folder: Folder) -> list[tuple[int, ...]]:
    """Returns property and file of each blessing, in the order of the models."""
    found = sorted((one for one in folder.artifacts() if one.type == "ModelBlessing"), key=lambda one: one.id)
    files = [next(Path(folder.output.rebase(one.uri)).iterdir()).name for one in found]
    return [(one.custom_properties["blessed"].int_value, name) for one, name in zip(found, files, strict=True)]


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


@contextlib.contextmanager
def stopped_after(changes: int) -> Iterator[list[str]]:
    """Interrupts what changes files or metadata once it has done so many changes; yields what was changed."""
    done: list[str] = []

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **options: Any) -> Any:
            result = real(*arguments, **options)
            done.append(name)
            if len(done) == changes:
                raise KeyboardInterrupt
            return result

        return act

    places = [(os, ("rename", "replace")), (tf.io.gfile, ("rename", "copy", "remove", "rmtree"))]
    places.append((MetadataStore, ("put_artifacts",)))
    with pytest.MonkeyPatch.context() as patch:
        for place, names in places:
            for name in names:
                patch.setattr(place, name, counted(name, getattr(place, name)))
        yield done


def journal(root: str) -> dict[str, Any]:
    """Returns the record of a folder, without the time."""
    with tf.io.gfile.GFile(f"{root}/rolled_back.json") as file:
        content: dict[str, Any] = json.loads(file.read())
    for row in content["aside"].values():
        del row["at"]
    return content


def state(folder: Folder) -> tuple[Any, ...]:
    serving = str(folder.output.serving_model_dir / "p")
    files = [path.replace(str(folder.output.root), "") for path in folder.tree()]
    gates = [list(refusals) for refusals in evaluations(folder)]
    return files, journal(serving), blessings(folder), gates


def test_stopped_after_any_step_and_started_again_it_ends_the_same(
    two_runs: Folder, tmp_path: Path, facts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def copy(name: str, of: Folder) -> Folder:
        shutil.copytree(of.output.root, tmp_path / name)
        return Folder(tmp_path / name, facts)

    second = two_runs.served()[-1]
    begin = two_runs
    for act in (["rollback", *WHY], ["promote", str(second)]):
        whole = copy(f"{act[0]}-whole", begin)
        with stopped_after(-1) as done:
            assert run(act[0], whole.output.root, *act[1:], "--yes") == 0
        assert len(done) == 7
        for changes in range(1, len(done)):
            stopped = copy(f"{act[0]}-{changes}", begin)
            with stopped_after(changes):
                assert run(act[0], stopped.output.root, *act[1:], "--yes") == 130
            assert "start it again" in capsys.readouterr().err
            assert state(stopped) != state(whole)
            assert run(act[0], stopped.output.root, *act[1:]) == 0
            assert f"a {act[0]} of {second} was interrupted" in capsys.readouterr().out
            assert run(act[0], stopped.output.root, *act[1:], "--yes") == 0
            assert state(stopped) == state(whole)
        begin = whole


@pytest.fixture
def bucket(tmp_path: Path) -> str:
    """A remote folder with three versions, in TensorFlow's file system in memory.

    There a folder seems to hold what lies in others whose name begins with its own: none may.
    """
    root = f"ram://{tmp_path.name}/serving"
    for number in (2, 3, 1_700_000_000):
        for name in ("saved_model.pb", "fingerprint.pb", "variables/variables.index", "assets/label"):
            tf.io.gfile.makedirs(os.path.dirname(f"{root}/{number}/{name}"))
            with tf.io.gfile.GFile(f"{root}/{number}/{name}", "w") as file:
                file.write(f"{number}\n")
    return root


def content(root: str) -> dict[str, str]:
    paths = [os.path.join(folder, name) for folder, _, names in tf.io.gfile.walk(root) for name in names]
    read = {}
    for path in sorted(paths):
        with tf.io.gfile.GFile(path) as file:
            read[path.removeprefix(root)] = file.read()
    return read


def test_in_a_bucket_a_copy_is_whole_before_the_original_goes_and_an_interruption_is_gone_on_with(
    bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(bucket)
    for changes in range(1, 30):
        with stopped_after(changes) as done:
            status = run("rollback", bucket, "--to", 2, "--yes")
        for number in (3, 1_700_000_000):
            places = [f"{bucket}/{number}", f"{bucket}/rolled-back-{number}"]
            whole = [place for place in places if tf.io.gfile.exists(f"{place}/saved_model.pb")]
            assert whole
            assert all(len(content(place)) == 4 for place in whole)
        if status == 0:
            break
        assert run("rollback", bucket, "--to", 2, "--yes") == 0
        versions = PushedVersions(bucket)
        assert versions.list() == ([2], [1_700_000_000, 3])
        for number in (3, 1_700_000_000):
            assert run("promote", bucket, number, "--yes") == 0
        after = content(bucket)
        assert after.pop("/rolled_back.json")
        assert after == before
    assert len(done) == 14  # The record twice; and of each model four copies, the removal of one, and of the rest.
    assert "not at hand (--output-dir)" in capsys.readouterr().out


def vertex_baseline(folder: Folder, store_path: Path) -> str | None:
    """Returns the model that Vertex AI's queries find among what an output folder's metadata say of its artifacts."""
    store = open_store(folder.output.metadata_path)
    artifacts = ArtifactStore(store_path, "digits")
    kinds = {kind.id: kind for kind in store.get_artifact_types()}
    found = [one for one in store.get_artifacts() if one.type in ("Model", "ModelBlessing")]
    names = {one.id: f"model/{one.id}" for one in found}
    for one in sorted(found, key=lambda one: one.id):
        artifact = deserialize_artifact(kinds[one.type_id], one)
        if one.type == "ModelBlessing":
            vertex.refactor_model_blessing(artifact, names)
        message = vertex.to_runtime_artifact(artifact, names)
        stored = replace(updated(StoredArtifact("", "", {}, {}), message), name=names[one.id])
        artifacts.add({"output": replace(stored, type={"instanceSchema": f"title: tfx.{one.type}\n"})})
    executors = GOLDEN["pipelineSpec"]["deploymentSpec"]["executors"]
    inputs: dict[str, StoredArtifact] = {}
    for task, key in (("model-blessing", "model_blessing"), ("model", "model")):
        queries = executors[f"ModelResolver-{task}-resolver_executor"]["resolver"]["outputArtifactQueries"]
        artifact = artifacts.find(fill_query(queries[key]["filter"], inputs))
        if artifact is None:
            return None
        inputs = {"input": artifact}
    return inputs["input"].uri


def test_what_is_rolled_back_is_no_baseline_for_the_compiled_queries_of_vertex_ai(
    folder: Folder, tmp_path: Path
) -> None:
    first, second = folder.folders("Trainer")
    version = folder.served()[-1]
    found = [vertex_baseline(folder, tmp_path / "begin.json")]
    for act in (["rollback"], ["promote", version]):
        assert run(act[0], folder.output.root, *act[1:], "--yes") == 0
        found.append(vertex_baseline(folder, tmp_path / f"{act[0]}.json"))
    assert [str(uri).rpartition("/pipeline_root/")[2] for uri in found] == [second, first, second]


def test_clean_keeps_what_a_promotion_needs(ours: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    second = ours.served()[-1]
    _, model = ours.folders("Trainer")
    assert run("rollback", ours.output.root, "--yes") == 0
    for number in (3, 4, 5):
        ours.run(number, images=number)
    capsys.readouterr()
    assert clean.main([str(ours.output.root), "--yes"]) == 0
    assert "1 model(s) that were rolled back, and their runs but for the images" in capsys.readouterr().out
    assert len(ours.folders("Trainer")) == 3  # That one, the latest, and what the latest was compared with.
    assert model in ours.folders("Trainer")
    for version in ours.served()[1:]:
        shutil.rmtree(ours.output.serving_model_dir / "p" / str(version))
    assert run("promote", ours.output.root, second, "--yes") == 0
    assert ours.served()[-1] == second
    assert ours.states()[model] == 2  # LIVE
    assert blessings(ours)[1] == (1, "BLESSED")


def test_list_and_report_tell_which_version_is_served_and_why_another_is_not(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = folder.served()
    assert run("rollback", folder.output.root, *WHY, "--yes") == 0
    capsys.readouterr()
    assert run("list", folder.output.root, "--json") == 0
    newer, older = json.loads(capsys.readouterr().out)
    assert (newer["version"], newer["served"], older["version"], older["served"]) == (second, False, first, True)
    assert (newer["rolled_back"]["reason"], newer["rolled_back"]["by"]) == ("confuses 3 and 8", "Anna")
    assert newer["path"].endswith(f"/rolled-back-{second}")
    assert older["rolled_back"] is None
    assert older["classes"] == ["cat", "dog"]
    assert [Path(one["model"]).name for one in (older, newer)] == [Path(p).name for p in folder.folders("Trainer")]
    assert [one["run"] for one in (older, newer)] == [Path(p).name for p in folder.folders("ReportGen")]
    account = json.loads((folder.output.pipeline_root / folder.folders("ReportGen")[0] / "facts.json").read_text())
    accuracy = next(figure["value"] for figure in account["headline"] if figure["name"] == "accuracy")
    assert older["accuracy"] == newer["accuracy"] == accuracy
    assert run("list", folder.output.serving_model_dir / "p") == 0
    table = capsys.readouterr().out.splitlines()
    assert "served" in table[3]
    assert "by Anna: confuses 3 and 8" in table[2]
    assert report.main(["--list", str(folder.output.root)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert "rolled back, " in rows[1]
    assert "by Anna: confuses 3 and 8" in rows[1]
    assert "rolled back" not in rows[2]
    assert report.main([str(folder.output.root), "--no-open"]) == 0
    page = folder.output.report_path.read_text(encoding="utf-8")
    assert "was <strong>rolled back</strong>, " in page
    assert "by Anna: confuses 3 and 8" in page


def test_what_cannot_be_rolled_back_or_promoted_is_one_line(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, (first, second) = folder.output.root, folder.served()
    serving = folder.output.serving_model_dir / "p"
    with folder.output.locked():
        assert run("rollback", root, "--yes") == 2
        assert "another run (process" in capsys.readouterr().err
    for arguments, told in (
        (["rollback", root, "--to", 7], f"--to 7: is no version in {serving}; there are {second}, {first}"),
        (["promote", root, second], f"{second}: is not set aside, so that there is nothing to promote"),
        (["promote", root, 7], f"7: was not rolled back in {serving}; set aside are none"),
        (["rollback", serving / str(first)], "is a version itself; give the folder that it lies in"),
        (["rollback", tmp_path / "none"], "is no folder; give an output folder of pipeline.run_local"),
        (["list", tmp_path], "holds no version of a model"),
        (["list", serving, "--output-dir", tmp_path], "holds no runs"),
        (["list", "gs1://bucket/models"], "cannot be read: File system scheme"),
    ):
        assert run(*arguments) == 2
        error = capsys.readouterr().err
        assert told in error
        assert len(error.splitlines()) == 1
    assert run("rollback", root, "--to", second, "--yes") == 0
    assert f"{second} is served; there is nothing to roll back" in capsys.readouterr().out
    assert run("rollback", root, "--yes") == 0
    assert run("rollback", root, "--yes") == 2
    assert f"is the only model that is served; nothing would be left; {second} is set aside" in capsys.readouterr().err
    assert run("rollback", root, "--to", second) == 2
    assert f"--to {second}: is set aside itself; promote it" in capsys.readouterr().err
    (serving / "rolled_back.json").write_text("{}")
    assert run("list", root) == 2
    assert "is damaged ('under_way')" in capsys.readouterr().err
    assert folder.served() == [first]


def test_a_copy_of_the_served_model_is_nothing_to_go_back_to(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    serving, (first, second) = folder.output.serving_model_dir / "p", folder.served()
    shutil.copytree(serving / str(second), serving / str(second + 1))
    assert run("rollback", folder.output.root, "--to", second) == 2
    assert f"is a copy of the very model of version {second + 1}, which would go" in capsys.readouterr().err
    assert run("rollback", folder.output.root, "--yes") == 0
    assert folder.served() == [first]


def test_a_version_that_no_gate_passed_is_not_promoted(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    root, second = folder.output.root, folder.served()[-1]
    assert run("rollback", root, "--yes") == 0
    store = open_store(folder.output.metadata_path)
    refused = max(store.get_artifacts_by_type("ModelBlessing"), key=lambda one: one.id)
    refused.custom_properties["refusals"].string_value = '{"drift.gate": "drifted", "rollback": "by hand"}'
    store.put_artifacts([refused])
    assert run("promote", root, second, "--yes") == 2
    assert f"{second}: its model was never blessed" in capsys.readouterr().err


def test_versions_elsewhere_keep_their_blessing_unless_the_output_folder_is_named(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serving = shutil.copytree(folder.output.serving_model_dir / "p", tmp_path / "elsewhere")
    second = folder.served()[-1]
    assert run("rollback", serving, "--output-dir", folder.output.root, "--yes") == 0
    assert f"blessing  not of {second}: no run of {folder.output.root} is known" in capsys.readouterr().out
    assert [blessed for blessed, _ in blessings(folder)] == [1, 1]
    shutil.copytree(serving / f"rolled-back-{second}", serving / str(second))
    shutil.rmtree(serving / f"rolled-back-{second}")
    assert run("rollback", serving, "--yes") == 0
    assert f"blessing  not of {second}: the metadata of its run are not at hand" in capsys.readouterr().out


def test_a_folder_in_google_s_bucket_is_told_how_a_blessing_of_vertex_ai_is_taken_back() -> None:
    for root, told in (("gs://bucket/models", True), ("s3://bucket/models", False)):
        (line,) = _tell(PushedVersions(root), None, [1])
        assert ("(--output-dir; of a run on Vertex AI: --project and --region)" in line) is told


def test_of_a_folder_in_a_bucket_alone_the_blessing_is_found_taken_back_and_given_again(
    tmp_path: Path, facts: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.model_places.DEFAULT_OUTPUT", tmp_path)
    place = f"ram://{tmp_path.name}/models/p"
    pushing = Folder(tmp_path / "pushing", facts, place)
    pushing.run(1)
    pushing.run(2, images=2)
    Folder(tmp_path / "other", facts, f"{place}ony").run(1)
    (tmp_path / "damaged" / "pipeline_root").mkdir(parents=True)
    (tmp_path / "damaged" / "metadata.sqlite").write_text("no database")
    (second, first), _ = PushedVersions(place).list()
    model_1, model_2 = pushing.folders("Trainer")
    assert run("list", place, "--json") == 0
    assert [one["run"] for one in json.loads(capsys.readouterr().out)] == ["12", "6"]
    assert run("rollback", place, *WHY, "--yes") == 0
    assert f"  blessing  of {second}, pipeline_root/{model_2}" in capsys.readouterr().out
    assert PushedVersions(place).list() == ([first], [second])
    assert blessings(pushing) == [(1, "BLESSED"), (0, "NOT_BLESSED")]
    pushing.run(3, images=3, blessed=0)
    assert pushing.baseline() == model_1
    assert run("promote", place, second, "--yes") == 0
    assert blessings(pushing)[:2] == [(1, "BLESSED"), (1, "BLESSED")]
    pushing.run(4, images=4)
    assert pushing.baseline() == model_2
    shutil.copytree(pushing.output.root, tmp_path / "too")
    assert run("rollback", place, "--yes") == 2
    error = capsys.readouterr().err
    assert error == (
        f"error: {place}: runs of {tmp_path}/pushing and of {tmp_path}/too pushed there; name the one that counts with"
        " --output-dir\n"
    )
