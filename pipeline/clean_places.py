"""Which files and folders of an output folder go, and how: marked first, so that it is whole at each moment."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_metadata.proto.metadata_store_pb2 import Artifact

from components.pusher.executor import LOCK_FILE, PARTIAL_PREFIX, locked_for_push
from components.trainer.checkpoints import FEATURES_PREFIX, RESUME_DIR
from data.errors import UserError
from data.sources.archive import archives_cache, find_unused
from pipeline.clean_needs import Metadata, Needs, is_checkpoint_name, is_output_event
from pipeline.output_dir import OutputDir

_UNUSED_DAYS = 30
ARTIFACTS, WORK, ORPHANS, TRAININGS, TEMPORARY, UNPACKED = (
    "artifacts of other runs",
    "work folders of nodes that ended",
    "folders that no metadata names",
    "what trainings left that nothing goes on with",
    "temporary files",
    f"unpacked archives, in your cache, that no run has read for {_UNUSED_DAYS} days",
)
_SYSTEM_FOLDERS = ("executor_execution", "driver_execution", "stateful_working_dir")
# What `output_dir.write_whole` and `data.whole_files.write_text` rename, and what a run has in this folder.
_PARTIAL = re.compile(r"\.(config\.yaml|(report|model_card)[^/]*\.(html|md))\.\d+|summary\.json\.\d+\.tmp")


@dataclass(frozen=True)
class Place:
    """A file or folder that goes.

    Attributes:
        path: absolute.
        why: `ARTIFACTS`, `WORK`, `ORPHANS`, `TRAININGS`, `TEMPORARY` or `UNPACKED`.
        size_bytes: of all files in it.
    """

    path: Path
    why: str
    size_bytes: int


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        marked: ids of the artifacts that are deleted.
        places: what goes from the disk, in the order of its removal: first what needs no mark.
    """

    marked: tuple[int, ...]
    places: tuple[Place, ...]


def make_plan(known: Metadata, needs: Needs, output: OutputDir) -> Plan:
    """Looks through an output folder; what no run of this project makes is not in the plan, whatever it is."""
    live = {one.id for one in known.artifacts.values() if one.state == Artifact.LIVE}
    found = [
        *((path, TEMPORARY) for path in _find_temporary(output)),
        *((path, WORK) for path in _find_work(known, output)),
        *((path, TRAININGS) for path in _find_trainings(known, needs, output)),
        *_find_artifacts(known, needs, output),
        # Of all output folders: a run unpacks what it misses.
        *((path, UNPACKED) for path in find_unused(archives_cache(), _UNUSED_DAYS)),
    ]
    order = [TEMPORARY, UNPACKED, WORK, ORPHANS, TRAININGS, ARTIFACTS]
    places = sorted((Place(path, why, measure_size(path)) for path, why in found), key=lambda one: order.index(one.why))
    return Plan(tuple(sorted(live - needs.artifacts)), tuple(places))


def carry_out(plan: Plan, store: Any, known: Metadata, output: OutputDir) -> None:
    """Marks and removes; interrupted at any moment, it leaves a folder that works, and the next time does the rest.

    Raises:
        UserError: something cannot be removed; all else is.
    """
    failed: list[OSError] = []
    with_mark = [place for place in plan.places if place.why == ARTIFACTS]
    for place in plan.places:  # first, since a full disk may have no room for the marks
        if place.why != ARTIFACTS:
            _remove(place.path, output, failed)
    for artifact_id in plan.marked:
        known.artifacts[artifact_id].state = Artifact.DELETED
    if plan.marked:  # in one transaction
        store.put_artifacts([known.artifacts[artifact_id] for artifact_id in plan.marked])
    for place in with_mark:
        _remove(place.path, output, failed)
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise UserError(
            f"{failed[0].filename}: cannot be removed: {failed[0].strerror}{more}; change its rights, and run again"
        )


def _remove(path: Path, output: OutputDir, failed: list[OSError]) -> None:
    try:
        if path.name.startswith(PARTIAL_PREFIX):
            with locked_for_push(str(path.with_name(LOCK_FILE))):  # another output folder may push here
                shutil.rmtree(path, ignore_errors=True)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        failed.append(error)


def _find_temporary(output: OutputDir) -> Iterator[Path]:
    yield from (path for path in _list(output.root) if _PARTIAL.fullmatch(path.name) and path.is_file())
    for folder in _list(output.serving_model_dir):
        yield from (path for path in _list(folder) if re.fullmatch(rf"{re.escape(PARTIAL_PREFIX)}\d+", path.name))


def _find_work(known: Metadata, output: OutputDir) -> Iterator[Path]:
    """Yields what nodes leave in `.system`: the folder is locked, so that none of them is still at work."""
    for node in sorted(set(known.nodes.values())):
        for name in _SYSTEM_FOLDERS:
            yield from _list(output.pipeline_root / node / ".system" / name)


def _find_trainings(known: Metadata, needs: Needs, output: OutputDir) -> Iterator[Path]:
    """Yields checkpoints of what ended or can no longer be gone on with, and all features but the newest."""
    for name in sorted(known.pipelines):
        for folder in _list(output.pipeline_root / RESUME_DIR / name):
            if f"{name}/{folder.name}" not in needs.resumable:
                yield from (path for path in _list(folder) if is_checkpoint_name(path.name))
            features = [path for path in _list(folder) if path.name.startswith(FEATURES_PREFIX)]
            yield from sorted(features, key=lambda path: path.stat().st_mtime)[:-1]


def _find_artifacts(known: Metadata, needs: Needs, output: OutputDir) -> Iterator[tuple[Path, str]]:
    """Yields folders `<node>/<output>/<number>` of the graph's nodes, as TFX names them, that nothing needs."""
    named, kept, keys = set(), set(), set()
    for artifact in known.artifacts.values():
        place = Path(output.rebase(artifact.uri))
        for path in (place, place.parent):  # of several under one name, each has a folder of its own in it
            named.add(path)
            if artifact.id in needs.artifacts:
                kept.add(path)
    for event in known.events:
        if is_output_event(event) and event.path.steps:
            keys.add((known.nodes.get(event.execution_id), event.path.steps[0].key))
    for node in sorted(set(known.nodes.values())):
        for folder in _list(output.pipeline_root / node):
            for path in _list(folder):
                if not path.name.isdecimal() or path in kept:
                    continue
                if path in named:
                    yield path, ARTIFACTS
                elif (node, folder.name) in keys or known.nodes.get(int(path.name)) == node:
                    yield path, ORPHANS


def _list(folder: Path) -> list[Path]:
    """Returns what is in a folder, sorted; links are not followed, and are nobody's but the user's."""
    return sorted(path for path in folder.iterdir() if not path.is_symlink()) if folder.is_dir() else []


def measure_size(path: Path) -> int:
    """Returns the bytes of a file, or of all files below a folder."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(os.lstat(os.path.join(place, name)).st_size for place, _, names in os.walk(path) for name in names)
