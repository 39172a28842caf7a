"""What a run takes at most, in machine-hours, and what that costs by the user's own prices."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from data.errors import UserError
from data.settings import Settings
from pipeline.config import parse_settings, read_yaml
from pipeline.vertex.container_tasks import container_tasks
from pipeline.vertex.dataflow import BEAM_NODES, placement_of
from pipeline.vertex.limits import task_timeout_hours
from pipeline.vertex.settings import VertexSettings
from pipeline.vertex.worker_pools import make_worker_pool

Price = Annotated[float, Field(ge=0)]
HOURS_PER_DAY = 24.0


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
    serving: dict[str, Price] = {}
    """Of a replica of an endpoint for an hour, by `machine_type`, and of one GPU, by its type."""


@dataclass(frozen=True)
class Usage:
    """One kind of thing that is paid by the hour.

    Attributes:
        node: what needs it.
        section: of the price file.
        item: in that section.
        count: how many at a time, at most.
        hours: how long, at most, with all retries.
        is_run: whether it ends with the run; an endpoint goes on.
    """

    node: str
    section: str
    item: str
    count: float
    hours: float
    is_run: bool = True

    @property
    def item_hours(self) -> float:
        """Machine-hours (core-hours, gigabyte-hours)."""
        return self.count * self.hours


def find_usages(job: dict[str, Any], settings: VertexSettings) -> list[Usage]:
    """Lists what a run takes at most: every task to its timeout, every retry used, all workers all the time.

    Not in it: storage, disks, network traffic, logs.

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
        usages.append(Usage(task.node, "tasks", "cpu", resources.cpu or 4.0, hours))
        usages.append(Usage(task.node, "tasks", "memory_gb", resources.memory_gb or 16.0, hours))
        if task.node == "Trainer" and settings.trainer.is_job:
            section = "training_spot" if settings.trainer.spot else "training"
            machine = make_worker_pool(settings)["machine_spec"]
            job_hours = attempts * settings.trainer.timeout_hours
            usages.append(Usage(task.node, section, machine["machine_type"], 1, job_hours))
            if accelerator := machine.get("accelerator_type"):
                usages.append(Usage(task.node, section, accelerator, machine["accelerator_count"], job_hours))
        if task.node in BEAM_NODES and (placement := placement_of(settings, task.node)).runner == "dataflow":
            usages.append(
                Usage(
                    task.node,
                    "dataflow",
                    placement.machine_type or "",
                    placement.max_workers or 1,
                    attempts * (placement.timeout_hours or 0.0),
                )
            )
    if settings.endpoint.name:
        endpoint = settings.endpoint
        usages.append(
            Usage("Pusher", "serving", endpoint.machine_type, endpoint.max_replicas, HOURS_PER_DAY, is_run=False)
        )
        if endpoint.accelerator_type:
            gpus = endpoint.max_replicas * endpoint.accelerator_count
            usages.append(Usage("Pusher", "serving", endpoint.accelerator_type, gpus, HOURS_PER_DAY, is_run=False))
    return usages


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


@dataclass(frozen=True)
class CostSheet:
    """What a run takes, and what it costs at most.

    Attributes:
        usages: by node.
        prices: of the user, or None.
    """

    usages: Sequence[Usage]
    prices: PriceFile | None

    def price_of(self, usage: Usage) -> float | None:
        """Returns what a usage costs; None where it has no price."""
        if self.prices is None:
            return None
        price = getattr(self.prices, usage.section).get(usage.item)
        return None if price is None else price * usage.item_hours

    @property
    def unpriced(self) -> list[str]:
        """The items of the run that have no price, as `section.item`."""
        missing = {f"{u.section}.{u.item}" for u in self.usages if u.is_run and self.price_of(u) is None}
        return sorted(missing)

    @property
    def total(self) -> float:
        """What the run costs at most, without what has no price."""
        run = self.prices.run if self.prices else 0.0
        return run + sum(self.price_of(usage) or 0.0 for usage in self.usages if usage.is_run)

    def check_limit(self, max_cost: float) -> None:
        """Refuses a run that may cost more.

        Raises:
            UserError: it may, or something has no price.
        """
        if self.prices is None:
            raise UserError("--max-cost needs prices, and none are shipped; give --prices FILE with your own")
        if self.unpriced:
            raise UserError(f"--max-cost: the price file has no {', '.join(self.unpriced)}; add what an hour costs")
        if not self.total <= max_cost:  # so put, NaN refuses
            raise UserError(
                f"--max-cost {max_cost:g}: the run may cost up to {self.total:.2f} {self.prices.currency}; lower the "
                "timeouts (task_timeout_hours, trainer.timeout_hours, beam.timeout_hours), retries or machines, or "
                "raise the limit"
            )

    def lines(self) -> list[str]:
        """Returns the sheet as lines of text."""
        rows = [("node", "what", "count", "hours at most", "machine-hours", "cost at most")]
        for usage in self.usages:
            price = self.price_of(usage)
            rows.append(
                (
                    usage.node,
                    f"{usage.section} {usage.item}",
                    f"{usage.count:g}",
                    f"{usage.hours:g}" if usage.is_run else "24 a day",
                    f"{usage.item_hours:g}" if usage.is_run else f"{usage.item_hours:g} a day",
                    "no price" if price is None else f"{price:.2f}" + ("" if usage.is_run else " a day"),
                )
            )
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        if self.prices is None:
            return [*lines, "no prices: give --prices FILE with your own; none are shipped"]
        missing = f", without {', '.join(self.unpriced)}, which have no price" if self.unpriced else ""
        return [
            *lines,
            f"the run costs at most {self.total:.2f} {self.prices.currency}{missing}; prices of {self.prices.date} for "
            f"{self.prices.region} ({self.prices.source}); storage, disks and network are not in it",
        ]
