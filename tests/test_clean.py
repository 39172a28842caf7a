"""`python -m pipeline.clean`: what goes, what stays, what the next run makes of it, and interruptions."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration import metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing, PushedModel

from components.evaluator.refusals import REFUSALS_KEY
from components.report_gen.report_files import write_report
from components.resolver.component import make_resolver
from components.resolver.latest_blessed_other_model import CANDIDATE_KEY, LatestBlessedOtherModelStrategy
from data.errors import UserError
from pipeline import clean, report
from pipeline.local_runner import PUSHED_DESTINATION, ObservedLocalRunner
from pipeline.output_dir import OutputDir
from tests.report_run import make_test_account

Artifact = metadata_store_pb2.Artifact


class Deaf:
    def node_started(self, node_id: str) -> None:
        pass

    def node_ended(self, node_id: str, state: str, seconds: float) -> None:
        pass


@component
def ImageExampleGen(number: Parameter[int], examples: OutputArtifact[Examples]) -> None:
    examples.split_names = "[]"
    (Path(examples.uri) / "images").write_text(str(number), encoding="utf-8")


@component
def Trainer(
    examples: InputArtifact[Examples], number: Parameter[int], fails: Parameter[int], model: OutputArtifact[Model]
) -> None:
    (Path(model.uri) / "Format-Serving").mkdir()
    (Path(model.uri) / "Format-Serving" / "saved_model.pb").write_text("x" * 5000, encoding="utf-8")
    if fails:
        raise UserError("killed")


@component
def Evaluator(model: InputArtifact[Model], blessed: Parameter[int], blessing: OutputArtifact[ModelBlessing]) -> None:
    blessing.set_int_custom_property("blessed", blessed)
    blessing.set_int_custom_property("current_model_id", model.id)
    blessing.set_string_custom_property(REFUSALS_KEY, "{}")


@component
def Pusher(
    model: InputArtifact[Model],
    blessing: InputArtifact[ModelBlessing],
    base: Parameter[str],
    pushed_model: OutputArtifact[PushedModel],
) -> None:
    if blessing.get_int_custom_property("blessed"):
        version = Path(base) / str(model.id)
        version.mkdir(parents=True, exist_ok=True)
        (version / "saved_model.pb").touch()
        pushed_model.set_string_custom_property(PUSHED_DESTINATION, str(version))


@component
def ReportGen(model: InputArtifact[Model], facts: Parameter[str], report: OutputArtifact[File]) -> None:
    (Path(report.uri) / "facts.json").write_text(facts, encoding="utf-8")


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("facts")
    write_report(replace(make_test_account(images=20), config={}), str(folder))
    return (folder / "facts.json").read_text(encoding="utf-8")


class Folder:
    """An output folder in which pipelines run that have the nodes that count, each of which does next to nothing."""

    def __init__(self, root: Path, facts: str) -> None:
        self.output, self._facts = OutputDir(root), facts
        root.mkdir(exist_ok=True)

    def run(self, number: int, blessed: int = 1, images: int = 1, fails: int = 0) -> dict[str, str]:
        """Returns how each node ended; runs of other numbers have other models."""
        example_gen = ImageExampleGen(number=images)
        trainer = Trainer(examples=example_gen.outputs["examples"], number=number, fails=fails)
        model = trainer.outputs["model"]
        resolver = make_resolver(LatestBlessedOtherModelStrategy, {CANDIDATE_KEY: model}).with_id("ModelResolver")
        evaluator = Evaluator(model=model, blessed=blessed)
        blessing = evaluator.outputs["blessing"]
        pusher = Pusher(model=model, blessing=blessing, base=str(self.output.serving_model_dir / "p"))
        report_gen = ReportGen(model=model, facts=self._facts)
        runner = ObservedLocalRunner(Deaf())
        config = metadata.sqlite_metadata_connection_config(str(self.output.metadata_path))
        nodes = [example_gen, trainer, resolver, evaluator, pusher, report_gen]
        pipeline = Pipeline("p", str(self.output.pipeline_root), config, nodes, enable_cache=True)
        if fails:
            with pytest.raises(UserError, match="killed"):
                runner.run(pipeline)
        else:
            runner.run(pipeline)
        return {result.node_id: result.state for result in runner.results}

    def clean(self, *arguments: str) -> int:
        return clean.main([str(self.output.root), *arguments])

    def folders(self, *nodes: str) -> list[str]:
        """Returns the artifacts' folders, as `Trainer/model/2`."""
        paths = [path for node in nodes for path in self.output.pipeline_root.glob(f"{node}/[!.]*/*")]
        return [
            str(path.relative_to(self.output.pipeline_root)) for path in sorted(paths, key=lambda one: int(one.name))
        ]

    def tree(self) -> list[str]:
        return sorted(map(str, self.output.root.rglob("*")))

    def states(self) -> dict[str, int]:
        config = metadata.sqlite_metadata_connection_config(str(self.output.metadata_path))
        with metadata.Metadata(config) as handle:
            prefix = f"{self.output.pipeline_root}/"
            return {artifact.uri.removeprefix(prefix): artifact.state for artifact in handle.store.get_artifacts()}


@pytest.fixture
def folder(tmp_path: Path, facts: str) -> Folder:
    return Folder(tmp_path / "out", facts)


def only(state: str) -> set[str]:
    return {state}


def test_without_yes_nothing_changes(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.run(1)
    folder.run(2)
    before, states = folder.tree(), folder.states()
    assert folder.clean() == 0
    told = capsys.readouterr().out
    assert "artifacts of other runs" in told
    assert told.splitlines()[-1].endswith(
        f"nothing was removed: python -m pipeline.clean {folder.output.root} --yes does it"
    )
    assert [path for path in folder.tree() if not path.endswith("/.lock")] == before
    assert folder.states() == states


def test_the_latest_run_stays_whole_and_others_run_anew(folder: Folder) -> None:
    folder.run(1, images=1)
    folder.run(2, images=2)
    latest = folder.run(3, images=3)
    assert set(latest.values()) - {"cached"} == {"complete"}
    models = folder.folders("Trainer")
    assert folder.clean("--yes") == 0
    assert folder.folders("Trainer") == models[1:]  # The last but one is what the last was compared with.
    assert len(folder.folders("ImageExampleGen")) == 1
    assert len(folder.folders("Evaluator")) == 3  # What is served has its record.
    assert folder.states()[models[0]] == Artifact.DELETED
    assert folder.states()[models[-1]] == Artifact.LIVE
    assert set(folder.run(3, images=3).values()) == {"cached"}
    assert set(folder.run(1, images=1).values()) == {"complete"}


def test_what_is_pushed_and_its_report_stay(folder: Folder) -> None:
    for number in (1, 2, 3):
        folder.run(number)
    served = sorted((path.name for path in (folder.output.serving_model_dir / "p").iterdir()), key=int)
    shutil.rmtree(folder.output.serving_model_dir / "p" / served[0])
    assert folder.clean("--yes") == 0
    assert {path.name for path in (folder.output.serving_model_dir / "p").iterdir()} == set(served[1:])
    assert len(folder.folders("ReportGen")) == 2
    assert len(folder.folders("Pusher")) == 1


def test_the_newest_blessed_model_stays_the_baseline(folder: Folder) -> None:
    folder.run(1, images=1)
    folder.run(2, images=2)
    for number in (3, 4):
        folder.run(number, blessed=0, images=number)
    examples, models = folder.folders("ImageExampleGen"), folder.folders("Trainer")
    assert folder.clean("--yes") == 0
    assert folder.folders("Trainer") == [models[1], models[3]]
    assert folder.folders("ImageExampleGen") == examples[3:]
    assert set(folder.run(4, blessed=0, images=4).values()) == {"cached"}
    folder.run(5, blessed=0, images=5)
    config = metadata.sqlite_metadata_connection_config(str(folder.output.metadata_path))
    with metadata.Metadata(config) as handle:
        resolvers = handle.store.get_executions_by_type("tfx.dsl.components.common.resolver.Resolver")
        events = handle.store.get_events_by_execution_ids([max(one.id for one in resolvers)])
        (baseline,) = handle.store.get_artifacts_by_id(
            [e.artifact_id for e in events if e.path.steps[0].key == "model"]
        )
    assert baseline.uri.endswith(models[1])


def test_a_run_that_failed_is_not_all_that_stays(folder: Folder) -> None:
    folder.run(1, blessed=0)
    folder.run(2, blessed=0, images=2)
    folder.run(3, fails=1, images=3)
    assert folder.clean("--yes") == 0
    assert len(folder.folders("ReportGen", "Trainer")) == 2
    assert set(folder.run(2, blessed=0, images=2).values()) == {"cached"}


def test_interrupted_between_mark_and_removal_it_leaves_a_folder_that_works(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2, 3):
        folder.run(number, images=number)
    models = folder.folders("Trainer")
    real = shutil.rmtree

    def interrupted(path: Path, **options: bool) -> None:
        if Path(path).parent.name == "model":
            raise KeyboardInterrupt
        real(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        assert folder.clean("--yes") == 130
    assert "run it again for the rest" in capsys.readouterr().err
    assert folder.folders("Trainer") == models
    assert folder.states()[models[0]] == Artifact.DELETED
    assert set(folder.run(3, images=3).values()) == {"cached"}
    assert folder.clean("--yes") == 0
    assert folder.folders("Trainer") == models[1:]
    assert folder.clean("--yes") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing to remove"


def test_what_is_not_ours_stays_and_what_nobody_names_goes(folder: Folder) -> None:
    folder.run(1)
    root, outside = folder.output.root, folder.output.root.parent / "elsewhere"
    pipeline_root = folder.output.pipeline_root
    ours = ["Trainer/model/999", "Trainer/.system/executor_execution/7", "Trainer/.system/stateful_working_dir/2026"]
    for name in [*ours, "Mine/model/3", "Trainer/notes/1", "Trainer/model/best"]:
        (pipeline_root / name).mkdir(parents=True, exist_ok=True)
        (pipeline_root / name / "file").touch()
    (root / "notes.txt").touch()
    (root / ".config.yaml").touch()
    (root / ".config.yaml.123").touch()
    (root / "summary.json.77.tmp").touch()
    (folder.output.serving_model_dir / "p" / ".partial-123").mkdir()
    outside.mkdir()
    (outside / "file").touch()
    os.symlink(outside, pipeline_root / "Trainer" / "model" / "1234")
    assert folder.clean("--yes") == 0
    assert not [name for name in ours if (pipeline_root / name).exists()]
    assert (outside / "file").exists()
    left = {"Mine/model/3/file", "Trainer/notes/1/file", "Trainer/model/best/file", "Trainer/model/1234"}
    assert not [name for name in left if not (pipeline_root / name).exists()]
    assert sorted(path.name for path in root.iterdir() if path.is_file()) == [
        ".config.yaml",
        ".lock",
        "metadata.sqlite",
        "notes.txt",
    ]
    assert not (folder.output.serving_model_dir / "p" / ".partial-123").exists()


@pytest.mark.parametrize("killed", [False, True])
def test_checkpoints_stay_while_their_run_can_be_gone_on_with(folder: Folder, killed: bool) -> None:
    trainings = folder.output.pipeline_root / ".resume" / "p" / "Trainer"
    folder.run(1, fails=int(killed), images=1)
    folder.run(2)
    folder.run(2)  # from cache, so that it removed nobody's checkpoints
    if killed:
        folder.run(1, fails=1, images=1)
        folder.run(2)
    for name in ("0123456789abcdef", "features-1", "features-2", "notes"):
        (trainings / name).mkdir(parents=True)
    os.utime(trainings / "features-1", (1, 1))
    assert folder.clean("--yes") == 0
    left = {path.name for path in trainings.iterdir()}
    assert left == {"features-2", "notes"} | ({"0123456789abcdef"} if killed else set())
    assert folder.run(1, fails=int(killed), images=1)["ImageExampleGen"] == "cached"  # 1: that of run 2, too


def test_a_folder_that_was_moved_is_cleaned_where_it_lies(folder: Folder, tmp_path: Path, facts: str) -> None:
    for number in (1, 2, 3):
        folder.run(number, images=number)
    shutil.copytree(folder.output.root, tmp_path / "copy")
    copy = Folder(tmp_path / "copy", facts)
    before = folder.tree()
    models = copy.folders("Trainer")
    assert copy.clean("--yes") == 0
    assert copy.folders("Trainer") == models[1:]
    assert len(copy.folders("ReportGen")) == 3
    assert folder.tree() == before


def test_a_cleaned_run_is_told_by_list_and_compare(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2, 3):
        folder.run(number, blessed=int(number == 3))
    cleaned, _, latest = folder.folders("ReportGen")
    root = folder.output.root
    assert folder.clean("--yes") == 0
    capsys.readouterr()
    assert report.main(["--list", str(root)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[3] for row in rows[1:]] == ["not", "cleaned", "cleaned"]
    for one in (cleaned, latest):
        paths = [str(folder.output.pipeline_root / name) for name in (latest, one)]
        status = report.main([*paths, "--format", "json"])
        printed = capsys.readouterr()
        if one == latest:
            assert (status, len(json.loads(printed.out))) == (0, 2)
        else:
            assert status == 2
            assert "python -m pipeline.clean has removed its report; run the pipeline again" in printed.err
    assert report.main([str(root), "--no-open", "--output", str(root / "page.html")]) == 0


def test_what_cannot_be_cleaned_is_one_line(folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert clean.main(["gs://bucket/out"]) == 2
    assert "gs://bucket/out: is not on this machine" in capsys.readouterr().err
    assert clean.main([str(tmp_path / "none")]) == 2
    assert "holds no runs" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    folder.run(1)
    with folder.output.locked():
        assert folder.clean("--yes") == 2
    assert "another run (process" in capsys.readouterr().err


def test_a_full_disk_can_be_cleaned(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.run(1)
    monkeypatch.setattr("pipeline.output_dir.LEAST_FREE_BYTES", 2**62)
    assert folder.clean("--yes") == 0


def test_what_cannot_be_removed_is_named_and_the_rest_is_removed(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2, 3):
        folder.run(number, images=number)
    real = shutil.rmtree

    def refused(path: Path, **options: bool) -> None:
        if Path(path).parent.name == "examples":
            raise PermissionError(13, "Permission denied", str(path))
        real(path, **options)

    monkeypatch.setattr(shutil, "rmtree", refused)
    assert folder.clean("--yes") == 2
    error = capsys.readouterr().err
    assert "examples/1: cannot be removed: Permission denied (and 1 more); change its rights" in error
    assert len(folder.folders("Trainer")) == 2
