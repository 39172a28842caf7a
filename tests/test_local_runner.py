"""The local runner: states, cache, failures, deleted files and what a killed run leaves behind."""

import shutil
from pathlib import Path

import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration import metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.types.standard_artifacts import Examples, Model

from data.errors import UserError
from pipeline.local_runner import (
    PUSHED_DESTINATION,
    ObservedLocalRunner,
    adopt_moved_artifacts,
    clear_abandoned_executions,
)
from pipeline.output_dir import OutputDir
from pipeline.report_lineage import read_runs


@component
def Make(number: Parameter[int], examples: OutputArtifact[Examples]) -> None:
    examples.split_names = '["train"]'
    (Path(examples.uri) / "Split-train").mkdir()
    (Path(examples.uri) / "number").write_text(str(number), encoding="utf-8")


@component
def Use(examples: InputArtifact[Examples], model: OutputArtifact[Model]) -> None:
    number = int((Path(examples.uri) / "number").read_text(encoding="utf-8"))
    (Path(model.uri) / "Format-Serving").mkdir()
    (Path(model.uri) / "Format-Serving" / "saved_model.pb").touch()
    if number < 0:
        raise UserError(f"number is {number}; it must not be negative")


class Heard:
    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[tuple[str, str]] = []

    def node_started(self, node_id: str) -> None:
        self.started.append(node_id)

    def node_ended(self, node_id: str, state: str, seconds: float) -> None:
        assert seconds > 0
        self.ended.append((node_id, state))


def run(folder: Path, number: int = 1, root: str = "root") -> Heard:
    make = Make(number=number)
    use = Use(examples=make.outputs["examples"])
    heard = Heard()
    ObservedLocalRunner(heard).run(
        Pipeline(
            pipeline_name="p",
            pipeline_root=str(folder / root),
            components=[make, use],
            enable_cache=True,
            metadata_connection_config=metadata.sqlite_metadata_connection_config(str(folder / "metadata.sqlite")),
        )
    )
    return heard


def test_changed_parameters_run_and_unchanged_ones_are_cached(tmp_path: Path) -> None:
    assert run(tmp_path).ended == [("Make", "complete"), ("Use", "complete")]
    assert run(tmp_path).ended == [("Make", "cached"), ("Use", "cached")]
    assert run(tmp_path, 2).ended == [("Make", "complete"), ("Use", "complete")]


def test_a_failure_is_told_and_raised_unchanged_and_leaves_no_half_output(tmp_path: Path) -> None:
    runner = ObservedLocalRunner(heard := Heard())
    make = Make(number=-1)
    pipeline = Pipeline(
        pipeline_name="p",
        pipeline_root=str(tmp_path / "root"),
        components=[make, Use(examples=make.outputs["examples"])],
        metadata_connection_config=metadata.sqlite_metadata_connection_config(str(tmp_path / "metadata.sqlite")),
    )
    with pytest.raises(UserError, match="number is -1"):
        runner.run(pipeline)
    assert heard.ended == [("Make", "complete"), ("Use", "failed")]
    assert [(result.node_id, result.state) for result in runner.results] == heard.ended
    assert not list((tmp_path / "root" / "Use" / "model").glob("*"))


def test_cached_outputs_that_were_deleted_are_made_again(tmp_path: Path) -> None:
    run(tmp_path)
    shutil.rmtree(tmp_path / "root" / "Make" / "examples")
    heard = run(tmp_path)
    assert heard.ended == [("Make", "complete"), ("Use", "complete")]
    assert len(list((tmp_path / "root" / "Make" / "examples").glob("*/number"))) == 1


def test_what_a_killed_run_left_open_is_closed_and_removed(tmp_path: Path) -> None:
    run(tmp_path)
    root, metadata_path = tmp_path / "root", str(tmp_path / "metadata.sqlite")
    with metadata.Metadata(metadata.sqlite_metadata_connection_config(metadata_path)) as handle:
        execution = handle.store.get_executions_by_type("tests.test_local_runner.Use")[0]
        execution.last_known_state = metadata_store_pb2.Execution.RUNNING
        handle.store.put_executions([execution])
    leftovers = [
        root / "Use" / "model" / str(execution.id),
        root / "Use" / ".system" / "executor_execution" / str(execution.id),
        root / "Use" / ".system" / "stateful_working_dir" / "2026-01-01T00:00:00",
    ]
    for leftover in leftovers:
        leftover.mkdir(parents=True, exist_ok=True)
    kept = list((root / "Make" / "examples").glob("*/number"))
    assert clear_abandoned_executions(metadata_path, str(root)) == 1
    assert not [leftover for leftover in leftovers if leftover.exists()]
    assert kept
    assert kept[0].exists()
    assert clear_abandoned_executions(metadata_path, str(root)) == 0


def test_nothing_to_clear_before_the_first_run(tmp_path: Path) -> None:
    assert clear_abandoned_executions(str(tmp_path / "none.sqlite"), str(tmp_path / "root")) == 0
    assert not (tmp_path / "none.sqlite").exists()


def test_a_deleted_split_and_a_deleted_saved_model_are_made_again(tmp_path: Path) -> None:
    run(tmp_path)
    (saved_model,) = (tmp_path / "root" / "Use" / "model").glob("*/Format-Serving/saved_model.pb")
    saved_model.unlink()
    assert run(tmp_path).ended == [("Make", "cached"), ("Use", "complete")]
    (split,) = (tmp_path / "root" / "Make" / "examples").glob("*/Split-train")
    shutil.rmtree(split)
    assert run(tmp_path).ended == [("Make", "complete"), ("Use", "complete")]


def test_artifacts_without_metadata_are_removed(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "metadata.sqlite").unlink()
    assert clear_abandoned_executions(str(tmp_path / "metadata.sqlite"), str(tmp_path / "root")) == 0
    assert not (tmp_path / "root").exists()
    assert run(tmp_path).ended == [("Make", "complete"), ("Use", "complete")]


def test_damaged_metadata_are_the_users_to_remove(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "metadata.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(UserError, match=r"metadata\.sqlite: is damaged .*; remove it to run everything anew"):
        clear_abandoned_executions(str(tmp_path / "metadata.sqlite"), str(tmp_path / "root"))
    assert (tmp_path / "root").exists()


def artifacts_of(folder: Path) -> list[metadata_store_pb2.Artifact]:
    config = metadata.sqlite_metadata_connection_config(str(folder / "metadata.sqlite"))
    with metadata.Metadata(config) as handle:
        return list(handle.store.get_artifacts())


def test_a_folder_that_was_renamed_keeps_its_runs_and_what_was_pushed(tmp_path: Path) -> None:
    before, now = tmp_path / "before", tmp_path / "now"
    before.mkdir()
    run(before, root="pipeline_root")
    with metadata.Metadata(metadata.sqlite_metadata_connection_config(str(before / "metadata.sqlite"))) as handle:
        (model,) = handle.store.get_artifacts_by_type("Model")
        model.custom_properties[PUSHED_DESTINATION].string_value = f"{before}/serving_model/7"
        handle.store.put_artifacts([model])
    (before / "serving_model" / "7").mkdir(parents=True)
    (before / "serving_model" / "7" / "saved_model.pb").touch()
    before.rename(now)
    assert str(adopt_moved_artifacts(OutputDir(now))).startswith(f"this folder was {before}: its runs, baseline, ")
    assert all(artifact.uri.startswith(f"{now}/pipeline_root/") for artifact in artifacts_of(now))
    (model,) = (one for one in artifacts_of(now) if one.type == "Model")
    assert model.custom_properties[PUSHED_DESTINATION].string_value == f"{now}/serving_model/7"
    assert run(now, root="pipeline_root").ended == [("Make", "cached"), ("Use", "complete")]
    assert run(now, root="pipeline_root").ended == [("Make", "cached"), ("Use", "cached")]
    assert adopt_moved_artifacts(OutputDir(now)) is None
    assert not before.exists()


def test_the_runs_of_a_copy_lie_in_the_copy(tmp_path: Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.mkdir()
    run(original, root="pipeline_root")
    shutil.copytree(original, copy)
    for folder in (original, copy):
        (record,) = read_runs(folder / "metadata.sqlite")
        assert len(record.uris) == 2
        assert all(uri.startswith(f"{folder}/pipeline_root/") and Path(uri).is_dir() for uri in record.uris.values())


@component
def Hold(mebibytes: Parameter[int], model: OutputArtifact[Model]) -> None:
    held = [bytes(100_000) for _ in range(10 * mebibytes)]
    held[:] = held[::500]  # what stays keeps glibc from giving back the end of its heap, as a library's caches do
    KEPT.append(held)


KEPT: list[object] = []


def test_what_a_node_has_freed_is_not_kept_beside_what_the_next_one_needs(tmp_path: Path) -> None:
    before = read_anonymous_mebibytes()
    ObservedLocalRunner(Heard()).run(
        Pipeline(
            pipeline_name="p",
            pipeline_root=str(tmp_path),
            components=[Hold(mebibytes=400)],
            metadata_connection_config=metadata.sqlite_metadata_connection_config(str(tmp_path / "metadata.db")),
        )
    )
    assert read_anonymous_mebibytes() - before < 100


def read_anonymous_mebibytes() -> float:
    rollup = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8")
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Anonymous:")) / 1024
