"""Machine-hours: every machine to its timeout; and the limit, by prices from the user's file alone."""

import re
from pathlib import Path
from typing import Any

import pytest

from data.errors import UserError
from pipeline.vertex.costs import PriceFile, Usage, check_limit, describe_usages, find_usages, load_prices
from pipeline.vertex.endpoint_costs import describe_endpoint
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


def used(settings: VertexSettings, *nodes: str) -> dict[tuple[str, str, str], float]:
    return {(u.node, u.section, u.item): u.hours for u in find_usages(make_job(*nodes), settings)}


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
    )
    assert used(settings, "Trainer", "Transform", "Evaluator", "Pusher") == {
        ("Trainer", "training", "cloud-tpu"): 1 * 6,
        ("Trainer", "training", "TPU_V2"): 8 * 6,
        # The tasks that wait for a job outlive it: an hour for its start.
        ("Trainer", "tasks", "cpu"): 4 * 8,
        ("Trainer", "tasks", "memory_gb"): 16 * 8,
        ("Transform", "dataflow", "n1-standard-4"): 5 * 2,
        ("Transform", "tasks", "cpu"): 4 * 4,
        ("Transform", "tasks", "memory_gb"): 16 * 4,
        ("Evaluator", "tasks", "cpu"): 4 * 4,
        ("Evaluator", "tasks", "memory_gb"): 16 * 4,
        ("Pusher", "tasks", "cpu"): 4 * 4,
        ("Pusher", "tasks", "memory_gb"): 16 * 4,
    }


def test_spot_machines_have_prices_of_their_own() -> None:
    settings = make_settings(trainer={"gpu": "NVIDIA_L4:2", "spot": True}, retries={"count": 0})
    assert ("Trainer", "training_spot", "NVIDIA_L4") in used(settings, "Trainer")


def test_every_machine_that_trains_counts() -> None:
    trainer = {"gpu": "NVIDIA_L4:2", "replicas": 3, "timeout_hours": 5}
    found = used(make_settings(trainer=trainer, retries={"count": 1}), "Trainer")
    assert found["Trainer", "training", "g2-standard-24"] == 3 * 2 * 5
    assert found["Trainer", "training", "NVIDIA_L4"] == 2 * 3 * 2 * 5


USAGES = [
    Usage("Trainer", "tasks", "cpu", 8),
    Usage("Trainer", "training", "n1-standard-8", 10),
    Usage("Transform", "tasks", "cpu", 2.5),
]


def test_the_machine_hours_are_a_line_a_task() -> None:
    assert describe_usages(USAGES) == [
        "machine-hours of Trainer, at most: 8 tasks.cpu, 10 training.n1-standard-8",
        "machine-hours of Transform, at most: 2.5 tasks.cpu",
    ]


def make_prices(path: Path, text: str) -> PriceFile:
    path.write_text(HEADER + text)
    return load_prices(str(path), "us-central1")


def test_the_limit_holds_for_the_total(tmp_path: Path) -> None:
    prices = make_prices(tmp_path / "p.yaml", "run: 0.03\ntasks: {cpu: 0.1}\ntraining: {n1-standard-8: 0.5}\n")
    check_limit(USAGES, prices, 0.03 + 0.8 + 5.0 + 0.25 + 0.01)
    with pytest.raises(UserError, match=re.escape("--max-cost 6: the run may cost up to 6.08 USD; lower the timeouts")):
        check_limit(USAGES, prices, 6)
    with pytest.raises(UserError, match="--max-cost nan: the run may cost up to"):
        check_limit(USAGES, prices, float("nan"))


def test_what_has_no_price_is_named(tmp_path: Path) -> None:
    prices = make_prices(tmp_path / "p.yaml", "tasks: {cpu: 0.1}\n")
    with pytest.raises(UserError, match=re.escape("the price file has no training.n1-standard-8; add what an hour")):
        check_limit(USAGES, prices, 1000)


def test_no_price_is_shipped() -> None:
    with pytest.raises(UserError, match="--max-cost needs prices, and none are shipped"):
        check_limit(USAGES, None, 1000)


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


@pytest.mark.parametrize(
    ("endpoint", "prices", "told"),
    [
        ({}, None, "1 x n1-standard-4"),
        ({"max_replicas": 3}, {"n1-standard-4": 0.1}, "1 to 3 x n1-standard-4; 73.00 to 219.00 USD in a month, which"),
        ({"traffic_percent": 10}, {"n1-standard-4": 0.1}, "2 x n1-standard-4; 146.00 USD in a month, which is not in"),
        ({}, {}, "1 x n1-standard-4; the price file has no endpoint.n1-standard-4"),
    ],
)
def test_an_endpoint_s_machines_are_told_without_an_end(
    endpoint: dict[str, Any], prices: dict[str, float] | None, told: str
) -> None:
    settings = make_settings(endpoint={"name": "shop", **endpoint})
    facts = {"date": "2026-11-01", "region": "us-central1", "source": "a contract", "endpoint": prices}
    line = describe_endpoint(settings, None if prices is None else PriceFile.model_validate(facts))
    assert line.startswith(f"machines of endpoint shop, from the push on, without end: {told}")
