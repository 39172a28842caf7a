"""`python -m pipeline.clean`: what goes, what stays, what the next run makes of it, and interruptions."""

import json
import os
import shutil
import time
import zipfile
from pathlib import Path

import pytest
from ml_metadata.proto import metadata_store_pb2

from data.sources.archive import archives_cache, unpack
from pipeline import clean, report
from tests.small_runs import Folder, make_facts

Artifact = metadata_store_pb2.Artifact


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_facts(tmp_path_factory.mktemp("facts"))


def run_clean(folder: Folder, *arguments: str) -> int:
    return clean.main([str(folder.output.root), *arguments])


@pytest.fixture
def folder(tmp_path: Path, facts: str, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Folder(tmp_path / "out", facts)


def only(state: str) -> set[str]:
    return {state}


def test_without_yes_nothing_changes(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.run(1)
    folder.run(2)
    before, states = folder.tree(), folder.states()
    assert run_clean(folder) == 0
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
    assert run_clean(folder, "--yes") == 0
    assert folder.folders("Trainer") == models[1:]  # The last but one is what the last was compared with.
    assert len(folder.folders("ImageExampleGen")) == 1
    assert len(folder.folders("Evaluator")) == 6  # What is served has its record.
    assert folder.states()[models[0]] == Artifact.DELETED
    assert folder.states()[models[-1]] == Artifact.LIVE
    assert set(folder.run(3, images=3).values()) == {"cached"}
    assert set(folder.run(1, images=1).values()) == {"complete"}


def test_what_is_pushed_and_its_report_stay(folder: Folder) -> None:
    for number in (1, 2, 3):
        folder.run(number)
    served = folder.served()
    shutil.rmtree(folder.output.serving_model_dir / "p" / str(served[0]))
    assert run_clean(folder, "--yes") == 0
    assert folder.served() == served[1:]
    assert len(folder.folders("ReportGen")) == 2
    assert len(folder.folders("Pusher")) == 1


def test_the_newest_blessed_model_stays_the_baseline(folder: Folder) -> None:
    folder.run(1, images=1)
    folder.run(2, images=2)
    for number in (3, 4):
        folder.run(number, blessed=0, images=number)
    examples, models = folder.folders("ImageExampleGen"), folder.folders("Trainer")
    assert run_clean(folder, "--yes") == 0
    assert folder.folders("Trainer") == [models[1], models[3]]
    assert folder.folders("ImageExampleGen") == examples[3:]
    assert set(folder.run(4, blessed=0, images=4).values()) == {"cached"}
    folder.run(5, blessed=0, images=5)
    assert folder.baseline() == models[1]


def test_a_run_that_failed_is_not_all_that_stays(folder: Folder) -> None:
    folder.run(1, blessed=0)
    folder.run(2, blessed=0, images=2)
    folder.run(3, fails=1, images=3)
    assert run_clean(folder, "--yes") == 0
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
        assert run_clean(folder, "--yes") == 130
    assert "run it again for the rest" in capsys.readouterr().err
    assert folder.folders("Trainer") == models
    assert folder.states()[models[0]] == Artifact.DELETED
    assert set(folder.run(3, images=3).values()) == {"cached"}
    assert run_clean(folder, "--yes") == 0
    assert folder.folders("Trainer") == models[1:]
    assert run_clean(folder, "--yes") == 0
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
    assert run_clean(folder, "--yes") == 0
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
    assert run_clean(folder, "--yes") == 0
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
    assert run_clean(copy, "--yes") == 0
    assert copy.folders("Trainer") == models[1:]
    assert len(copy.folders("ReportGen")) == 3
    assert folder.tree() == before


def test_a_cleaned_run_is_told_by_list_and_compare(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2, 3):
        folder.run(number, blessed=int(number == 3))
    cleaned, _, latest = folder.folders("ReportGen")
    root = folder.output.root
    assert run_clean(folder, "--yes") == 0
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
        assert run_clean(folder, "--yes") == 2
    assert "another run (process" in capsys.readouterr().err


def test_a_full_disk_can_be_cleaned(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.run(1)
    monkeypatch.setattr("pipeline.output_dir.LEAST_FREE_BYTES", 2**62)
    assert run_clean(folder, "--yes") == 0


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
    assert run_clean(folder, "--yes") == 2
    error = capsys.readouterr().err
    assert "examples/1: cannot be removed: Permission denied (and 1 more); change its rights" in error
    assert len(folder.folders("Trainer")) == 2


def test_unpacked_archives_go_once_no_run_reads_them(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.run(1)
    run_clean(folder, "--yes")
    for name in ("old", "new"):
        with zipfile.ZipFile(folder.output.root.parent / f"{name}.zip", "w") as archive:
            archive.writestr("cats/a.txt", name)
    old, new = (unpack(str(folder.output.root.parent / f"{name}.zip"), archives_cache()) for name in ("old", "new"))
    part = old.with_name("killed.1.part")
    part.mkdir()
    for path in (old, new, part):
        os.utime(path, (0, time.time() - 31 * 86_400))
    unpack(str(folder.output.root.parent / "new.zip"), archives_cache())
    gone = old.with_name("another.2.part")
    gone.symlink_to("renamed")  # to its end by the run that unpacks it, between the listing and the look at its time
    capsys.readouterr()
    assert run_clean(folder) == 0
    told = capsys.readouterr().out
    assert f"2     1 KiB  unpacked archives, in your cache, that no run has read for 30 days\n           {old}" in told
    assert run_clean(folder, "--yes") == 0
    assert set(archives_cache().iterdir()) == {new, gone}
