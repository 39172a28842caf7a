"""The tasks of a compiled spec that run a container."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ContainerTask:
    """One task that runs a container.

    Attributes:
        node: the node's id, which is the task's name.
        spec: the PipelineTaskSpec, in place.
        container: its PipelineContainerSpec, in place.
    """

    node: str
    spec: dict[str, Any]
    container: dict[str, Any]


def container_tasks(spec: dict[str, Any]) -> Iterator[ContainerTask]:
    """Yields the container tasks of a PipelineSpec; resolvers and importers are none."""
    executors = spec["deploymentSpec"]["executors"]
    for node, task in sorted(spec["root"]["dag"]["tasks"].items()):
        label = spec["components"][task["componentRef"]["name"]]["executorLabel"]
        if "container" in executors[label]:
            yield ContainerTask(node, task, executors[label]["container"])
