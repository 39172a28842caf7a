"""What a rehearsal replaces, and nothing else: buckets by folders, cloud-only executors by their local equals."""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS
from pipeline.rehearsal.graph import Task

_BUCKET = re.compile(r"gs://([a-z0-9][a-z0-9._-]*)")
_EXECUTOR_FLAG = "--executor_class_path"
_EXECUTOR_FLAGS = (_EXECUTOR_FLAG, "--json_serialized_invocation_args", "--json_serialized_inputs_spec_args")
_LOCAL_PUSHER = "components.pusher.executor.Executor"
_TRAINER_JOB = "components.google_cloud.trainer_job.Executor"
_LOCAL_TRAINER = "tfx.components.trainer.executor.GenericExecutor"
_LOCAL_MACHINES = "pipeline.rehearsal.trainer_job.Executor"
_ENDPOINT_PUSHER = "components.pusher.endpoint_executor.EndpointExecutor"


@dataclass(frozen=True)
class Substitution:
    """One replacement.

    Attributes:
        where: a task's name, or '' for all tasks.
        found: what the spec says.
        used: what the rehearsal uses.
    """

    where: str
    found: str
    used: str


class Places:
    """Local folders in place of buckets."""

    def __init__(self, root: Path) -> None:
        """Maps `gs://<bucket>` to `<root>/gs/<bucket>`."""
        self._root = root
        self.buckets: set[str] = set()

    def local(self, text: str) -> str:
        """Returns the text, a path or anything that holds paths, with buckets replaced."""
        self.buckets.update(_BUCKET.findall(text))
        return _BUCKET.sub(lambda match: str(self._folder(match.group(1))), text)

    def substitutions(self) -> Iterator[Substitution]:
        """Yields the buckets that were seen."""
        for bucket in sorted(self.buckets):
            yield Substitution("", f"gs://{bucket}", str(self._folder(bucket)))

    def _folder(self, bucket: str) -> Path:
        return self._root / "gs" / bucket


def substitute(
    tasks: Mapping[str, Task], places: Places, output_dir: Path
) -> tuple[dict[str, Task], list[Substitution]]:
    """Returns the tasks as they can run on this machine, and everything that was replaced.

    Args:
        tasks: as in the spec, in order.
        places: maps buckets; it learns which there are.
        output_dir: a model for an endpoint is pushed below it.
    """
    local: dict[str, Task] = {}
    found: list[Substitution] = []
    images: set[str] = set()
    for name, task in tasks.items():
        executor = type(task.executor)()
        executor.CopyFrom(task.executor)
        parameters = {key: places.local(v) if isinstance(v, str) else v for key, v in task.parameters.items()}
        task = replace(task, executor=executor, parameters=parameters)
        if task.kind == "container":
            images.add(executor.container.image)
            container = executor.container
            _drop_dataflow(name, container.args, found)
            if container.command and container.command[0] in ("python", "python3"):
                container.command[0] = sys.executable
            task = _local_executor(task, output_dir, found)
            container.command[:] = [places.local(text) for text in container.command]
            container.args[:] = [places.local(text) for text in container.args]
        local[name] = task
    everywhere = [Substitution("", f"image {image}", f"this machine, {sys.executable}") for image in sorted(images)]
    return local, [*everywhere, *places.substitutions(), *found]


def _drop_dataflow(name: str, args: Any, found: list[Substitution]) -> None:
    """Replaces Beam's flags where they name Dataflow: all that is no flag of TFX's own entry point belongs to Beam."""
    if "--runner=DataflowRunner" not in args:
        return
    kept: list[str] = []
    dropped: list[str] = []
    words = iter(args)
    for word in words:
        if word in _EXECUTOR_FLAGS:
            kept += [word, next(words)]
        else:
            dropped.append(word)
    args[:] = [*kept, *IN_PROCESS_BEAM_ARGS]
    found.append(Substitution(name, " ".join(dropped), "Beam's local runner"))


def _local_executor(task: Task, output_dir: Path, found: list[Substitution]) -> Task:
    args = task.executor.container.args
    path = args[1] if args[:1] == [_EXECUTOR_FLAG] else ""
    if path == _TRAINER_JOB:
        machines = _count_machines(task)
        args[1] = _LOCAL_TRAINER if machines == 1 else _LOCAL_MACHINES
        used = args[1] if machines == 1 else f"{args[1]}: its {machines} machines as processes, on CPUs"
        found.append(Substitution(task.name, path, used))
    elif path == _ENDPOINT_PUSHER:
        folder = output_dir / "endpoint" / task.name
        args[1] = _LOCAL_PUSHER
        target = json.loads(str(task.parameters.get("custom_config") or "{}")).get("endpoint", {})
        served = ", served by ".join(target[key] for key in ("kind", "serving_image") if key in target)
        endpoint = f"{path} ({f'a new endpoint is {served}' if served else 'an endpoint'})"
        found.append(Substitution(task.name, endpoint, f"{_LOCAL_PUSHER} (a push into {folder})"))
        destination = json.dumps({"filesystem": {"baseDirectory": str(folder)}})
        return replace(task, parameters={**task.parameters, "push_destination": destination})
    return task


def _count_machines(task: Task) -> int:
    """Returns how many machines the Trainer's job has."""
    job = json.loads(task.parameters.get("custom_config", "{}")).get("ai_platform_training_args", {})
    return sum(pool["replica_count"] for pool in job.get("job_spec", {}).get("worker_pool_specs", ())) or 1
