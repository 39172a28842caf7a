"""The cost sheet: every machine to its timeout, and prices from the user's file alone."""

import re
from pathlib import Path
from typing import Any

import pytest

from data.errors import UserError
from pipeline.vertex.costs import CostSheet, PriceFile, Usage, find_usages, load_prices
from pipeline.vertex.settings import VertexSettings
from tests.vertex_settings import make_settings

HEADER = "date: 2026-11-01\nregion: us-central1\nsource: a contract\n"


def make_job(*nodes: str) -> dict[str, Any]:
    return {
        "pipelineSpec": {
            "root": {"dag": {"tasks": {node: {"componentRef": {"name": node}} for node in nodes}}},
            "components": {node: {"executorLabel": node} for node in nodes},
            "deploymentSpec": {"executors": {node: {"container": {}} for node in nodes}},
        }
    }


def used(settings: VertexSettings, *nodes: str) -> dict[tuple[str, str, str], tuple[float, float]]:
    return {(u.node, u.section, u.item): (u.count, u.hours) for u in find_usages(make_job(*nodes), settings)}


def test_every_machine_counts_to_its_timeout_with_all_retries() -> None:
    settings = make_settings(
        task_timeout_hours=2,
        retries={"count": 1},
        trainer={"tpu": "v2-8", "timeout_hours": 3},
        beam={
            "runner": "dataflow",
            "max_workers": 5,
            "timeout_hours": 1,
            "components": {"Evaluator": {"runner": "direct"}},
        },
        endpoint={"name": "digits", "max_replicas": 3},
    )
    assert used(settings, "Trainer", "Transform", "Evaluator", "Pusher") == {
        ("Trainer", "training", "cloud-tpu"): (1, 6),
        ("Trainer", "training", "TPU_V2"): (8, 6),
        # The tasks that wait for a job outlive it: an hour for its start.
        ("Trainer", "tasks", "cpu"): (4, 8),
        ("Trainer", "tasks", "memory_gb"): (16, 8),
        ("Transform", "dataflow", "n1-standard-4"): (5, 2),
        ("Transform", "tasks", "cpu"): (4, 4),
        ("Transform", "tasks", "memory_gb"): (16, 4),
        ("Evaluator", "tasks", "cpu"): (4, 4),
        ("Evaluator", "tasks", "memory_gb"): (16, 4),
        ("Pusher", "tasks", "cpu"): (4, 4),
        ("Pusher", "tasks", "memory_gb"): (16, 4),
        ("Pusher", "serving", "n1-standard-4"): (3, 24),
    }


def test_spot_machines_have_prices_of_their_own() -> None:
    settings = make_settings(trainer={"gpu": "NVIDIA_L4:2", "spot": True}, retries={"count": 0})
    assert ("Trainer", "training_spot", "NVIDIA_L4") in used(settings, "Trainer")


USAGES = [
    Usage("Transform", "tasks", "cpu", 4, 2),
    Usage("Trainer", "training", "n1-standard-8", 1, 10),
    Usage("Pusher", "serving", "n1-standard-4", 1, 24, is_run=False),
]


def make_prices(path: Path, text: str) -> PriceFile:
    path.write_text(HEADER + text)
    return load_prices(str(path), "us-central1")


def test_the_total_is_that_of_the_run_alone(tmp_path: Path) -> None:
    prices = make_prices(
        tmp_path / "p.yaml",
        "run: 0.03\ntasks: {cpu: 0.1}\ntraining: {n1-standard-8: 0.5}\nserving: {n1-standard-4: 1}\n",
    )
    sheet = CostSheet(USAGES, prices)
    assert sheet.total == pytest.approx(0.03 + 0.8 + 5.0)
    assert "24.00 a day" in sheet.lines()[3]
    assert "at most 5.83 USD" in sheet.lines()[-1]
    assert "2026-11-01" in sheet.lines()[-1]
    sheet.check_limit(5.84)
    with pytest.raises(
        UserError, match=re.escape("--max-cost 5.8: the run may cost up to 5.83 USD; lower the timeouts")
    ):
        sheet.check_limit(5.8)
    with pytest.raises(UserError, match="--max-cost nan: the run may cost up to"):
        sheet.check_limit(float("nan"))


def test_what_has_no_price_is_named_and_refused_under_a_limit(tmp_path: Path) -> None:
    sheet = CostSheet(USAGES, make_prices(tmp_path / "p.yaml", "tasks: {cpu: 0.1}\n"))
    assert "without training.n1-standard-8" in sheet.lines()[-1]
    with pytest.raises(UserError, match=re.escape("the price file has no training.n1-standard-8; add what an hour")):
        sheet.check_limit(1000)


def test_no_price_is_shipped() -> None:
    sheet = CostSheet(USAGES, None)
    assert sheet.lines()[-1] == "no prices: give --prices FILE with your own; none are shipped"
    assert sheet.lines()[1].split()[-2:] == ["no", "price"]
    with pytest.raises(UserError, match="--max-cost needs prices, and none are shipped"):
        sheet.check_limit(1000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("region: us-central1\nsource: a\n", "has no date; a price file says when"),
        (
            "date: 2026-11-01\nregion: europe-west4\nsource: a\n",
            "holds prices of europe-west4, but the pipeline runs in us",
        ),
        (HEADER + "training: {a: -1}\n", "training.a is -1; input should be greater than or equal to 0"),
        (HEADER + "trainings: {a: 1}\n", "unknown setting trainings; did you mean training?"),
    ],
)
def test_a_wrong_price_file_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        load_prices(str(tmp_path / "p.yaml"), "us-central1")
