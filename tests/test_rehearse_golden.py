"""Specs that TFX ships as what its compiler writes: both schemas are read, checked and ordered."""

import importlib.util
from pathlib import Path

import pytest

from data.errors import UserError
from pipeline.rehearsal.checks import check_tasks
from pipeline.rehearsal.graph import Task, make_tasks
from pipeline.rehearsal.spec import read_spec
from pipeline.rehearsal.substitutions import Places, substitute

FOUND = importlib.util.find_spec("tfx")
assert FOUND is not None
assert FOUND.submodule_search_locations is not None
FOLDER = Path(FOUND.submodule_search_locations[0]) / "orchestration/kubeflow/v2/testdata"


def checked(name: str) -> dict[str, Task]:
    spec = read_spec(FOLDER / name, {})
    tasks = make_tasks(spec)
    check_tasks(spec.path, tasks)
    return substitute(tasks, Places(Path("/out")), Path("/out"))[0]


@pytest.mark.parametrize("folder", ["", "legacy/"])
def test_the_taxi_pipeline(folder: str) -> None:
    tasks = checked(f"{folder}expected_full_taxi_pipeline_job.json")
    assert len(tasks) == 11
    order = list(tasks)
    assert order.index("CsvExampleGen") < order.index("StatisticsGen") < order.index("Trainer") < order.index("Pusher")
    assert tasks["CsvExampleGen"].executor.container.lifecycle.pre_cache_check.command[2].endswith(".driver")
    resolver = "Resolver.latest_blessed_model_resolver"
    assert tasks[f"{resolver}-model-resolver"].upstream == (f"{resolver}-model-blessing-resolver",)
    assert f"{resolver}-model-resolver" in tasks["Evaluator"].upstream


@pytest.mark.parametrize("folder", ["", "legacy/"])
def test_a_source_in_the_cloud_has_no_local_equal(folder: str) -> None:
    with pytest.raises(UserError, match=r"task 'BigQueryExampleGen' runs .* needs the cloud and has no local equal"):
        checked(f"{folder}expected_two_step_pipeline_job.json")
