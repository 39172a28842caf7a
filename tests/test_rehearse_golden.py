"""What the compilers write: all of ours is read, checked, ordered and substituted; TFX's further things are named."""

import importlib.util
import json
from pathlib import Path

import pytest

from data.errors import UserError
from pipeline.rehearsal.checks import check_tasks
from pipeline.rehearsal.graph import make_tasks
from pipeline.rehearsal.spec import read_spec
from pipeline.rehearsal.substitutions import Places, substitute

OURS = Path(__file__).parent / "golden/vertex_digits.json"
FOUND = importlib.util.find_spec("tfx")
assert FOUND is not None
assert FOUND.submodule_search_locations is not None
FOLDER = Path(FOUND.submodule_search_locations[0]) / "orchestration/kubeflow/v2/testdata"


def test_what_run_vertex_compiles_is_rehearsed() -> None:
    spec = read_spec(OURS)
    tasks = make_tasks(spec)
    check_tasks(spec.path, tasks)
    local = substitute(tasks, Places(Path("/out")), Path("/out"))[0]
    assert local.keys() == json.loads(OURS.read_text())["pipelineSpec"]["root"]["dag"]["tasks"].keys()
    order = list(local)
    assert order.index("ImageExampleGen") < order.index("StatisticsGen") < order.index("Trainer")
    assert order.index("Trainer") < order.index("Pusher")
    assert tasks["ModelResolver-model-resolver"].upstream == ("ModelResolver-model-blessing-resolver",)
    assert "ModelResolver-model-resolver" in tasks["Evaluator"].upstream


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "expected_full_taxi_pipeline_job.json",
            r"json: root\.dag\.tasks\.Pusher\.triggerPolicy\.condition is a condition, which is not rehearsed",
        ),
        ("legacy/expected_full_taxi_pipeline_job.json", r"json: schemaVersion is '2\.0\.0', which is not rehearsed"),
    ],
)
def test_what_tfx_compiles_of_others_is_named(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_spec(FOLDER / name)
