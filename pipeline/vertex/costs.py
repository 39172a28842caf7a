"""What a run takes at most, in machine-hours, and whether the user's own prices keep that below a limit."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from data.errors import UserError
from data.section import Settings
from pipeline.config import parse_settings, read_yaml
from pipeline.vertex.container_tasks import container_tasks
from pipeline.vertex.dataflow import BEAM_NODES, placement_of
from pipeline.vertex.limits import task_timeout_hours
from pipeline.vertex.settings import VertexSettings
from pipeline.vertex.worker_pools import make_worker_pool

Price = Annotated[float, Field(ge=0)]


class PriceFile(Settings):
    """Prices of one region at one date. None are shipped: they are Google's, change, and yours may differ."""

    date: datetime.date
    """When the prices were looked up."""
    region: str
    """Where they hold."""
    currency: str = Field(default="USD", pattern="^[A-Z]{3}$")
    """Of all prices."""
    source: str = Field(min_length=1)
    """Where they are from, e.g. the address of the price list, or your contract."""
    run: Price = 0.0
    """Of one pipeline run, whatever it does."""
    tasks: dict[str, Price] = {}
    """Of a task's container for an hour: `cpu` for a core, `memory_gb` for a gigabyte."""
    training: dict[str, Price] = {}
    """Of a training machine for an hour, by `machine_type`, and of one accelerator, by its type."""
    training_spot: dict[str, Price] = {}
    """The same for spot machines."""
    dataflow: dict[str, Price] = {}
    """Of a Dataflow worker for an hour, by `machine_type`."""
    endpoint: dict[str, Price] = {}
    """Of an endpoint's replica for an hour, by `machine_type`, and of one accelerator, by its type; it is told, and not
    in the limit, since an endpoint goes on after the run."""


@dataclass(frozen=True)
class Usage:
    """Machine-hours of a task, at most.

    Attributes:
        node: the task.
        section: of the price file.
        item: in that section: a kind of machine, or `cpu` or `memory_gb` of a container.
        hours: of all machines (cores, gigabytes) together, with all retries.
    """

    node: str
    section: str
    item: str
    hours: float


def find_usages(job: dict[str, Any], settings: VertexSettings) -> list[Usage]:
    """Lists what a run takes at most: every task to its timeout, every retry used, all workers all the time.

    Not in it: storage, disks, network traffic, logs, and an endpoint, which goes on after the run.

    Args:
        job: the compiled PipelineJob.
        settings: what it was compiled with.
    """
    attempts = 1 + settings.retries.count
    usages = []
    for task in container_tasks(job["pipelineSpec"]):
        hours = attempts * task_timeout_hours(settings, task.node)
        resources = settings.resources_of(task.node)
        # Vertex AI's own default is an e2-standard-4.
        usages.append(Usage(task.node, "tasks", "cpu", (resources.cpu or 4.0) * hours))
        usages.append(Usage(task.node, "tasks", "memory_gb", (resources.memory_gb or 16.0) * hours))
        if task.node == "Trainer" and settings.trainer.device:
            section = "training_spot" if settings.trainer.spot else "training"
            machine = make_worker_pool(settings)["machine_spec"]
            hours = attempts * settings.trainer.timeout_hours * settings.trainer.replicas
            usages.append(Usage(task.node, section, machine["machine_type"], hours))
            if accelerator := machine.get("accelerator_type"):
                usages.append(Usage(task.node, section, accelerator, machine["accelerator_count"] * hours))
        if task.node in BEAM_NODES and (placement := placement_of(settings, task.node)).runner == "dataflow":
            hours = attempts * (placement.max_workers or 1) * (placement.timeout_hours or 0.0)
            usages.append(Usage(task.node, "dataflow", placement.machine_type or "", hours))
    return usages


def describe_usages(usages: Sequence[Usage]) -> list[str]:
    """Returns a line for each task."""
    lines = {usage.node: f"machine-hours of {usage.node}, at most:" for usage in usages}
    for usage in usages:
        lines[usage.node] += f" {usage.hours:g} {usage.section}.{usage.item},"
    return [line.rstrip(",") for line in lines.values()]


def load_prices(path: str, region: str) -> PriceFile:
    """Reads a price file.

    Raises:
        UserError: it cannot be read, lacks its date or source, or is another region's.
    """
    tree = read_yaml(Path(path), PriceFile)
    for key in ("date", "region", "source"):
        if key not in tree:
            raise UserError(f"{path}: has no {key}; a price file says when, where and from what source its prices are")
    prices = parse_settings(PriceFile, tree)
    if prices.region != region:
        raise UserError(f"{path}: holds prices of {prices.region}, but the pipeline runs in {region}; give its prices")
    return prices


def check_limit(usages: Sequence[Usage], prices: PriceFile | None, max_cost: float) -> None:
    """Refuses a run that may cost more.

    Raises:
        UserError: it may, or something has no price.
    """
    if prices is None:
        raise UserError("--max-cost needs prices, and none are shipped; give --prices FILE with your own")
    total, unpriced = prices.run, set()
    for usage in usages:
        section = getattr(prices, usage.section)
        total += section.get(usage.item, 0.0) * usage.hours
        unpriced |= {f"{usage.section}.{usage.item}"} if usage.item not in section else set()
    if unpriced:
        raise UserError(f"--max-cost: the price file has no {', '.join(sorted(unpriced))}; add what an hour costs")
    if not total <= max_cost:  # so put, NaN refuses
        raise UserError(
            f"--max-cost {max_cost:g}: the run may cost up to {total:.2f} {prices.currency}; lower the timeouts "
            "(task_timeout_hours, trainer.timeout_hours, beam.timeout_hours), retries or machines, or raise the limit"
        )
