"""Which artifacts of an output folder are still needed, and by what: read from ML Metadata, nothing is changed."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_metadata.proto.metadata_store_pb2 import Artifact, Event, Execution

from components.pusher.executor import ASIDE_PREFIX
from components.trainer.checkpoints import RESUME_DIR
from data import gfile
from data.files import is_remote
from pipeline.local_runner import PUSHED_DESTINATION
from pipeline.output_dir import OutputDir
from pipeline.report_lineage import NODE_CONTEXT, OUTPUT_EVENTS, PIPELINE_CONTEXT, RUN_CONTEXT

_RESUMED_NODES = ("Trainer", "Tuner")
# Of a run whose model is only served: the serving folder has the model, and nobody trains on its images again.
_BULK = frozenset({"Examples", "Model", "ModelRun", "PushedModel", "TransformGraph"})


@dataclass
class Metadata:
    """What ML Metadata knows of an output folder.

    Attributes:
        artifacts: by id.
        executions: by id, in the order in which they began.
        events: all, of all executions.
        nodes: execution's id to its node's id in the graph.
        pipelines: pipeline's name to its executions' ids.
        runs: ids of each run's executions, the first run first.
    """

    artifacts: dict[int, Artifact]
    executions: dict[int, Execution]
    events: list[Event]
    nodes: dict[int, str] = field(default_factory=dict)
    pipelines: dict[str, list[int]] = field(default_factory=dict)
    runs: list[list[int]] = field(default_factory=list)

    def artifacts_of(self, executions: Iterable[int]) -> set[int]:
        """Returns the ids of all that some executions read and wrote."""
        wanted = set(executions)
        return {event.artifact_id for event in self.events if event.execution_id in wanted}

    def makers_of(self, artifact_id: int) -> set[int]:
        """Returns the ids of the executions that gave out an artifact, from cache included."""
        return {
            event.execution_id for event in self.events if event.artifact_id == artifact_id and is_output_event(event)
        }


@dataclass
class Needs:
    """What stays.

    Attributes:
        artifacts: ids of those that are needed.
        reasons: a line for each thing that needs some.
        resumable: folders below `.resume` of trainings and searches that can be gone on with, from there.
    """

    artifacts: set[int] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    resumable: set[str] = field(default_factory=set)


def is_output_event(event: Event) -> bool:
    """Says whether an event is about what an execution gave out."""
    return Event.Type.Name(event.type) in OUTPUT_EVENTS


def read_metadata(store: Any) -> Metadata:
    """Reads all that there is of artifacts, executions and how they belong together."""
    executions = sorted(store.get_executions(), key=lambda one: one.id)
    events = store.get_events_by_execution_ids([one.id for one in executions]) if executions else []
    known = Metadata({one.id: one for one in store.get_artifacts()}, {one.id: one for one in executions}, list(events))
    for context in store.get_contexts():
        if context.type not in (PIPELINE_CONTEXT, RUN_CONTEXT, NODE_CONTEXT):
            continue
        ids = sorted(one.id for one in store.get_executions_by_context(context.id))
        if context.type == PIPELINE_CONTEXT:
            known.pipelines[context.name] = ids
        elif context.type == RUN_CONTEXT and ids:
            known.runs.append(ids)
        elif context.type == NODE_CONTEXT:
            known.nodes.update(dict.fromkeys(ids, context.name.rpartition(".")[2]))
    known.runs.sort()
    return known


def find_needs(store: Any, known: Metadata, output: OutputDir) -> Needs:
    """Says what the latest, blessed, pushed and resumable runs of each pipeline in an output folder need."""
    needs = Needs()
    for name, ids in known.pipelines.items():
        mine = set(ids)
        runs = [run for run in known.runs if mine.issuperset(run)]
        if not runs:
            continue
        _need_latest(needs, known, name, runs)
        _need_blessed(needs, store, known, output, name, mine, runs)
        _need_pushed(needs, known, output, name, mine, runs)
        _need_resumable(needs, known, output, name, mine, runs)
    return needs


def _need_latest(needs: Needs, known: Metadata, name: str, runs: list[list[int]]) -> None:
    needs.artifacts |= known.artifacts_of(runs[-1])
    needs.reasons.append(f"{name}: the latest run, whole: unchanged, it is served from cache")
    reported = next((run for run in reversed(runs) if _came_to_report(known, run)), None)
    if reported and reported != runs[-1]:
        needs.artifacts |= known.artifacts_of(reported)
        needs.reasons.append(f"{name}: the latest run that came to a report, whole: the latest of all did not")


def _need_blessed(
    needs: Needs, store: Any, known: Metadata, output: OutputDir, name: str, mine: set[int], runs: list[list[int]]
) -> None:
    for model_id, blessing_id in _find_latest_blessed(store, known, output, mine):
        needs.artifacts |= {model_id, blessing_id}
        needs.artifacts |= _record_of(known, runs, blessing_id, lambda kind: kind != "Examples")
        place = output.rebase(known.artifacts[model_id].uri).removeprefix(f"{output.root}/")
        needs.reasons.append(f"{name}: the latest blessed model ({place}) and its run, but for the images")


def _find_latest_blessed(store: Any, known: Metadata, output: OutputDir, mine: set[int]) -> list[tuple[int, int]]:
    """Returns model and blessing that the next run is compared with, by the very rule of the resolver, or nothing."""
    from tfx.types import artifact_utils
    from tfx.types import standard_component_specs as specs

    from components.resolver.latest_blessed_other_model import CANDIDATE_KEY, resolve_latest_blessed

    ids = {event.artifact_id for event in known.events if event.execution_id in mine and is_output_event(event)}
    channels: dict[str, list[Any]] = {specs.MODEL_KEY: [], specs.MODEL_BLESSING_KEY: [], CANDIDATE_KEY: []}
    for artifact in (known.artifacts[one] for one in sorted(ids)):
        key = {"Model": specs.MODEL_KEY, "ModelBlessing": specs.MODEL_BLESSING_KEY}.get(artifact.type)
        if key and artifact.state == Artifact.LIVE:
            there = Artifact.FromString(artifact.SerializeToString())
            there.uri = output.rebase(artifact.uri)  # of a folder that was moved
            (kind,) = store.get_artifact_types_by_id([artifact.type_id])
            channels[key].append(artifact_utils.deserialize_artifact(kind, there))
    found = resolve_latest_blessed(store, channels, CANDIDATE_KEY, set())
    models, blessings = found.get(specs.MODEL_KEY, []), found.get(specs.MODEL_BLESSING_KEY, [])
    return [(model.id, blessing.id) for model, blessing in zip(models, blessings, strict=True)]


def _is_folder(path: str) -> bool:
    return gfile.isdir(path) if is_remote(path) else os.path.isdir(path)


def _need_pushed(
    needs: Needs, known: Metadata, output: OutputDir, name: str, mine: set[int], runs: list[list[int]]
) -> None:
    served, aside = set(), set()
    for artifact in known.artifacts.values():
        if not (mine & known.makers_of(artifact.id) and PUSHED_DESTINATION in artifact.custom_properties):
            continue
        destination = artifact.custom_properties[PUSHED_DESTINATION].string_value
        destination = output.rebase_destination(destination, artifact.uri)
        if not destination:
            continue
        folder, number = os.path.split(destination)
        if _is_folder(destination):
            served.add(destination)
            needs.artifacts |= _record_of(known, runs, artifact.id, lambda kind: kind not in _BULK)
        elif _is_folder(os.path.join(folder, ASIDE_PREFIX + number)):
            # Promoted, it is what the next model is compared with, or starts from.
            aside.add(destination)
            needs.artifacts |= _record_of(known, runs, artifact.id, lambda kind: kind != "Examples")
    if served:
        needs.reasons.append(
            f"{name}: {len(served)} pushed model(s), in the serving folder, and of their runs report, evaluation and"
            " predictions"
        )
    if aside:
        needs.reasons.append(
            f"{name}: {len(aside)} model(s) that were rolled back, and their runs but for the images: a promotion needs"
            " them"
        )


def _need_resumable(
    needs: Needs, known: Metadata, output: OutputDir, name: str, mine: set[int], runs: list[list[int]]
) -> None:
    for node in _RESUMED_NODES:
        # Each that begins removes what others left: only of the last one that ran can there be anything.
        ran = [
            one
            for one in sorted(mine)
            if known.nodes.get(one) == node and known.executions[one].last_known_state != Execution.CACHED
        ]
        if ran and known.executions[ran[-1]].last_known_state != Execution.COMPLETE:
            needs.resumable.add(f"{name}/{node}")
            run = next(run for run in runs if ran[-1] in run)
            if run != runs[-1] and _has_checkpoints(output.pipeline_root / RESUME_DIR / name / node):
                needs.artifacts |= known.artifacts_of(run)
                needs.reasons.append(f"{name}: the run whose {node} was interrupted, whole: it can be gone on with")


def _has_checkpoints(folder: Path) -> bool:
    return folder.is_dir() and any(is_checkpoint_name(path.name) for path in folder.iterdir())


def is_checkpoint_name(name: str) -> bool:
    """Says whether a folder below `.resume/<pipeline>/<node>` is that of a training: the key of what it learns from."""
    return len(name) == 16 and set(name) <= set("0123456789abcdef")


def _record_of(known: Metadata, runs: list[list[int]], artifact_id: int, wanted: Callable[[str], bool]) -> set[int]:
    """Returns what the run that made an artifact wrote, of the types that are wanted: not its baseline."""
    maker = min(known.makers_of(artifact_id))
    run = next((run for run in runs if maker in run), [])
    wrote = {one for one in run if not known.nodes.get(one, "").endswith("Resolver")}
    ids = {event.artifact_id for event in known.events if event.execution_id in wrote and is_output_event(event)}
    return {one for one in ids if wanted(known.artifacts[one].type)}


def _came_to_report(known: Metadata, run: list[int]) -> bool:
    done = (Execution.COMPLETE, Execution.CACHED)
    return any(known.nodes.get(one) == "ReportGen" and known.executions[one].last_known_state in done for one in run)
