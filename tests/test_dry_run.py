"""`run_local --dry-run`: what it tells and refuses, and that it leaves the output folder alone."""

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import dry_run_costs, run_local
from pipeline.output_dir import OutputDir
from tests.images import make_image_tree, make_truncated_jpeg

SMALL = ["transform.image_size=32", "trainer.weights=none", "trainer.recipe=quick"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_image_tree(tmp_path_factory.mktemp("dry") / "images", ["cat", "Dog", "dog"], per_class=40)
    (root / "notes.txt").touch()
    return root


@pytest.fixture(scope="module", autouse=True)
def measured_once() -> Iterator[None]:
    """How fast the machine builds graphs is measured for the first run, and is the same for the others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dry_run_costs, "_measure_overhead", functools.cache(dry_run_costs._measure_overhead))
        yield


def dry_run(path: Path, output: Path, *settings: str) -> int:
    return run_local.main(["--dry-run", "--data", str(path), "--output-dir", str(output), "--set", *SMALL, *settings])


def test_it_tells_what_a_run_would_do_and_writes_nothing(
    tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert dry_run(tree, tmp_path / "out") == 0
    told = capfd.readouterr().out
    lines = {line.split(maxsplit=1)[0]: line for line in told.splitlines()}
    assert lines["output"].endswith(f"{tmp_path}/out: will be made")
    assert lines["images"].endswith(f"image_folder {tree}")
    assert lines["ignored"].endswith("1: notes.txt")
    assert "120 images" in told
    assert all(name in lines["train"] for name in ("cat", "Dog", "dog"))
    assert "(cut from train, 10 %)" in lines["test"]
    assert "recipe quick" in lines["recipe"]
    assert lines["weights"].split() == ["weights", "none"]
    assert "learnt as different classes: 'Dog' and 'dog'" in lines["warning"]
    assert "if nothing is cached" in lines["time"]
    assert {"disk", "memory"} <= set(lines)
    assert not list(tmp_path.iterdir())


def test_formats_are_told_and_take_their_time(tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert dry_run(tree, tmp_path / "out", "export.formats=[litert]") == 0
    told = capfd.readouterr().out
    assert "formats  litert: of a model that is pushed" in told
    assert "ModelConverter" in told


def test_each_problem_is_told_and_the_status_is_2(
    tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    gates = "evaluator.gates=[{metric: recall, slice: horse, min: 0.5}]"
    assert dry_run(tree, tmp_path / "out", gates, "trainer.weights=no/such.h5", "schema_path=no/schema.pbtxt") == 2
    error = capfd.readouterr().err
    assert "no/such.h5" in error
    assert "schema_path is" in error
    assert error.count("error: ") == 2
    assert dry_run(tree, tmp_path / "out", gates) == 2
    assert "names the class 'horse'" in capfd.readouterr().err


def test_images_that_a_run_refuses_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    images = make_image_tree(tmp_path / "images", ["a", "b"], per_class=30)
    for number in range(20):
        (images / "a" / f"bad{number}.jpg").write_bytes(make_truncated_jpeg())
    assert dry_run(images, tmp_path / "out") == 2
    error = capfd.readouterr().err
    assert "cannot be used, more than data.max_quarantined_share" in error
    assert error.count("error: ") == 1


def test_a_folder_in_use_is_a_problem(tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with OutputDir(tmp_path).locked():
        assert dry_run(tree, tmp_path, "trainer.weights=no/such.h5") == 2
    assert "is using this output folder" in capfd.readouterr().err


def test_a_wrapper_is_told_with_the_path_to_give(tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert dry_run(tree.parent, tmp_path / "out") == 2
    assert str(tree) in capfd.readouterr().err
