"""How far Beam jobs have come: counted in this process, told now and then."""

import json
import logging
import pickle
import subprocess
import sys

import numpy as np
import pytest
from tfx.types import standard_artifacts
from tfx.types.standard_artifacts import ModelBlessing, ModelEvaluation

from components import progress
from components.evaluator.executor import Executor as Evaluator
from components.evaluator.settings import EvaluatorSettings
from components.image_example_gen import SUMMARY_FILE
from components.progress import ImageCount
from components.statistics_gen.executor import Executor as StatisticsGen
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS
from tests.images import encode, make_pixels
from tests.tiny_classifier import make_examples, make_model
from tests.transform_run import SPLITS, make_artifact, run_transform


@pytest.fixture
def told(monkeypatch):
    """All that is told of images, `(message, completed, total)`, as a person's screen would get it."""
    lines, handler = [], logging.Handler(logging.INFO)
    handler.emit = lambda record: lines.append(
        (record.progress.message, record.progress.completed, record.progress.total)
    )
    monkeypatch.setattr(progress, "_TELL_SECONDS", 0.0)
    progress.LOGGER.addHandler(handler)
    level = progress.LOGGER.level
    progress.LOGGER.setLevel(logging.INFO)
    yield lines
    progress.LOGGER.setLevel(level)
    progress.LOGGER.removeHandler(handler)


def write_summary(folder, **counts):
    """What ImageExampleGen leaves beside its examples, of one class."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SUMMARY_FILE).write_text(json.dumps({"counts": {split: {"a": n} for split, n in counts.items()}}))


def test_one_pass_follows_the_other(told):
    count = ImageCount(("looking", 2), ("working", 3))
    assert [count() for _ in range(6)] == [1] * 6
    assert told == [("looking", 1, 2), ("looking", 2, 2), ("working", 1, 3), ("working", 2, 3), ("working", 3, 3)]


def test_beams_copy_of_a_step_is_the_same_count(told):
    count = ImageCount(("working", 2))
    pickle.loads(pickle.dumps(count))()
    count()
    assert told == [("working", 1, 2), ("working", 2, 2)]


def test_a_worker_elsewhere_tells_nothing():
    """It has seen its own images only."""
    code = "import logging, pickle, sys; logging.basicConfig(level=0); pickle.load(sys.stdin.buffer)()"
    pickled = pickle.dumps(ImageCount(("working", 2)))
    done = subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True, check=True)
    assert b"working" not in done.stderr


def test_a_log_is_not_flooded(caplog, monkeypatch):
    """Without a listener each report is a line: in a container of Vertex AI."""
    now = iter(np.arange(0, 1000, 0.5))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))
    with caplog.at_level(logging.INFO, progress.LOGGER.name):
        count = ImageCount(("working", 500))
        for _ in range(500):
            count()
    assert [record.progress.completed for record in caplog.records] == [1, 121, 241, 361, 481, 500]


def test_of_an_unknown_number_nothing_is_told(told):
    count = ImageCount(("working", None))
    assert [count(), count()] == [1, 1]
    assert told == []


@pytest.mark.slow
def test_transform_tells_of_both_its_readings(tmp_path, told):
    pictures = [(encode(make_pixels(i % 2, 8, np.random.default_rng(i)), "PNG"), "ab"[i % 2]) for i in range(4)]
    write_summary(tmp_path / "examples", train=4, eval=4, test=4)
    run_transform(tmp_path, dict.fromkeys(SPLITS, pictures), {"image_size": 32})
    assert told == [
        *(("finding classes", done, 4) for done in range(1, 5)),
        *(("resizing images", done, 12) for done in range(1, 13)),
    ]


@pytest.mark.slow
def test_statistics_gen_and_evaluator_tell_of_each_image(tmp_path, told):
    examples = make_examples(tmp_path / "examples", ["a", "b"] * 20, np.eye(2)[[0, 1] * 20])
    write_summary(tmp_path / "examples", train=1, test=40)
    context = {"beam_pipeline_args": list(IN_PROCESS_BEAM_ARGS), "tmp_dir": str(tmp_path), "unique_id": "1"}
    statistics = make_artifact(standard_artifacts.ExampleStatistics, tmp_path / "statistics")
    StatisticsGen(StatisticsGen.Context(**context)).Do({"examples": [examples]}, {"statistics": [statistics]}, {})
    assert told == [("measuring images", done, 41) for done in range(1, 42)]
    told.clear()
    artifacts = {kind: make_artifact(kind, tmp_path / kind.TYPE_NAME) for kind in (ModelEvaluation, ModelBlessing)}
    Evaluator(Evaluator.Context(**context)).Do(
        {"examples": [examples], "model": [make_model(tmp_path / "model", ["a", "b"], np.eye(2))]},
        {"evaluation": [artifacts[ModelEvaluation]], "blessing": [artifacts[ModelBlessing]]},
        {"settings": EvaluatorSettings().model_dump_json(), "example_splits": '["test"]'},
    )
    assert told[:40] == [("evaluating", done, 40) for done in range(1, 41)]
